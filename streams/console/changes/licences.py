"""Forms for the licences of a group or a user, and for the exchange of a group's product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from streams.console.changes.proposal import (
    ChangeError,
    Given,
    Proposal,
    find_group,
    find_user,
    name_of,
    proposal,
)
from streams.console.commands import definitions
from streams.console.read_model import queries
from streams.console.read_model.graph_mapping import sku_to_graph
from streams.console.read_model.queries import Connection

MOST_PRODUCTS = 300
"""Of a form: the products of the tenant by name."""
Licences = dict[str, frozenset[str]]
"""skuId -> disabled plans."""


def _choices(
    db: Connection, tenant: str, present: Licences, through: Mapping[str, list[str]] | None = None
) -> list[dict[str, Any]]:
    """Returns the products to choose from: those of the tenant, and those that are there.

    ``through``: skuId -> names of the groups that give it to the user.
    """
    sql = f"SELECT {queries.SKUS.query} ORDER BY lower(coalesce(c.name, c.part, k.sku)) LIMIT ?"
    rows = [sku_to_graph(row) for row in db.execute(sql, (tenant, MOST_PRODUCTS))]
    known = {row["skuId"] for row in rows}
    rows += [_unsold(db, sku) for sku in sorted(present.keys() - known)]
    return [
        {
            "skuId": row["skuId"],
            "name": row["displayName"] or row["skuPartNumber"],
            "available": row["availableUnits"],
            "assigned": row["skuId"] in present,
            "off": present.get(row["skuId"], frozenset()),
            "plans": [plan for plan in row["servicePlans"] if plan["appliesTo"] == "User"],
            "through": (through or {}).get(row["skuId"], []),
        }
        for row in rows
    ]


def _unsold(db: Connection, sku: str) -> dict[str, Any]:
    """Returns a product that the tenant has no subscription of, as the others are."""
    row = db.execute("SELECT part, name, body FROM catalog WHERE sku = ?", (sku,)).fetchone()
    plans = orjson.loads(row["body"])["servicePlans"] if row else []
    return {
        "skuId": sku,
        "displayName": row["name"] if row else None,
        "skuPartNumber": row["part"] if row else sku,
        "availableUnits": 0,
        "servicePlans": [
            {
                "servicePlanId": plan["servicePlanId"],
                "servicePlanName": plan.get("servicePlanName", plan["servicePlanId"]),
                "appliesTo": plan.get("appliesTo", "User"),
            }
            for plan in plans
        ],
    }


def product_name(db: Connection, sku: str) -> str:
    """Returns the one name that pages have for a product."""
    return queries.names_of_skus(db, {sku}).get(sku, (sku, sku))[1]


def _listed(assigned: Iterable[Mapping[str, Any]]) -> Licences:
    return {each["skuId"]: frozenset(each["disabledPlans"]) for each in assigned}


def _plans_of(db: Connection, sku: str) -> frozenset[str]:
    return frozenset(plan["servicePlanId"] for plan in _unsold(db, sku)["servicePlans"])


def _difference(
    db: Connection, present: Licences, given: Given
) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Returns what to add, what to remove, and both in words.

    Removed is what the form showed as assigned (``had``): a licence that came meanwhile stays. A
    plan that the product no longer has is not sent: the change would be rejected for it.
    """
    add, lines = [], []
    wanted = given.all("sku")
    for sku in wanted:
        off = frozenset(given.all(f"off:{sku}")) & _plans_of(db, sku)
        before = present.get(sku)
        if before is not None and before & _plans_of(db, sku) == off:
            continue
        add.append({"skuId": sku, "disabledPlans": sorted(off)})
        verb = "Assign" if before is None else "Change the plans of"
        without = f", without {_count(len(off), 'plan')}" if off else ", with every plan"
        lines.append(f"{verb} {product_name(db, sku)}{without}.")
    remove = sorted((present.keys() & set(given.all("had"))) - set(wanted))
    lines += [f"Remove {product_name(db, sku)}." for sku in remove]
    return add, remove, lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# --- a group -------------------------------------------------------------------------------------


def group_facts(db: Connection, tenant: str, given: Given) -> dict[str, Any]:
    """Returns the group and the products to choose from."""
    group = find_group(db, tenant, given.one("group"))
    present = _listed(group["assignedLicenses"])
    return {"group": group, "products": _choices(db, tenant, present)}


def propose_group(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns one change of the group's licences. Raises: ChangeError."""
    group = find_group(db, tenant, given.one("group"))
    add, remove, lines = _difference(db, _listed(group["assignedLicenses"]), given)
    commands = [definitions.assign_group(group["id"], add, remove)] if add or remove else []
    lines = [f"{name_of(group)}: {line}" for line in lines]
    return proposal(commands, lines, f"/groups/{quote(group['id'])}")


# --- a user --------------------------------------------------------------------------------------


def _direct(user: Mapping[str, Any]) -> Licences:
    return {
        state["skuId"]: frozenset(state["disabledPlans"])
        for state in user["licenseAssignmentStates"]
        if state["assignedByGroup"] is None
    }


def user_facts(db: Connection, tenant: str, given: Given) -> dict[str, Any]:
    """Returns the user and the products to choose from, with the groups that give them."""
    user = find_user(db, tenant, given.one("user"))
    through: dict[str, list[str]] = {}
    groups = {s["assignedByGroup"] for s in user["licenseAssignmentStates"]} - {None}
    names = queries.group_names(db, tenant, groups)
    for state in user["licenseAssignmentStates"]:
        group = state["assignedByGroup"]
        if group is not None:
            through.setdefault(state["skuId"], []).append(names.get(group, group))
    return {"user": user, "products": _choices(db, tenant, _direct(user), through)}


def propose_user(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns one change of the user's direct licences. Raises: ChangeError."""
    user = find_user(db, tenant, given.one("user"))
    add, remove, lines = _difference(db, _direct(user), given)
    commands = [definitions.assign_user(user["id"], add, remove)] if add or remove else []
    lines = [f"{name_of(user)}, directly: {line}" for line in lines]
    return proposal(commands, lines, f"/users/{quote(user['id'])}")


# --- an exchange ---------------------------------------------------------------------------------


def propose_exchange(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the exchange of a group's product for another in one change: nobody has neither.

    Raises: ChangeError.
    """
    group = find_group(db, tenant, given.one("group"))
    old, new = given.one("from"), given.one("to")
    present = _listed(group["assignedLicenses"])
    if old not in present:
        raise ChangeError("Choose the product that the group is to give up.")
    if not new or new == old:
        raise ChangeError("Choose the product that the members are to get instead.")
    add = [] if new in present else [{"skuId": new, "disabledPlans": []}]
    lines = [
        f"{name_of(group)}: {product_name(db, old)} is exchanged for {product_name(db, new)}, with"
        f" every plan, in one change for all {_count(group['members'], 'member')}."
    ]
    notes = [] if add else [f"{name_of(group)} has {product_name(db, new)} already."]
    command = definitions.assign_group(group["id"], add, [old])
    return proposal([command], lines, f"/groups/{quote(group['id'])}", notes)
