"""The input contract: what is read, what is refused and in which words, and that it is total."""

from __future__ import annotations

import json
import pathlib
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine.events import ABSENT
from engine.model import ServicePlan
from streams import contract
from streams.contract import DECODERS, Headers, Rejected

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"

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
ADDED = {**HEAD, "type": "membership.added", "user": "u1", "group": "g1", "memberType": "user"}
REMOVED = {**HEAD, "type": "membership.removed", "user": "u1", "group": "g1"}
USER_LICENSES = {
    **HEAD,
    "type": "licenses.changed",
    "user": "u1",
    "addLicenses": [{"skuId": "E3", "disabledPlans": ["yammer"]}],
    "removeLicenses": ["E1"],
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
    ("user-changes", ADDED),
    ("user-changes", REMOVED),
    ("user-changes", USER_LICENSES),
    ("user-changes", USER_REPROCESS),
    ("group-changes", GROUP),
    ("group-changes", GROUP_DELETED),
    ("group-changes", GROUP_LICENSES),
    ("group-changes", GROUP_REPROCESS),
    ("catalog", PRODUCT),
    ("subscriptions", SUBSCRIPTION),
    ("tenants", TENANT),
]
each_event = pytest.mark.parametrize(
    ("topic", "event"), EVENTS, ids=[f"{topic}:{event['type']}" for topic, event in EVENTS]
)
TOPIC_OF = {id(event): topic for topic, event in EVENTS}


def vary(event: Event, **changes: object) -> Event:
    return {name: value for name, value in {**event, **changes}.items() if value is not DROP}


def read(event: Event, changes: Event | None = None, headers: Headers | None = None) -> Any:
    """The decoded event, which must come with no source."""
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


@pytest.mark.parametrize(
    ("key", "tenant", "user"),
    [
        (b"contoso/u1", "contoso", "u2"),
        (b"contoso/u1", "fabrikam", "u1"),
        (b"contoso/u2", "contoso", "u1"),
        (None, "contoso", "u1"),
        (b"contoso/u1", "contoso", ["u1"]),
        (b"", "", ""),
        (b"/", "", ""),
    ],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_the_last_user_lets_nobody_else_through(
    key: bytes | None, tenant: object, user: object, fresh: bool
) -> None:
    """What was checked of one event serves the next one only if it names the same user."""
    contract._latest.read = None
    if not fresh:
        assert DECODERS["user-changes"](b"contoso/u1", orjson.dumps(USER), None) == (read(USER), "")
    event = {**USER, "tenant": tenant, "user": user}
    refuse("user-changes", key, orjson.dumps(event), None)


def assert_for_people(reason: str) -> None:
    assert reason.isprintable()
    assert 10 < len(reason) < 1000
    reason.encode()


# --- What is read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            USER,
            ev.UserUpserted(
                "e1",
                "contoso",
                "u1",
                "ann@contoso.example",
                "US",
                None,
                ("SMTP:ann@contoso.example",),
            ),
        ),
        (USER_DELETED, ev.UserDeleted("e1", "contoso", "u1")),
        (ADDED, ev.MembershipAdded("e1", "contoso", "u1", "g1")),
        (REMOVED, ev.MembershipRemoved("e1", "contoso", "u1", "g1")),
        (
            USER_LICENSES,
            ev.UserLicensesChanged("e1", "contoso", "u1", (("E3", ("yammer",)),), ("E1",)),
        ),
        (USER_REPROCESS, ev.UserReprocess("e1", "contoso", "u1")),
        (GROUP, ev.GroupUpserted("e1", "contoso", "g1", "Sales")),
        (GROUP_DELETED, ev.GroupDeleted("e1", "contoso", "g1")),
        (GROUP_LICENSES, ev.GroupLicensesChanged("e1", "contoso", "g1", (("E3", ()),), ())),
        (GROUP_REPROCESS, ev.GroupReprocess("e1", "contoso", "g1")),
        (
            PRODUCT,
            ev.ProductDefined(
                "e1",
                "E3",
                "ENTERPRISEPACK",
                "Office 365 E3",
                (
                    ServicePlan(
                        "exchange2",
                        "EXCHANGE_S_ENTERPRISE",
                        "User",
                        ("Exchange Online",),
                        (("a", "b"), ("c",)),
                        ("CN",),
                        True,
                    ),
                ),
            ),
        ),
        (SUBSCRIPTION, ev.SubscriptionUpdated("e1", "contoso", "E3", 25, 1, 2, 3)),
        (TENANT, ev.TenantUpdated("e1", "contoso", "US", "manual", "error")),
    ],
    ids=[event["type"] for _, event in EVENTS],
)
def test_every_type_of_the_contract(event: Event, expected: object) -> None:
    decoded = read(event)
    assert decoded == expected
    assert type(decoded) is type(expected)


