"""Random input: the simulator's tenants as records of the contract, and Hypothesis's strategies."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from engine import events as ev
from engine.model import ServicePlan
from engine.simulation.broker import Broker
from engine.simulation.tenants import Input, Tenants
from tests.checkers import Record

Json = dict[str, Any]


def inputs(seed: int, events: int) -> list[Input]:
    """The input of one small tenant, or two."""
    return Tenants(Random(seed), events).inputs


def records(broker: Broker) -> list[Record]:
    """Everything that was published, input and output, in the order of its becoming visible."""
    offsets: dict[tuple[str, int], int] = {}
    found = []
    for topic, p, key, value in broker.journal:
        offset = offsets[topic, p] = offsets.get((topic, p), -1) + 1
        document = contract_json(value) if isinstance(value, tuple) else value
        found.append(Record(topic, p, offset, key, document))
    return found


# ---- events as the contract writes them (section 2)


def contract_json(event: Any) -> Json:
    kind, body = BODIES[type(event)](event)
    members = {"type": kind, "id": event.id, "time": "2026-11-24T08:00:00Z", **body}
    if hasattr(event, "tenant"):
        members["tenant"] = event.tenant
    return {name: value for name, value in members.items() if value is not ev.ABSENT}


def _licenses(target: str) -> Callable[[Any], tuple[str, Json]]:
    def body(event: ev.LicensesChanged) -> tuple[str, Json]:
        add = [{"skuId": sku, "disabledPlans": list(off)} for sku, off in event.add]
        return "licenses.changed", {
            target: event.target,
            "addLicenses": add,
            "removeLicenses": list(event.remove),
        }

    return body


def _user(event: ev.UserUpserted) -> tuple[str, Json]:
    addresses = event.proxy_addresses
    return "user.upserted", {
        "user": event.user,
        "userPrincipalName": event.user_principal_name,
        "usageLocation": event.usage_location,
        "mail": event.mail,
        "proxyAddresses": list(addresses) if isinstance(addresses, tuple) else addresses,
    }


def _membership(kind: str) -> Callable[[Any], tuple[str, Json]]:
    return lambda event: (kind, {"user": event.user, "group": event.group})


def _bare(kind: str, member: str) -> Callable[[Any], tuple[str, Json]]:
    return lambda event: (kind, {member: getattr(event, member)})


def _product(event: ev.ProductDefined) -> tuple[str, Json]:
    return "product.defined", {
        "skuId": event.sku,
        "skuPartNumber": event.part_number,
        "displayName": event.display_name,
        "servicePlans": [_plan(plan) for plan in event.plans],
    }


def _plan(plan: ServicePlan) -> Json:
    return {
        "servicePlanId": plan.id,
        "servicePlanName": plan.name,
        "appliesTo": plan.applies_to,
        "exclusiveSets": list(plan.exclusive_sets),
        "requires": [list(any_of) for any_of in plan.requires],
        "prohibitedLocations": list(plan.prohibited_locations),
        "mailEnabled": plan.mail_enabled,
    }


def _subscription(event: ev.SubscriptionUpdated) -> tuple[str, Json]:
    units = {
        "enabled": event.enabled,
        "warning": event.warning,
        "suspended": event.suspended,
        "lockedOut": event.locked_out,
    }
    return "subscription.updated", {"skuId": event.sku, "prepaidUnits": units}


def _tenant(event: ev.TenantUpdated) -> tuple[str, Json]:
    return "tenant.updated", {
        "usageLocation": event.usage_location,
        "policies": {"seatRetry": event.seat_retry, "onGroupDeletion": event.on_group_deletion},
    }


BODIES: dict[type, Callable[[Any], tuple[str, Json]]] = {
    ev.UserUpserted: _user,
    ev.UserDeleted: _bare("user.deleted", "user"),
    ev.MembershipAdded: _membership("membership.added"),
    ev.MembershipRemoved: _membership("membership.removed"),
    ev.UserLicensesChanged: _licenses("user"),
    ev.UserReprocess: _bare("user.reprocess", "user"),
    ev.GroupUpserted: lambda e: (
        "group.upserted",
        {"group": e.group, "displayName": e.display_name},
    ),
    ev.GroupDeleted: _bare("group.deleted", "group"),
    ev.GroupLicensesChanged: _licenses("group"),
    ev.GroupReprocess: _bare("group.reprocess", "group"),
    ev.ProductDefined: _product,
    ev.SubscriptionUpdated: _subscription,
    ev.TenantUpdated: _tenant,
}
