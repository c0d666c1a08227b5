"""One event of every type of the input contract, and how tests vary, read and refuse them."""

from __future__ import annotations

import pathlib
from typing import Any

import orjson
import pytest

from streams.contract.decoder import DECODERS, Headers, Rejected

DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"

Event = dict[str, Any]
DROP = object()
"""In a variation of an event: leave this member out."""

HEAD = {"id": "e1", "time": "2026-11-24T08:00:00Z", "tenant": "contoso"}
USER = {
    **HEAD,
    "type": "user.upserted",
    "user": "u1",
    "userPrincipalName": "ann@contoso.example",
    "displayName": "Ann",
    "usageLocation": "US",
    "mail": None,
    "proxyAddresses": ["SMTP:ann@contoso.example"],
}
USER_DELETED = {**HEAD, "type": "user.deleted", "user": "u1"}
SNAPSHOT = {
    **USER,
    "type": "user.snapshot",
    "attributes": {"department": "Sales"},
    "memberships": [{"group": "g1", "since": "2024-01-01T00:00:00Z"}, {"group": "g2"}],
    "licenseAssignmentStates": [
        {
            "skuId": "E3",
            "assignedByGroup": "g1",
            "disabledPlans": ["yammer"],
            "state": "Active",
            "error": "None",
            "since": "2024-01-01T01:00:00.5+01:00",
        },
        {"skuId": "EMS", "assignedByGroup": None, "state": "ActiveWithError"},
        {"skuId": "EMS", "assignedByGroup": "g1", "state": "Error", "error": "CountViolation"},
    ],
}
ADDED = {**HEAD, "type": "membership.added", "user": "u1", "group": "g1", "memberType": "user"}
REMOVED = {**HEAD, "type": "membership.removed", "user": "u1", "group": "g1"}
USER_LICENSES = {
    **HEAD,
    "type": "licenses.changed",
    "user": "u1",
    "addLicenses": [{"skuId": "E3", "disabledPlans": ["yammer"]}],
    "removeLicenses": ["E1"],
}
USER_LICENSES_SET = {
    **HEAD,
    "type": "licenses.set",
    "user": "u1",
    "licenses": [{"skuId": "E3", "disabledPlans": ["yammer"]}],
}
USER_REPROCESS = {**HEAD, "type": "user.reprocess", "user": "u1"}
GROUP = {**HEAD, "type": "group.upserted", "group": "g1", "displayName": "Sales"}
GROUP_DELETED = {**HEAD, "type": "group.deleted", "group": "g1"}
GROUP_LICENSES = {
    **HEAD,
    "type": "licenses.changed",
    "group": "g1",
    "addLicenses": [{"skuId": "E3", "disabledPlans": []}],
    "removeLicenses": [],
}
GROUP_LICENSES_SET = {
    **HEAD,
    "type": "licenses.set",
    "group": "g1",
    "licenses": [{"skuId": "E3", "disabledPlans": []}, {"skuId": "E1"}],
}
GROUP_REPROCESS = {**HEAD, "type": "group.reprocess", "group": "g1"}
PLAN = {
    "servicePlanId": "exchange2",
    "servicePlanName": "EXCHANGE_S_ENTERPRISE",
    "appliesTo": "User",
    "exclusiveSets": ["Exchange Online"],
    "requires": [["a", "b"], ["c"]],
    "prohibitedLocations": ["CN"],
    "mailEnabled": True,
}
PRODUCT = {
    "type": "product.defined",
    "id": "e1",
    "time": "2026-11-24T08:00:00Z",
    "skuId": "E3",
    "skuPartNumber": "ENTERPRISEPACK",
    "displayName": "Office 365 E3",
    "servicePlans": [PLAN],
}
UNITS = {"enabled": 25, "warning": 1, "suspended": 2, "lockedOut": 3}
SUBSCRIPTION = {**HEAD, "type": "subscription.updated", "skuId": "E3", "prepaidUnits": UNITS}
SUBSCRIPTION_DELETED = {**HEAD, "type": "subscription.deleted", "skuId": "E3"}
TENANT = {
    **HEAD,
    "type": "tenant.updated",
    "displayName": "Contoso",
    "usageLocation": "US",
    "policies": {"seatRetry": "manual", "onGroupDeletion": "error"},
}

KEYS = {
    "user-changes": b"contoso/u1",
    "group-changes": b"contoso/g1",
    "catalog": b"E3",
    "subscriptions": b"contoso/E3",
    "tenants": b"contoso",
}
EVENTS: list[tuple[str, Event]] = [
    ("user-changes", USER),
    ("user-changes", USER_DELETED),
    ("user-changes", SNAPSHOT),
    ("user-changes", ADDED),
    ("user-changes", REMOVED),
    ("user-changes", USER_LICENSES),
    ("user-changes", USER_LICENSES_SET),
    ("user-changes", USER_REPROCESS),
    ("group-changes", GROUP),
    ("group-changes", GROUP_DELETED),
    ("group-changes", GROUP_LICENSES),
    ("group-changes", GROUP_LICENSES_SET),
    ("group-changes", GROUP_REPROCESS),
    ("catalog", PRODUCT),
    ("subscriptions", SUBSCRIPTION),
    ("subscriptions", SUBSCRIPTION_DELETED),
    ("tenants", TENANT),
]
each_event = pytest.mark.parametrize(
    ("topic", "event"), EVENTS, ids=[f"{topic}:{event['type']}" for topic, event in EVENTS]
)
TOPIC_OF = {id(event): topic for topic, event in EVENTS}


def vary(event: Event, **changes: object) -> Event:
    return {name: value for name, value in {**event, **changes}.items() if value is not DROP}


def read(event: Event, changes: Event | None = None, headers: Headers | None = None) -> Any:
    """Returns the decoded event, after checking that it has no CloudEvents source."""
    topic = TOPIC_OF[id(event)]
    decoded = DECODERS[topic](KEYS[topic], orjson.dumps(vary(event, **changes or {})), headers)
    assert not isinstance(decoded, Rejected), decoded.reason
    assert decoded[1] == ""
    return decoded[0]


def refuse(topic: str, key: bytes | None, value: bytes | None, headers: Headers | None) -> str:
    decoded = DECODERS[topic](key, value, headers)
    assert isinstance(decoded, Rejected), decoded
    assert_for_people(decoded.reason)
    return decoded.reason


def assert_for_people(reason: str) -> None:
    assert reason.isprintable()
    assert 10 < len(reason) < 1000
    reason.encode()


SOURCE = "/hr/feed-1"
CE_TIME = "2026-11-24T08:00:00Z"


def data_of(event: Event) -> Event:
    return vary(event, type=DROP, id=DROP, time=DROP)


def structured(event: Event, **changes: object) -> bytes:
    envelope = {
        "specversion": "1.0",
        "type": event["type"],
        "id": event["id"],
        "source": SOURCE,
        "time": CE_TIME,
        "datacontenttype": "application/json",
        "data": data_of(event),
    }
    return orjson.dumps(vary(envelope, **changes))