@each_event
def test_unknown_members_and_foreign_headers_are_ignored(topic: str, event: Event) -> None:
    extra: Event = {"x": [{}], "specversion": "1.0", "comment": None}
    headers = [("traceparent", b"\xff"), ("content-type", b"text/plain"), ("ce_id", None)]
    assert read(event, extra, headers) == read(event)
    assert read(event, {"time": DROP}) == read(event)


def test_absent_stays_and_null_clears() -> None:
    patch = ("userPrincipalName", "displayName", "usageLocation", "mail", "proxyAddresses")
    absent = read(USER, dict.fromkeys(patch, DROP))
    assert absent[3:] == (ABSENT,) * 4
    nulls = read(USER, dict.fromkeys(patch))
    assert nulls[3:] == (None,) * 4
    assert read(GROUP, {"displayName": DROP}).display_name is ABSENT
    assert read(GROUP, {"displayName": None}).display_name is None
    assert read(TENANT, {"usageLocation": None}).usage_location is None
    bare = read(TENANT, {"usageLocation": DROP, "policies": {}, "displayName": DROP})
    assert bare[2:] == (ABSENT,) * 3
    assert read(TENANT, {"policies": DROP})[3:] == (ABSENT,) * 2


def test_addresses_are_given_once_without_regard_to_case() -> None:
    given_twice = ["smtp:b@x", "SMTP:a@x", "SMTP:B@x", "smtp:c@x", "smtp:a@X"]
    decoded = read(USER, {"proxyAddresses": given_twice})
    assert decoded.proxy_addresses == ("smtp:b@x", "SMTP:a@x", "smtp:c@x")
    assert read(USER, {"proxyAddresses": []}).proxy_addresses == ()


def test_names_of_all_scripts_with_tabs_or_empty() -> None:
    name = "می\u200cخواهم 👩\u200d💻 Zoë\u00a0É\tx"  # joiners and a no-break space are not controls
    assert read(GROUP, {"displayName": name}).display_name == name
    assert read(GROUP, {"displayName": ""}).display_name == ""


def test_member_types() -> None:
    assert type(read(ADDED, {"memberType": DROP})) is ev.MembershipAdded
    assert read(ADDED, {"memberType": "device"}) == ev.MembershipIgnored(
        "e1", "contoso", "u1", "g1", "device"
    )


def test_license_lists() -> None:
    both = {"addLicenses": DROP, "removeLicenses": DROP}
    assert read(USER_LICENSES, both)[3:] == ((), ())
    added = [
        {"skuId": "E3", "disabledPlans": ["a"]},
        {"skuId": "EMS"},
        {"skuId": "E3", "disabledPlans": ["c", "b", "c"]},
    ]
    decoded = read(GROUP_LICENSES, {"addLicenses": added, "removeLicenses": ["x", "w", "x"]})
    assert decoded.add == (("E3", ("c", "b")), ("EMS", ()))
    assert decoded.remove == ("x", "w")


def test_product_defaults() -> None:
    names = {"skuPartNumber": DROP, "displayName": DROP, "servicePlans": [{"servicePlanId": "p"}]}
    decoded = read(PRODUCT, names)
    assert decoded == ev.ProductDefined("e1", "E3", "E3", "E3", (ServicePlan("p", "p"),))
    assert read(PRODUCT, {"displayName": DROP}).display_name == "ENTERPRISEPACK"
    assert read(PRODUCT, {"servicePlans": []}).plans == ()


def test_absent_units_are_none() -> None:
    assert read(SUBSCRIPTION, {"prepaidUnits": {}})[3:] == (0, 0, 0, 0)
    assert read(SUBSCRIPTION, {"prepaidUnits": {"lockedOut": 2**53}})[3:] == (0, 0, 0, 2**53)


