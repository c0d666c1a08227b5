"""The list for finance: a row for each user and product, with names.

It is read page by page, so a million users take no more memory than two thousand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streams.console.read_model.attributes import COST_CENTRE, DEPARTMENT, attribute
from streams.console.read_model.pagination import GraphObject, every
from streams.console.read_model.queries import USERS

COLUMNS = (
    "user",
    "displayName",
    "userPrincipalName",
    "usageLocation",
    "costCentre",
    "department",
    "product",
    "skuPartNumber",
    "skuId",
    "state",
    "usesSeat",
    "through",
    "groups",
    "error",
    "since",
)
DIRECTLY = "directly"
MOST_NAMES = 100_000
"""Names of groups that are remembered; more are read again."""
_BEST_FIRST = ("Active", "Disabled", "ActiveWithError", "Error")


class _Names:
    """Names of products and groups, each read once."""

    def __init__(self, reading: Callable[[], sqlite3.Connection], tenant: str) -> None:
        self._reading, self._tenant = reading, tenant
        self._products: dict[str, tuple[str, str]] = {}
        self._groups: dict[str, str] = {}

    def product(self, sku: str) -> tuple[str, str]:
        """Returns display name and part number."""
        if sku not in self._products:
            sql = "SELECT coalesce(name, part), part FROM catalog WHERE sku = ?"
            row = self._reading().execute(sql, (sku,)).fetchone()
            self._products[sku] = (row[0], row[1]) if row else (sku, sku)
        return self._products[sku]

    def group(self, id: str) -> str:
        """Returns a group's name, or its id."""
        if id not in self._groups:
            if len(self._groups) >= MOST_NAMES:
                self._groups.clear()
            sql = "SELECT name FROM groups WHERE tenant = ? AND grp = ?"
            row = self._reading().execute(sql, (self._tenant, id)).fetchone()
            self._groups[id] = (row and row[0]) or id
        return self._groups[id]


def report(
    reading: Callable[[], sqlite3.Connection], tenant: str, given: Mapping[str, str]
) -> Iterator[GraphObject]:
    """Yields the rows, by user and product. ``given``: filters of the list of users.

    Of users who are found by a product, only the rows of that product are in it.
    """
    names = _Names(reading, tenant)
    sql = "SELECT body FROM attributes WHERE tenant = ? AND user = ?"
    for user in every(reading, USERS, (tenant,), given):
        found = reading().execute(sql, (tenant, user["id"])).fetchone()
        user["attributes"] = found and found[0]
        for sku, states in _by_product(user, given.get("skuId")).items():
            yield _row(names, user, sku, states)


def _by_product(user: GraphObject, only: str | None) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for state in user["licenseAssignmentStates"]:
        if only in (None, state["skuId"]):
            found.setdefault(state["skuId"], []).append(state)
    return dict(sorted(found.items()))


def _row(names: _Names, user: GraphObject, sku: str, states: list[dict[str, Any]]) -> GraphObject:
    best = min(states, key=lambda state: _BEST_FIRST.index(state["state"]))
    groups = sorted({s["assignedByGroup"] for s in states if s["assignedByGroup"]})
    through = [names.group(id) for id in groups]
    if any(s["assignedByGroup"] is None for s in states):
        through.insert(0, DIRECTLY)
    product, part = names.product(sku)
    return {
        "user": user["id"],
        "displayName": user["displayName"],
        "userPrincipalName": user["userPrincipalName"],
        "usageLocation": user["effectiveUsageLocation"],
        "costCentre": attribute(user["attributes"], COST_CENTRE),
        "department": attribute(user["attributes"], DEPARTMENT),
        "product": product,
        "skuPartNumber": part,
        "skuId": sku,
        "state": best["state"],
        "usesSeat": best["state"] != "Error",
        "through": "; ".join(through),
        "groups": "; ".join(groups),
        "error": ", ".join(sorted({s["error"] for s in states} - {"None"})),
        "since": min(s["since"] for s in states),
    }
