"""Readers of the members of a readable event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tests.spec.adoption import Adopted
from tests.spec.changes import Licenses
from tests.spec.facts import Plan, Product

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


def listed_licenses(licenses: Iterable[Json]) -> Licenses:
    return {a["skuId"]: frozenset(a.get("disabledPlans", ())) for a in licenses}


def change_of_licenses(event: Json, present: Licenses) -> tuple[Licenses, frozenset[str]]:
    """Returns what the event adds, and the products that it removes.

    A whole list (R28) removes what it does not name, and adds what it names differently.
    """
    if event["type"] == "licenses.set":
        listed = listed_licenses(event["licenses"])
        new = {sku: off for sku, off in listed.items() if present.get(sku) != off}
        return new, frozenset(present) - frozenset(listed)
    added = listed_licenses(event.get("addLicenses", []))
    return added, frozenset(event.get("removeLicenses", ()))


def milliseconds(since: str | None) -> int | None:
    """Returns a time of a snapshot in milliseconds since 1970."""
    return None if since is None else round(datetime.fromisoformat(since).timestamp() * 1000)


def adopted_licenses(event: Json) -> dict[tuple[str, str | None], Adopted]:
    """Returns the licences that a snapshot says are held, by product and path (R25)."""
    return {
        (state["skuId"], state.get("assignedByGroup")): Adopted(
            state["skuId"],
            state.get("assignedByGroup"),
            frozenset(state.get("disabledPlans", ())),
            milliseconds(state.get("since")),
        )
        for state in event.get("licenseAssignmentStates", ())
        if state["state"] in ("Active", "ActiveWithError", "Disabled")
    }


def named_products(event: Json) -> set[str]:
    named = set(event.get("removeLicenses", ()))
    return named.union(*(listed_licenses(event.get(m, [])) for m in ("addLicenses", "licenses")))