def test_of_a_member_given_twice_the_last_counts() -> None:
    value = orjson.dumps(GROUP)[:-1] + b',"displayName":"Marketing"}'
    decoded = DECODERS["group-changes"](b"contoso/g1", value, None)
    assert decoded == (ev.GroupUpserted("e1", "contoso", "g1", "Marketing"), "")


def test_ids_that_recur_are_one_string_and_the_table_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = read(ADDED), read(ADDED)
    assert first.tenant is second.tenant
    assert first.group is second.group
    assert read(GROUP).group is first.group
    monkeypatch.setattr(contract, "MAX_KNOWN_IDS", 10)
    for i in range(50):
        assert read(ADDED, {"group": f"g{i}"}).group == f"g{i}"
    assert len(contract._known_ids) <= 10


# --- What is refused, and in which words ------------------------------------------------------

ID = "it must be a string of 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"
TEXT = "it must be null or a string of at most 1024 characters without control characters but tabs"
NAME = "it must be a string of 1 to 1024 characters without control characters but tabs"
REFUSED: list[tuple[Event, Event, str]] = [
    (USER, {"type": DROP}, "type is missing; it must be one of user.upserted, user.deleted, "),
    (USER, {"type": "user.updated"}, "type is 'user.updated'; it must be one of user.upserted, "),
    (USER, {"type": ["user.upserted"]}, "type is a list of length 1; it must be one of"),
    (USER, {"type": {}}, "type is an object; it must be one of"),
    (USER, {"type": "group.deleted"}, "belongs to the topic group-changes, not to user-changes"),
    (USER, {"type": "product.defined"}, "belongs to the topic catalog, not to user-changes"),
    (TENANT, {"type": "licenses.changed"}, "belongs to the topic user-changes or group-changes"),
    (USER, {"id": DROP}, f"id is missing; {ID}"),
    (USER, {"id": ""}, f"id is empty; {ID}"),
    (USER, {"id": 7}, f"id is 7; {ID}"),
    (USER, {"id": "x" * 129}, f"id is '{'x' * 60}…' (129 characters); {ID}"),
    (USER, {"time": None}, "time is null; it must be a string, or absent"),
    (USER, {"time": 1764000000}, "time is 1764000000; it must be a string, or absent"),
    (USER, {"tenant": DROP}, f"tenant is missing; {ID}"),
    (USER, {"tenant": {}}, f"tenant is an object; {ID}"),
    (USER, {"tenant": "a/b"}, f"tenant is 'a/b'; {ID}"),
    (USER, {"user": DROP}, f"user is missing; {ID}"),
    (USER, {"user": "ann smith"}, f"user is 'ann smith'; {ID}"),
    (USER, {"user": "u1\n"}, f"user is 'u1\\n'; {ID}"),
    (USER, {"user": "ü"}, f"user is 'ü'; {ID}"),
    (USER, {"user": "u2"}, "the key of the record is 'contoso/u1'; it must be tenant/user: conto"),
    (USER, {"displayName": 5}, f"displayName is 5; {TEXT}"),
    (USER, {"displayName": "a\nb"}, f"displayName is 'a\\nb'; {TEXT}"),
    (USER, {"userPrincipalName": False}, f"userPrincipalName is false; {TEXT}"),
    (USER, {"mail": "x" * 1025}, f"mail is '{'x' * 60}…' (1025 characters); {TEXT}"),
    (USER, {"mail": "\x85"}, f"mail is '\\x85'; {TEXT}"),
    (USER, {"usageLocation": "us"}, "usageLocation is 'us'; it must be two capital letters, or"),
    (USER, {"usageLocation": "USA"}, "usageLocation is 'USA'; it must be two capital letters, or"),
    (USER, {"usageLocation": ["US"]}, "usageLocation is a list of length 1; it must be two cap"),
    (USER, {"proxyAddresses": "a@x"}, "proxyAddresses is 'a@x'; it must be a list of at most 500"),
    (USER, {"proxyAddresses": ["a"] * 501}, "proxyAddresses is a list of length 501; it must be"),
    (USER, {"proxyAddresses": [""]}, f"an item of proxyAddresses is empty; {NAME}"),
    (USER, {"proxyAddresses": ["a", None]}, f"an item of proxyAddresses is null; {NAME}"),
    (ADDED, {"group": DROP}, f"group is missing; {ID}"),
    (ADDED, {"group": []}, f"group is a list of length 0; {ID}"),
    (ADDED, {"memberType": None}, f"memberType is null; {NAME}"),
    (ADDED, {"memberType": ""}, f"memberType is empty; {NAME}"),
    (REMOVED, {"group": "g 1"}, f"group is 'g 1'; {ID}"),
    (USER_LICENSES, {"addLicenses": None}, "addLicenses is null; it must be a list"),
    (USER_LICENSES, {"addLicenses": ["E3"]}, "addLicenses[0] is 'E3'; it must be an object"),
    (USER_LICENSES, {"addLicenses": [{}]}, f"addLicenses[0].skuId is missing; {ID}"),
    (
        GROUP_LICENSES,
        {"addLicenses": [{"skuId": "a"}, {"skuId": "b", "disabledPlans": ["c", "d e"]}]},
        f"addLicenses[1].disabledPlans[1] is 'd e'; {ID}",
    ),
    (
        GROUP_LICENSES,
        {"addLicenses": [{"skuId": "a", "disabledPlans": "b"}]},
        "addLicenses[0].disabledPlans is 'b'; it must be a list",
    ),
    (GROUP_LICENSES, {"removeLicenses": [{}]}, f"removeLicenses[0] is an object; {ID}"),
    (GROUP_LICENSES, {"group": "g2"}, "it must be tenant/group: contoso/g2"),
    (GROUP, {"displayName": ["Sales"]}, f"displayName is a list of length 1; {TEXT}"),
    (PRODUCT, {"skuId": DROP}, f"skuId is missing; {ID}"),
    (PRODUCT, {"skuId": "E5"}, "the key of the record is 'E3'; it must be skuId: E5"),
    (PRODUCT, {"skuPartNumber": ""}, f"skuPartNumber is empty; {NAME}"),
    (PRODUCT, {"displayName": None}, f"displayName is null; {NAME}"),
    (PRODUCT, {"servicePlans": DROP}, "servicePlans is missing; it must be a list"),
    (PRODUCT, {"servicePlans": [3]}, "servicePlans[0] is 3; it must be an object"),
    (PRODUCT, {"servicePlans": [PLAN, PLAN]}, "servicePlans[1].servicePlanId is 'exchange2'; it "),
    (SUBSCRIPTION, {"skuId": "E5"}, "it must be tenant/skuId: contoso/E5"),
    (SUBSCRIPTION, {"prepaidUnits": DROP}, "prepaidUnits is missing; it must be an object"),
    (SUBSCRIPTION, {"prepaidUnits": 25}, "prepaidUnits is 25; it must be an object"),
    (TENANT, {"tenant": "fabrikam"}, "the key of the record is 'contoso'; it must be tenant: fab"),
    (TENANT, {"displayName": 5}, f"displayName is 5; {TEXT}"),
    (TENANT, {"policies": None}, "policies is null; it must be an object"),
    (
        TENANT,
        {"policies": {"seatRetry": "never"}},
        "policies.seatRetry is 'never'; it must be automatic or manual",
    ),
    (
        TENANT,
        {"policies": {"onGroupDeletion": None}},
        "policies.onGroupDeletion is null; it must be convert or error",
    ),
]
UNITS_RULE = "it must be a whole number from 0 to 9007199254740992"
REFUSED_UNITS = [
    ("enabled", -1, "-1"),
    ("enabled", True, "true"),
    ("warning", 1.5, "1.5"),
    ("warning", "25", "'25'"),
    ("suspended", None, "null"),
    ("suspended", 2**53 + 1, "9007199254740993"),
    ("lockedOut", [], "a list of length 0"),
]
REFUSED_PLANS: list[tuple[Event, str]] = [
    ({"servicePlanId": DROP}, f"servicePlanId is missing; {ID}"),
    ({"servicePlanName": 1}, f"servicePlanName is 1; {NAME}"),
    ({"appliesTo": "Device"}, "appliesTo is 'Device'; it must be User or Company"),
    ({"appliesTo": ["User"]}, "appliesTo is a list of length 1; it must be User or Company"),
    ({"exclusiveSets": "x"}, "exclusiveSets is 'x'; it must be a list"),
    ({"exclusiveSets": [""]}, f"exclusiveSets[0] is empty; {NAME}"),
    ({"requires": ["a"]}, "requires[0] is 'a'; it must be a list"),
    ({"requires": [["a"], []]}, "requires[1] is a list of length 0; it must be a list of at least"),
    ({"requires": [["a b"]]}, f"requires[0][0] is 'a b'; {ID}"),
    ({"prohibitedLocations": ["C1"]}, "prohibitedLocations[0] is 'C1'; it must be two capital"),
    ({"mailEnabled": 1}, "mailEnabled is 1; it must be true or false"),
]


