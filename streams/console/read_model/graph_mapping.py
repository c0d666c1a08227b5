"""Mapping of rows to the shapes of Microsoft Graph."""

from __future__ import annotations

from typing import Any

import orjson

from engine.domain.vocabulary import CAPABILITY_STATUSES, UNIT_KINDS
from streams.console.read_model.pagination import GraphObject, Row

NO_SHAPE: tuple[None, list[Any], list[Any]] = (None, [], [])


def user_to_graph(row: Row) -> GraphObject:
    """Returns a user. Published values take precedence over those of the directory."""
    _, assigned, states = orjson.loads(row["body"]) if row["body"] else NO_SHAPE
    location, mail = row["location"], row["mail"]
    addresses = orjson.loads(row["addresses"] or "[]")
    updated = cause = effective = None
    nickname = row["nickname"]
    sinces: list[Any] = []
    if row["published"]:
        location, mail, addresses, sinces, updated, cause, effective, nickname = orjson.loads(
            row["published"]
        )
    shown = [
        {**state, "since": since, "lastUpdatedDateTime": since}
        for state, since in zip(states, sinces, strict=True)
    ]
    errors = sorted({s["error"] for s in states if s["error"] != "None"})
    return {
        "id": row["user"],
        "displayName": row["name"],
        "userPrincipalName": row["upn"],
        "usageLocation": location,
        "effectiveUsageLocation": effective or location,
        "mail": mail,
        "mailNickname": nickname,
        "proxyAddresses": addresses,
        "assignedLicenses": assigned,
        "licenseAssignmentStates": shown,
        "licenseErrors": errors,
        "revision": row["revision"] if row["published"] else 0,
        "updatedAt": updated,
        "causedBy": cause,
    }


def group_to_graph(row: Row) -> GraphObject:
    """Returns a group, with its progress and its error counts."""
    body = orjson.loads(row["body"])
    return {
        "id": body["group"],
        "displayName": body["displayName"],
        "membershipRule": body.get("membershipRule"),
        "membershipRuleProcessingState": body.get("membershipRuleProcessingState"),
        "assignedLicenses": body["assignedLicenses"],
        "licenseProcessingState": {"state": body["licenseProcessingState"]},
        "hasMembersWithLicenseErrors": body["membersWithErrors"] > 0,
        "members": body["members"],
        "membersLicensed": body["membersLicensed"],
        "membersWithErrors": body["membersWithErrors"],
        "errors": body["errors"],
        "deferred": body["deferred"],
        "deleted": body["deleted"],
        "updatedAt": body["updatedAt"],
    }


def error_to_graph(row: Row) -> GraphObject:
    """Returns an open error."""
    body = orjson.loads(row["body"])
    group = body["group"]
    return {
        "user": body["user"],
        "userDisplayName": row["user_name"],
        "group": None if group == "direct" else group,
        "groupDisplayName": row["group_name"],
        "skuId": body["skuId"],
        "skuPartNumber": row["part"],
        "state": body["state"],
        "error": body["error"],
        "message": body["message"],
        "details": body["details"],
        "since": body["since"],
        "causedBy": body["causedBy"],
    }


def sku_to_graph(row: Row) -> GraphObject:
    """Returns a subscribed SKU, with its seats and plans."""
    seats = orjson.loads(row["seats"]) if row["seats"] else None
    product = orjson.loads(row["product"]) if row["product"] else None
    units = seats["prepaidUnits"] if seats else orjson.loads(row["units"])
    enabled = units["enabled"] + units["warning"]
    plans = product["servicePlans"] if product else []
    return {
        "id": f"{row['tenant']}_{row['sku']}",
        "skuId": row["sku"],
        "skuPartNumber": (seats or {}).get("skuPartNumber") or row["part"] or row["sku"],
        "displayName": row["name"],
        "appliesTo": "User",
        "capabilityStatus": (seats or {}).get("capabilityStatus") or _capability(units),
        "prepaidUnits": units,
        "consumedUnits": row["consumed"] or 0,
        "availableUnits": enabled if row["available"] is None else row["available"],
        "waitingUsers": row["waiting"] or 0,
        "servicePlans": [
            {
                "servicePlanId": plan["servicePlanId"],
                "servicePlanName": plan.get("servicePlanName", plan["servicePlanId"]),
                "appliesTo": plan.get("appliesTo", "User"),
                "provisioningStatus": None,  # known to the service alone
            }
            for plan in plans
        ],
        "updatedAt": (seats or {}).get("updatedAt"),
    }


def _capability(units: dict[str, int]) -> str:
    """Returns the status of a subscription whose seats no release has published with one yet."""
    for kind, status in zip(UNIT_KINDS, CAPABILITY_STATUSES, strict=False):
        if units[kind]:
            return status
    return CAPABILITY_STATUSES[0]


def audit_to_graph(row: Row) -> GraphObject:
    """Returns an audit record, with its id in this read model."""
    body = orjson.loads(row["body"])
    return {"id": str(row["id"]), **body}
