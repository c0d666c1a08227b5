"""The curated table of service plans, which complements any list of products.

Microsoft publishes the plans of a product, but not the conflicts and dependencies of plans.
``plan_facts.json`` holds those, in dated editions with their sources; all code that builds
``product.defined`` events uses this module.
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

EDITIONS = ("2022", "2025")
DEFAULT_EDITION = "2025"

# The time of the facts, not of ingestion: the same catalog always gives the same bytes.
FACTS_TIME = "2025-12-30T00:00:00Z"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """Facts by plan id; a plan without an entry has no constraints."""

    exclusive_sets: Mapping[str, tuple[str, ...]]
    requires: Mapping[str, tuple[tuple[str, ...], ...]]
    prohibited_locations: Mapping[str, tuple[str, ...]]
    mail_plans: frozenset[str]


def package_data(name: str) -> bytes:
    """Returns a data file of this package."""
    return resources.files("streams.catalog").joinpath(name).read_bytes()


@cache
def plan_facts(edition: str = DEFAULT_EDITION) -> PlanFacts:
    """Returns the facts of an edition of ``plan_facts.json``. Raises: KeyError."""
    table = orjson.loads(package_data("plan_facts.json"))
    own = table["editions"][edition]
    sets: dict[str, tuple[str, ...]] = {}
    for source in (table, own):
        for name, plans in source.get("exclusiveSets", {}).items():
            for plan in plans:
                sets[plan] = (*sets.get(plan, ()), name)
    return PlanFacts(
        exclusive_sets=sets,
        requires={
            plan: tuple(tuple(each["anyOf"]) for each in entry["allOf"])
            for plan, entry in table["requires"].items()
        },
        prohibited_locations={
            plan: tuple(entry["locations"])
            for plan, entry in own.get("prohibitedLocations", {}).items()
        },
        mail_plans=frozenset(table["mailPlans"]) | frozenset(own.get("mailPlans", ())),
    )


def service_plan(plan_id: str, name: str, edition: str = DEFAULT_EDITION) -> Event:
    """Returns an item of ``servicePlans`` (contract section 2), without members at default."""
    facts = plan_facts(edition)
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
    edition: str = DEFAULT_EDITION,
) -> Event:
    """Returns the event that defines a product.

    ``plans``: (id, name) of its service plans. ``company``: the ids of those that apply to the
    company and are never assigned to a user. ``edition``: of the facts about plans.
    The event's id is a hash of its content, so feeding a catalog again changes nothing (R24).
    """
    body: Event = {
        "skuId": sku,
        "skuPartNumber": part_number,
        "displayName": display_name,
        "servicePlans": [
            service_plan(plan_id, name, edition)
            | ({"appliesTo": "Company"} if plan_id in company else {})
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