@pytest.mark.parametrize(("event", "changes", "words"), REFUSED)
def test_malformed_members(event: Event, changes: Event, words: str) -> None:
    topic = TOPIC_OF[id(event)]
    assert words in refuse(topic, KEYS[topic], orjson.dumps(vary(event, **changes)), None)


@pytest.mark.parametrize(("changes", "words"), REFUSED_PLANS)
def test_malformed_plans(changes: Event, words: str) -> None:
    value = orjson.dumps(
        vary(PRODUCT, servicePlans=[{"servicePlanId": "a"}, vary(PLAN, **changes)])
    )
    assert f"servicePlans[1].{words}" in refuse("catalog", b"E3", value, None)


@pytest.mark.parametrize(("member", "count", "shown"), REFUSED_UNITS)
def test_units_are_whole_numbers(member: str, count: object, shown: str) -> None:
    value = orjson.dumps(vary(SUBSCRIPTION, prepaidUnits={**UNITS, member: count}))
    reason = refuse("subscriptions", b"contoso/E3", value, None)
    assert reason == f"prepaidUnits.{member} is {shown}; {UNITS_RULE}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "the value is null: an input topic carries events, not tombstones"),
        (b"", "not JSON: Input is a zero-length, empty document at line 1 column 1"),
        (b"null", "the value is null; it must be an object"),
        (b"[{}]", "the value is a list of length 1; it must be an object"),
        (b"7", "the value is 7; it must be an object"),
        (b'{"type":"user.deleted"', "not JSON: unexpected end of data at line 1 column"),
        (b'{"type":\n  NaN}', "not JSON: unexpected character, expected a JSON value at line 2 "),
        (b'{"a":1e999}', "not JSON: number is infinity"),
        (b"[" * 100_000, "not JSON: depth limit exceeded"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "not JSON: depth limit exceeded"),
        (b'{"user":"\\ud800"}', "not JSON: no low surrogate in string"),
        (b'{"user":"\xed\xa0\x80"}', "not JSON: str is not valid UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not JSON: str is not valid UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON: UTF-8 byte order mark"),
        (b"type,user\n", "not JSON: "),
    ],
)
def test_what_is_no_json_object(value: bytes | None, words: str) -> None:
    for topic, key in KEYS.items():
        assert words in refuse(topic, key, value, None)


