"""Objects as Graph shows them: the members of Graph's resource types that Seatflow knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import orjson

from streams.console.graph.properties import (
    DELETED_USERS,
    DYNAMIC_MEMBERSHIP,
    GROUPS,
    SKUS,
    USERS,
    Kind,
)
from streams.console.read_model import tenants
from streams.console.read_model.graph_mapping import group_to_graph, sku_to_graph, user_to_graph
from streams.console.read_model.pagination import GraphObject

STATE = ("skuId", "assignedByGroup", "disabledPlans", "state", "error", "lastUpdatedDateTime")


def _user(row: sqlite3.Row) -> GraphObject:
    found = user_to_graph(row)
    states = [{name: each[name] for name in STATE} for each in found["licenseAssignmentStates"]]
    return {**_chosen(USERS, found), "licenseAssignmentStates": states}


def _group(row: sqlite3.Row) -> GraphObject:
    # Seatflow's groups are what Graph calls security groups.
    shown = group_to_graph(row)
    types = [] if shown["membershipRule"] is None else [DYNAMIC_MEMBERSHIP]
    fixed = {"securityEnabled": True, "mailEnabled": False, "groupTypes": types}
    return _chosen(GROUPS, {**shown, **fixed})


def _sku(row: sqlite3.Row) -> GraphObject:
    return _chosen(SKUS, sku_to_graph(row))


def _chosen(kind: Kind, found: Mapping[str, Any]) -> GraphObject:
    return {name: found[name] for name in kind.selected}


def _deleted_user(row: sqlite3.Row) -> GraphObject:
    return {
        "id": row["user"],
        "displayName": row["name"],
        "userPrincipalName": row["upn"],
        "mail": row["mail"],
        "mailNickname": row["nickname"],
        "usageLocation": row["location"],
    }


_VIEWS = {
    USERS.name: _user,
    GROUPS.name: _group,
    SKUS.name: _sku,
    DELETED_USERS.name: _deleted_user,
}


def view(kind: Kind, row: sqlite3.Row) -> GraphObject:
    """Returns a row as Graph shows it, with all properties."""
    return _VIEWS[kind.name](row)


def selected(shown: GraphObject, select: tuple[str, ...] | None) -> GraphObject:
    """Returns the selected properties of an object; all of them if none is selected."""
    return shown if select is None else {name: shown[name] for name in select}


def product(db: sqlite3.Connection, sku: str) -> dict[str, Any] | None:
    """Returns the definition of a product; None if it is not defined."""
    row = db.execute("SELECT body FROM catalog WHERE sku = ?", (sku,)).fetchone()
    return dict(orjson.loads(row[0])) if row else None


def license_details(db: sqlite3.Connection, user: GraphObject) -> list[GraphObject]:
    """Returns the details of the licences that a user has: their products and plans.

    Whether a service has provisioned an enabled plan, that service knows: it is null.
    """
    found = []
    for licence in user["assignedLicenses"]:
        sku, off = licence["skuId"], set(licence["disabledPlans"])
        defined = product(db, sku) or {}
        plans = [
            {
                "servicePlanId": plan["servicePlanId"],
                "servicePlanName": plan.get("servicePlanName") or plan["servicePlanId"],
                "provisioningStatus": "Disabled" if plan["servicePlanId"] in off else None,
                "appliesTo": plan.get("appliesTo", "User"),
            }
            for plan in defined.get("servicePlans", ())
        ]
        found.append(
            {
                "id": f"{user['id']}_{sku}",
                "skuId": sku,
                "skuPartNumber": defined.get("skuPartNumber") or sku,
                "servicePlans": plans,
            }
        )
    return found


def organization(db: sqlite3.Connection, tenant: str) -> GraphObject:
    """Returns a tenant as Graph's organization."""
    found = tenants.tenant(db, tenant)
    domain = found["initialDomain"]
    domains = [{"name": domain, "isInitial": True, "isDefault": True}] if domain else []
    return {
        "id": tenant,
        "displayName": found["displayName"],
        "countryLetterCode": found["usageLocation"],
        "verifiedDomains": domains,
    }
