"""What the project knows about Microsoft's products and service plans."""

from streams.catalog.plan_facts import PlanFacts, plan_facts, product_defined, service_plan
from streams.catalog.sample import SHORT_NAMES, product, small_catalogue

__all__ = [
    "SHORT_NAMES",
    "PlanFacts",
    "plan_facts",
    "product",
    "product_defined",
    "service_plan",
    "small_catalogue",
]