def test_a_number_too_big_for_any_integer_is_no_whole_number() -> None:
    value = orjson.dumps(SUBSCRIPTION).replace(b":25,", b":" + b"9" * 400 + b",")
    assert "not JSON: number is infinity" in refuse("subscriptions", b"contoso/E3", value, None)
    value = orjson.dumps(SUBSCRIPTION).replace(b":25,", b":" + b"9" * 40 + b",")
    assert "prepaidUnits.enabled is 1e+40" in refuse("subscriptions", b"contoso/E3", value, None)


@each_event
@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (None, "missing"),
        (b"", "empty"),
        (b"other", "'other'"),
        (b"\xff\x00\n", "'\\xff\\x00\\n'"),
        (b"k" * 100_000, "(100000 characters)"),
    ],
)
def test_the_key_must_match(topic: str, event: Event, key: bytes | None, shown: str) -> None:
    reason = refuse(topic, key, orjson.dumps(event), None)
    assert reason.startswith("the key of the record is ")
    assert shown in reason
    assert reason.endswith(f": {KEYS[topic].decode()}")
    longer = refuse(topic, KEYS[topic] + b"/", orjson.dumps(event), None)
    assert longer.startswith("the key of the record is ")


def test_limits_are_exact() -> None:
    value = orjson.dumps(USER)
    full = value + b" " * (1_048_576 - len(value))
    assert DECODERS["user-changes"](b"contoso/u1", full, None) == (read(USER), "")
    assert (
        refuse("user-changes", b"contoso/u1", full + b" ", None)
        == "the value has 1048577 bytes; at most 1048576 are read"
    )
    assert read(USER, {"id": "x" * 128}).id == "x" * 128
    assert read(USER, {"mail": "é" * 1024}).mail == "é" * 1024
    addresses = [f"smtp:{i}@x" for i in range(500)]
    assert read(USER, {"proxyAddresses": addresses}).proxy_addresses == tuple(addresses)


