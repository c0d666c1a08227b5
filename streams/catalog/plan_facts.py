"""The project's curated table of service plans, joined with whatever list of products.

Microsoft publishes which plans a product has, but not how plans get along with each other.
``plan_facts.json`` holds that; everything that makes ``product.defined`` events takes it from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import orjson

Event = dict[str, Any]

# The time of the facts, not of the feeding: the same catalogue gives the same bytes every day.
FACTS_TIME = "2025-12-30T00:00:00Z"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """Plan id -> what is known of it; a plan that is in none of them is an ordinary one."""

    exclusive_sets: Mapping[str, tuple[str, ...]]
    requires: Mapping[str, tuple[tuple[str, ...], ...]]
    prohibited_locations: Mapping[str, tuple[str, ...]]
    mail_plans: frozenset[str]


def package_data(name: str) -> bytes:
    return resources.files("streams.catalog").joinpath(name).read_bytes()


@cache
def plan_facts() -> PlanFacts:
    table = orjson.loads(package_data("plan_facts.json"))
    sets: dict[str, tuple[str, ...]] = {}
    for name, plans in table["exclusiveSets"].items():
        for plan in plans:
            sets[plan] = (*sets.get(plan, ()), name)
    return PlanFacts(
        exclusive_sets=sets,
        requires={
            plan: tuple(tuple(each["anyOf"]) for each in entry["allOf"])
            for plan, entry in table["requires"].items()
        },
        prohibited_locations={
            plan: tuple(entry["locations"]) for plan, entry in table["prohibitedLocations"].items()
        },
        mail_plans=frozenset(table["mailPlans"]),
    )


def service_plan(plan_id: str, name: str) -> Event:
    """A member of ``servicePlans``, contract section 2; members with their default are left out."""
    facts = plan_facts()
    plan: Event = {"servicePlanId": plan_id, "servicePlanName": name}
    if sets := facts.exclusive_sets.get(plan_id):
        plan["exclusiveSets"] = list(sets)
    if requires := facts.requires.get(plan_id):
        plan["requires"] = [list(any_of) for any_of in requires]
    if locations := facts.prohibited_locations.get(plan_id):
        plan["prohibitedLocations"] = list(locations)
    if plan_id in facts.mail_plans:
        plan["mailEnabled"] = True
    return plan


def product_defined(
    sku: str,
    part_number: str,
    display_name: str,
    plans: Iterable[tuple[str, str]],
    company: Collection[str] = (),
) -> Event:
    """The event that defines a product with ``plans`` (id, name); ``company``: those never on a
    user.

    Its id is a hash of what it says, so that feeding a catalogue again is a repetition (R24).
    """
    body: Event = {
        "skuId": sku,
        "skuPartNumber": part_number,
        "displayName": display_name,
        "servicePlans": [
            service_plan(plan_id, name) | ({"appliesTo": "Company"} if plan_id in company else {})
            for plan_id, name in plans
        ],
    }
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return {
        "type": "product.defined",
        "id": f"catalog:{digest[:32]}",
        "time": FACTS_TIME,
        **body,
    }
