"""Objects of Microsoft Graph as events, by kind of object.

An object is read as a whole or refused as a whole (``UnreadableError``): a list that was cut off is
never taken for an empty one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from streams.catalog import product_defined
from streams.ingest.event_builder import (
    EventBuilder,
    EventOrReason,
    checked_item,
    normalized_id,
)
from streams.ingest.graph_attributes import attributes
from streams.ingest.graph_pages import (
    Object,
    UnreadableError,
    list_of_objects,
    list_of_texts,
    wrong_type,
)

_USER_MEMBERS = (
    "userPrincipalName",
    "displayName",
    "usageLocation",
    "mail",
    "mailNickname",
)
HELD = ("Active", "ActiveWithError", "Disabled")
"""The states of a licence that the user has; the others report one that was not assigned."""


def removal(entity: Object) -> str | None:
    """Returns why an object is gone, "changed" (it can be restored) or "deleted", or None.

    Raises: UnreadableError.
    """
    if "@removed" in entity:
        removed = entity["@removed"]
        if not isinstance(removed, dict):
            raise UnreadableError(wrong_type("@removed", removed, "an object with a reason"))
        reason = removed.get("reason")
        if reason not in ("changed", "deleted"):
            raise UnreadableError(f"@removed.reason is {reason!r}, neither changed nor deleted")
        return str(reason)
    return "changed" if entity.get("deletedDateTime") else None


def user_members(entity: Object) -> dict[str, Any]:
    """Returns what events say of a user's person: names, addresses, location and attributes.

    Raises: UnreadableError.
    """
    members = {name: entity[name] for name in _USER_MEMBERS if name in entity}
    if "proxyAddresses" in entity:
        members["proxyAddresses"] = list_of_texts(entity, "proxyAddresses")
    if found := attributes(entity):
        members["attributes"] = found
    return members


def assignment_states(entity: Object) -> list[dict[str, Any]] | None:
    """Returns ``licenseAssignmentStates`` as a snapshot has them; None if they are absent.

    Raises: UnreadableError.
    """
    listed = list_of_objects(entity, "licenseAssignmentStates")
    if listed is None:
        return None
    states = []
    for each in listed:
        state = license_of(each)
        state["assignedByGroup"] = normalized_id(each.get("assignedByGroup") or None)
        state["state"], state["error"] = each.get("state", "Active"), each.get("error") or "None"
        if since := each.get("lastUpdatedDateTime"):
            state["since"] = since
        states.append(state)
    return states


def license_of(assigned: Object) -> dict[str, Any]:
    """Returns an item of ``assignedLicenses`` as events have it. Raises: UnreadableError."""
    sku = assigned.get("skuId")
    if not isinstance(sku, str) or not sku:
        raise UnreadableError("a licence has no skuId")
    plans = [normalized_id(plan) for plan in list_of_texts(assigned, "disabledPlans")]
    return {"skuId": normalized_id(sku), "disabledPlans": plans}


def licenses_of(entity: Object) -> list[dict[str, Any]] | None:
    """Returns ``assignedLicenses``; None if they are absent. Raises: UnreadableError."""
    listed = list_of_objects(entity, "assignedLicenses")
    return None if listed is None else [license_of(each) for each in listed]


def set_licenses(
    builder: EventBuilder, kind: str, subject: Any, licenses: list[dict[str, Any]]
) -> EventOrReason:
    """Returns the event that gives the licences of a user or a group as a whole (R28)."""
    build = builder.user if kind == "user" else builder.group
    return build("licenses.set", subject, licenses=licenses)


def user_deleted(builder: EventBuilder, id: Any, reason: str) -> EventOrReason:
    """Returns the deletion: "changed" is the recycle bin, where facts are kept (R22)."""
    members = {"restorable": True} if reason == "changed" else {}
    return builder.user("user.deleted", id, **members)


def snapshot_facts(groups: dict[str, str | None], states: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns a snapshot's memberships and the licences that the user has."""
    return {
        "memberships": [
            {"group": group, "since": since} if since else {"group": group}
            for group, since in groups.items()
        ],
        "licenseAssignmentStates": [
            {name: value for name, value in each.items() if name != "error"}
            for each in states
            if each["state"] in HELD
        ],
    }


def group_members(entity: Object, skipped: Counter[str]) -> list[tuple[str, bool]]:
    """Returns the users that a group lists: (id, whether it is a member). Raises: UnreadableError.

    Members of other kinds are counted in ``skipped``: only users that are direct members count
    (R22).
    """
    return [
        (user, removal(member) is None)
        for name in ("members@delta", "members")
        for member in list_of_objects(entity, name) or ()
        if (user := member_id(member, skipped)) is not None
    ]


def member_id(member: Object, skipped: Counter[str]) -> str | None:
    """Returns the id of a member that is a user; None for one of another kind.

    Raises: UnreadableError.
    """
    kind = str(member.get("@odata.type", "#microsoft.graph.user")).lower()
    if kind != "#microsoft.graph.user":
        skipped[f"{kind.removeprefix('#microsoft.graph.')} as a member"] += 1
        return None
    id = member.get("id")
    if not isinstance(id, str) or not id:
        raise UnreadableError("a member has no id")
    return str(normalized_id(id))


def subscription(
    entity: Object, builder: EventBuilder, define_products: bool, facts: str
) -> list[EventOrReason]:
    """Returns the events of a subscribed SKU: its product, and its units.

    ``facts``: the edition of the facts about plans.
    Raises: UnreadableError.
    """
    sku, units = normalized_id(entity.get("skuId")), entity.get("prepaidUnits")
    if units is not None and not isinstance(units, dict):
        raise UnreadableError(wrong_type("prepaidUnits", units, "an object"))
    found = []
    # Without its plans the product is not defined: it would take them from every user.
    if define_products and isinstance(sku, str) and "servicePlans" in entity:
        found.append(_product(sku, entity, facts))
    ended = entity.get("capabilityStatus") == "Deleted"
    found.append(builder.subscription_deleted(sku) if ended else builder.subscription(sku, units))
    return found


def _product(sku: str, entity: Object, facts: str) -> EventOrReason:
    """Returns the subscription's product; unlike the published table it marks company plans."""
    plans, company = {}, set()
    for plan in list_of_objects(entity, "servicePlans") or ():
        id = normalized_id(plan.get("servicePlanId"))
        if not isinstance(id, str):
            raise UnreadableError("a service plan has no servicePlanId")
        plans[id] = str(plan.get("servicePlanName") or id)
        if plan.get("appliesTo") == "Company":
            company.add(id)
    part = str(entity.get("skuPartNumber") or sku)
    event = product_defined(sku, part, part, plans.items(), company, facts)
    return checked_item("catalog", sku, event)


def tenant_members(entity: Object) -> dict[str, Any]:
    """Returns what an organization says of its tenant. Raises: UnreadableError.

    The country is the location of users without one of their own, as in Entra.
    """
    members: dict[str, Any] = {}
    if isinstance(name := entity.get("displayName"), str):
        members["displayName"] = name
    if isinstance(country := entity.get("countryLetterCode"), str):
        members["usageLocation"] = country
    for domain in list_of_objects(entity, "verifiedDomains") or ():
        if domain.get("isInitial") is True and isinstance(domain.get("name"), str):
            members["initialDomain"] = domain["name"]
    return members