# --- CloudEvents ------------------------------------------------------------------------------

SOURCE = "/hr/feed-1"
CE_TIME = "2026-11-24T08:00:00Z"


def data_of(event: Event) -> Event:
    return vary(event, type=DROP, id=DROP, time=DROP)


def binary(event: Event, **changes: bytes | None) -> list[tuple[str, bytes]]:
    headers = {
        "ce_specversion": b"1.0",
        "ce_type": event["type"].encode(),
        "ce_id": event["id"].encode(),
        "ce_source": SOURCE.encode(),
        "ce_time": CE_TIME.encode(),
        "content-type": b"application/json",
    }
    named = {name.replace("content_type", "content-type"): raw for name, raw in changes.items()}
    return [(name, raw) for name, raw in (headers | named).items() if raw is not None]


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


@each_event
def test_the_cloudevents_sdk_and_the_plain_form_say_the_same(topic: str, event: Event) -> None:
    kafka = pytest.importorskip("cloudevents.core.bindings.kafka")
    json_format = pytest.importorskip("cloudevents.core.formats.json").JSONFormat()
    attributes = {
        "type": event["type"],
        "id": event["id"],
        "source": SOURCE,
        "time": datetime(2026, 11, 24, 8, tzinfo=UTC),
        "datacontenttype": "application/json",
        "partitionkey": KEYS[topic].decode(),
        "subject": "ignored",
    }
    cloud_event = pytest.importorskip("cloudevents.core.v1.event").CloudEvent(
        attributes, data_of(event)
    )
    for message in (
        kafka.to_binary(cloud_event, json_format),
        kafka.to_structured(cloud_event, json_format),
    ):
        assert message.key == KEYS[topic].decode()
        decoded = DECODERS[topic](KEYS[topic], message.value, list(message.headers.items()))
        assert decoded == (read(event), SOURCE)


@each_event
def test_cloudevents_in_both_modes(topic: str, event: Event) -> None:
    expected = (read(event), SOURCE)
    decode, key = DECODERS[topic], KEYS[topic]
    assert decode(key, orjson.dumps(data_of(event)), binary(event)) == expected
    assert decode(key, orjson.dumps(event), binary(event)) == expected
    utf8 = [("Content-Type", b"application/cloudevents+json; charset=UTF-8")]
    assert decode(key, structured(event), utf8) == expected
    assert decode(key, structured(event), [("content-type", b"application/json")]) == expected
    assert decode(key, structured(event), None) == expected


def test_a_cloudevent_needs_little() -> None:
    only = [("ce_type", b"user.upserted"), ("ce_id", b"order #1 / \xc3\xa4")]
    decoded = DECODERS["user-changes"](b"contoso/u1", orjson.dumps(data_of(USER)), only)
    assert decoded == (read(USER)._replace(id="order #1 / ä"), "")
    value = structured(USER, source=None, time=None, datacontenttype=None, data_base64=None)
    assert DECODERS["user-changes"](b"contoso/u1", value, None) == (read(USER), "")
    bare = structured(USER, specversion=DROP, source=DROP)
    header = [("Content-Type", b"application/cloudevents+json")]
    assert DECODERS["user-changes"](b"contoso/u1", bare, header) == (read(USER), "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ce_type": b"user.updated"}, "type is 'user.updated'; it must be one of"),
        ({"ce_type": b"\xff"}, "type is '\\udcff'; it must be one of"),
        ({"ce_type": b"group.deleted"}, "belongs to the topic group-changes"),
        ({"ce_specversion": b"0.3"}, "specversion is '0.3'; it must be 1.0"),
        ({"ce_id": None}, "id is missing; it must be 1 to 256 printable characters"),
        ({"ce_id": b""}, "id is empty; it must be 1 to 256 printable characters"),
        ({"ce_id": b"\xff"}, "id is '\\udcff'; it must be 1 to 256 printable characters"),
        ({"ce_id": b"x" * 257}, "(257 characters); it must be 1 to 256 printable characters"),
        ({"ce_source": b"a\nb"}, "source is 'a\\nb'; it must be at most 1024 printable"),
        ({"content_type": b"application/avro"}, "datacontenttype is 'application/avro'; it must"),
    ],
)
def test_malformed_binary_mode(changes: dict[str, bytes | None], words: str) -> None:
    value = orjson.dumps(data_of(USER))
    assert words in refuse("user-changes", b"contoso/u1", value, binary(USER, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": DROP}, "type is missing; it must be one of"),
        ({"type": 5}, "type is 5; it must be one of"),
        ({"id": 5}, "id is 5; it must be 1 to 256 printable characters"),
        ({"source": {}}, "source is an object; it must be at most 1024 printable characters"),
        ({"time": 5}, "time is 5; it must be a string, or absent"),
        ({"specversion": "0.3"}, "specversion is '0.3'; it must be 1.0"),
        ({"datacontenttype": "text/xml"}, "datacontenttype is 'text/xml'; it must be application"),
        ({"datacontenttype": ["application/json"]}, "datacontenttype is a list of length 1; it "),
        ({"data": None}, "data is missing; it must be an object"),
        ({"data": "{}"}, "data is '{}'; it must be an object"),
        ({"data": {"tenant": "contoso"}}, "user is missing"),
        ({"data": DROP, "data_base64": "e30="}, "data_base64 is not read here; the event must be"),
    ],
)
def test_malformed_structured_mode(changes: Event, words: str) -> None:
    value = structured(USER, **changes)
    assert words in refuse("user-changes", b"contoso/u1", value, None)


