"""Readers of the members of a readable event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.spec.changes import Licenses
from tests.spec.licensing import Plan, Product

Json = Mapping[str, Any]


def read_product(event: Json) -> Product:
    return {p["servicePlanId"]: read_plan(p) for p in event["servicePlans"]}


def read_plan(plan: Json) -> Plan:
    return Plan(
        for_users=plan.get("appliesTo", "User") == "User",
        exclusive_sets=frozenset(plan.get("exclusiveSets", ())),
        requires=tuple(frozenset(any_of) for any_of in plan.get("requires", ())),
        prohibited=frozenset(plan.get("prohibitedLocations", ())),
        mail=plan.get("mailEnabled", False),
    )


def added_licenses(event: Json) -> Licenses:
    added = event.get("addLicenses", [])
    return {a["skuId"]: frozenset(a.get("disabledPlans", ())) for a in added}


def removed_licenses(event: Json) -> frozenset[str]:
    return frozenset(event.get("removeLicenses", ()))


def named_products(event: Json) -> set[str]:
    return set(added_licenses(event)) | removed_licenses(event)
