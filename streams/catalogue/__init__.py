"""What the project knows about Microsoft's products and service plans."""

from streams.catalogue.small import SHORT_NAMES, product, small_catalogue
from streams.catalogue.table import PlanFacts, plan_facts, product_defined, service_plan

__all__ = [
    "SHORT_NAMES",
    "PlanFacts",
    "plan_facts",
    "product",
    "product_defined",
    "service_plan",
    "small_catalogue",
]