@pytest.mark.parametrize("media", ["application/cloudevents-batch+json", "application/cloudevents"])
def test_only_one_event_in_a_record(media: str) -> None:
    reason = refuse(
        "user-changes", b"contoso/u1", structured(USER), [("content-type", media.encode())]
    )
    assert "it must be application/cloudevents+json, one event in a record" in reason


# --- Total, whatever comes --------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
headers_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "ce_id", "ce_source", "ce_time", "content-type"]) | st.text(),
        st.none()
        | st.binary()
        | st.sampled_from([b"user.upserted", b"1.0", b"application/cloudevents+json"]),
    ),
    max_size=5,
)
topics = st.sampled_from(sorted(DECODERS))


def assert_total(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
    decoded = DECODERS[topic](key, value, headers)
    if isinstance(decoded, Rejected):
        assert_for_people(decoded.reason)
    else:
        assert isinstance(decoded[0], ev.InputEvent)
        assert isinstance(decoded[1], str)


@given(topics, st.none() | st.binary(), st.none() | st.binary(), headers_of_any_kind)
def test_any_bytes(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
    assert_total(topic, key, value, headers)


@given(topics, anything, headers_of_any_kind)
def test_any_json(topic: str, value: object, headers: Headers) -> None:
    assert_total(topic, KEYS[topic], json.dumps(value).encode(), headers)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value, its own top excepted."""
    found: list[tuple[str | int, ...]] = [path] if path else []
    if isinstance(value, dict):
        for name, child in value.items():
            found += places(child, (*path, name))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            found += places(child, (*path, i))
    return found


@given(st.data(), headers_of_any_kind, st.booleans())
def test_any_mutation_of_a_valid_event(
    data: st.DataObject, headers: Headers, enveloped: bool
) -> None:
    topic, event = data.draw(st.sampled_from(EVENTS))
    mutated = orjson.loads(structured(event) if enveloped else orjson.dumps(event))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(mutated)))
        owner = mutated
        for step in way:
            owner = owner[step]
        if data.draw(st.booleans()):
            del owner[last]
        else:
            owner[last] = data.draw(anything)
        if not mutated:
            break
    value = json.dumps(mutated).encode()
    assert_total(topic, KEYS[topic], value, data.draw(st.sampled_from([(), headers])))


def test_values_as_deep_as_the_parser_lets_through() -> None:
    deep = b'{"type":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert refuse("tenants", b"contoso", deep, None).startswith("type is a list of length 1")


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not beside this checkout")
def test_the_whole_catalogue_is_read() -> None:
    lines = (DATA / "catalogue.jsonl").read_bytes().splitlines()
    assert len(lines) > 500
    for line in lines:
        event = orjson.loads(line)
        decoded = DECODERS["catalog"](event["skuId"].encode(), line, None)
        assert not isinstance(decoded, Rejected), decoded.reason
        product = decoded[0]
        assert isinstance(product, ev.ProductDefined)
        assert [plan.id for plan in product.plans] == [
            plan["servicePlanId"] for plan in event["servicePlans"]
        ]
