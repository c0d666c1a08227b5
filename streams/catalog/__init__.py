"""Facts about Microsoft's products and service plans, and a sample catalog.

Pure data, imports nothing of ``streams``.
"""

from streams.catalog.plan_facts import (
    DEFAULT_EDITION,
    EDITIONS,
    PlanFacts,
    plan_facts,
    product_defined,
    service_plan,
)
from streams.catalog.sample import SHORT_NAMES, product, sample_catalog

__all__ = [
    "DEFAULT_EDITION",
    "EDITIONS",
    "SHORT_NAMES",
    "PlanFacts",
    "plan_facts",
    "product",
    "product_defined",
    "sample_catalog",
    "service_plan",
]
