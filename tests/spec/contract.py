"""The readable input as one table: contract section 1 (topics) and contract section 2 (events)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime

Event = dict[str, object]
Check = Callable[[object], bool]
Headers = Mapping[str, str]

MOST_UNITS = 100_000_000
ONE_MIB = 1024 * 1024
IDENTIFIER = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
COUNTRY = re.compile(r"[A-Z]{2}")


class UnreadableError(ValueError):
    """The record is bad input; the text says why."""


# ---- checks of one member


def identifier(value: object) -> bool:
    return (
        isinstance(value, str)
        and IDENTIFIER.fullmatch(value) is not None
        and value not in (".", "..")
    )


def group_identifier(value: object) -> bool:
    """Returns True for an id of a group: ``direct`` stands for licences without one."""
    return identifier(value) and value != "direct"


def country(value: object) -> bool:
    return (
        isinstance(value, str)
        and COUNTRY.fullmatch(value) is not None
        and value not in ("UK", "EL")  # no codes of ISO 3166: GB and GR are
    )


def text(value: object) -> bool:
    return isinstance(value, str)


def flag(value: object) -> bool:
    return isinstance(value, bool)


def units(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_UNITS


def moment(value: object) -> bool:
    """Returns True for a time of RFC 3339."""
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,12})?(Z|[+-]\d\d:\d\d)"
    if not isinstance(value, str) or not re.fullmatch(form, value.upper(), re.ASCII):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


def object_of_any(value: object) -> bool:
    return isinstance(value, dict)


def one_of(*allowed: str) -> Check:
    return lambda value: value in allowed


def or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """Returns the check for an object with these members; unknown members are ignored."""

    def check(value: object) -> bool:
        return isinstance(value, dict) and not bad_members(value, required, optional)

    return check


def bad_members(
    value: Mapping[str, object], required: Mapping[str, Check], optional: Mapping[str, Check]
) -> list[str]:
    bad = [name for name, check in required.items() if not check(value.get(name))]
    return bad + [n for n, check in optional.items() if n in value and not check(value[n])]


# ---- the events: topic -> type -> (required members, optional members)

LICENSES: dict[str, Check] = {
    "addLicenses": list_of(record({"skuId": identifier}, {"disabledPlans": list_of(identifier)})),
    "removeLicenses": list_of(identifier),
}
WHOLE_LIST: dict[str, Check] = {
    "licenses": list_of(record({"skuId": identifier}, {"disabledPlans": list_of(identifier)}))
}
SERVICE_PLAN = record(
    {"servicePlanId": identifier},
    {
        "servicePlanName": text,
        "appliesTo": one_of("User", "Company"),
        "exclusiveSets": list_of(text),
        "requires": list_of(list_of(identifier)),
        "prohibitedLocations": list_of(country),
        "mailEnabled": flag,
    },
)
UNITS = record({}, {"enabled": units, "warning": units, "suspended": units, "lockedOut": units})
POLICIES = record(
    {},
    {
        "seatRetry": one_of("automatic", "manual"),
        "onGroupDeletion": one_of("convert", "error"),
    },
)
USER: dict[str, Check] = {"tenant": identifier, "user": identifier}
GROUP: dict[str, Check] = {"tenant": identifier, "group": group_identifier}
MEMBERSHIP: dict[str, Check] = {**USER, "group": group_identifier}
PROFILE: dict[str, Check] = {
    "userPrincipalName": or_null(text),
    "displayName": or_null(text),
    "usageLocation": or_null(country),
    "mail": or_null(text),
    "proxyAddresses": or_null(list_of(text)),
    "mailNickname": or_null(text),
    "attributes": or_null(object_of_any),
}
HELD = record(
    {"state": text, "skuId": identifier},
    {
        "assignedByGroup": or_null(group_identifier),
        "disabledPlans": list_of(identifier),
        "since": or_null(moment),
    },
)


def assignment_state(value: object) -> bool:
    """Returns True for a state of a snapshot; one without a licence in it is not looked at."""
    if not isinstance(value, dict) or not isinstance(value.get("state"), str) or not value["state"]:
        return False
    return value["state"] not in ("Active", "ActiveWithError", "Disabled") or HELD(value)


SNAPSHOT: dict[str, Check] = {
    **PROFILE,
    "memberships": list_of(record({"group": group_identifier}, {"since": or_null(moment)})),
    "licenseAssignmentStates": list_of(assignment_state),
}
EVENTS: dict[str, dict[str, tuple[dict[str, Check], dict[str, Check]]]] = {
    "user-changes": {
        "user.upserted": (USER, PROFILE),
        "user.deleted": (USER, {"restorable": flag}),
        "user.snapshot": (USER, SNAPSHOT),
        "membership.added": (MEMBERSHIP, {"memberType": text}),
        "membership.removed": (MEMBERSHIP, {"memberType": text}),
        "licenses.changed": (USER, LICENSES),
        "licenses.set": (USER | WHOLE_LIST, {}),
        "user.reprocess": (USER, {}),
    },
    "group-changes": {
        "group.upserted": (
            GROUP,
            {
                "displayName": or_null(text),
                "membershipRule": or_null(text),
                "membershipRuleProcessingState": or_null(one_of("On", "Paused")),
            },
        ),
        "group.deleted": (GROUP, {}),
        "licenses.changed": (GROUP, LICENSES),
        "licenses.set": (GROUP | WHOLE_LIST, {}),
        "group.reprocess": (GROUP, {}),
    },
    "catalog": {
        "product.defined": (
            {"skuId": identifier, "servicePlans": list_of(SERVICE_PLAN)},
            {"skuPartNumber": or_null(text), "displayName": or_null(text)},
        )
    },
    "subscriptions": {
        "subscription.updated": (
            {"tenant": identifier, "skuId": identifier, "prepaidUnits": UNITS},
            {},
        ),
        "subscription.deleted": ({"tenant": identifier, "skuId": identifier}, {}),
    },
    "tenants": {
        "tenant.updated": (
            {"tenant": identifier},
            {
                "displayName": or_null(text),
                "usageLocation": or_null(country),
                "initialDomain": or_null(text),
                "policies": POLICIES,
            },
        )
    },
}
KEYS: dict[str, tuple[str, ...]] = {
    "user-changes": ("tenant", "user"),
    "group-changes": ("tenant", "group"),
    "catalog": ("skuId",),
    "subscriptions": ("tenant", "skuId"),
    "tenants": ("tenant",),
}


def read(topic: str, key: str | None, value: bytes | None, headers: Headers) -> Event:
    """Returns the event of one input record; `topic` is without its prefix.

    Raises:
        UnreadableError: the record breaks the contract.
    """
    event = plain_event(decoded(value), headers)
    kind = event.get("type")
    if not isinstance(kind, str) or kind not in EVENTS[topic]:
        raise UnreadableError(f"unknown type {kind!r}")
    required, optional = EVENTS[topic][kind]
    bad = bad_members(event, {"id": identifier, **required}, {"time": or_null(text), **optional})
    if bad:
        raise UnreadableError(f"missing or malformed: {', '.join(bad)}")
    expected = "/".join(str(event[part]) for part in KEYS[topic])
    if key != expected:
        raise UnreadableError(f"the key is {key!r}, the body says {expected!r}")
    return event


def decoded(value: bytes | None) -> Event:
    if value is None:
        raise UnreadableError("no value")
    if len(value) > ONE_MIB:
        raise UnreadableError("over 1 MiB")
    try:
        event = json.loads(value.decode("utf-8"))
    except ValueError as error:
        raise UnreadableError(f"not JSON: {error}") from error
    if not isinstance(event, dict):
        raise UnreadableError("not a JSON object")
    return event


def plain_event(event: Event, headers: Headers) -> Event:
    """Returns a CloudEvents 1.0 record, binary or structured, as a plain event."""
    if "ce_type" in headers:
        names = {"type": "ce_type", "id": "ce_id", "time": "ce_time"}
        return event | {n: headers[h] for n, h in names.items() if h in headers}
    data = event.get("data")
    if "specversion" in event and isinstance(data, dict):
        return data | {name: event[name] for name in ("type", "id", "time") if name in event}
    return event
