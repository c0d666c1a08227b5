"""The input contract: records that the decoder refuses, and the reasons it gives."""

from __future__ import annotations

import orjson
import pytest

from streams.contract import event_readers
from streams.contract.decoder import DECODERS
from tests.support.contract_samples import (
    ADDED,
    DROP,
    GROUP,
    GROUP_LICENSES,
    GROUP_LICENSES_SET,
    KEYS,
    PLAN,
    PRODUCT,
    REMOVED,
    SNAPSHOT,
    SUBSCRIPTION,
    TENANT,
    TOPIC_OF,
    UNITS,
    USER,
    USER_DELETED,
    USER_LICENSES,
    USER_LICENSES_SET,
    Event,
    each_event,
    read,
    refuse,
    vary,
)

ID = "it must be a string of 1 to 128 characters of A-Z a-z 0-9 . _ : @ -, other than . and .."
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
    (USER, {"time": False}, "time is false; it must be a string, null, or absent"),
    (USER, {"time": 1764000000}, "time is 1764000000; it must be a string, null, or absent"),
    (USER, {"tenant": DROP}, f"tenant is missing; {ID}"),
    (USER, {"tenant": {}}, f"tenant is an object; {ID}"),
    (USER, {"tenant": "a/b"}, f"tenant is 'a/b'; {ID}"),
    (USER, {"user": DROP}, f"user is missing; {ID}"),
    (USER, {"user": "ann smith"}, f"user is 'ann smith'; {ID}"),
    (USER, {"user": "u1\n"}, f"user is 'u1\\n'; {ID}"),
    (USER, {"user": "ü"}, f"user is 'ü'; {ID}"),
    (USER, {"user": "."}, f"user is '.'; {ID}"),
    (ADDED, {"user": ".."}, f"user is '..'; {ID}"),
    (ADDED, {"group": ".."}, f"group is '..'; {ID}"),
    (ADDED, {"group": "direct"}, "group is 'direct'; it must be another id: direct stands for"),
    (REMOVED, {"group": "direct"}, "group is 'direct'; it must be another id: direct stands for"),
    (GROUP, {"group": "direct"}, "group is 'direct'; it must be another id: direct stands for"),
    (
        SNAPSHOT,
        {"memberships": [{"group": "direct"}]},
        "memberships[0].group is 'direct'; it must be another id",
    ),
    (USER, {"user": "u2"}, "the key of the record is 'contoso/u1'; it must be tenant/user: conto"),
    (USER_DELETED, {"restorable": "yes"}, "restorable is 'yes'; it must be true or false"),
    (SNAPSHOT, {"attributes": []}, "attributes is "),
    (USER, {"attributes": "x"}, "attributes is "),
    (USER, {"attributes": {"a b": "x"}}, "a name in attributes is "),
    (USER, {"attributes": {"a": {}}}, "attributes.a is "),
    (USER, {"attributes": {"a": [None]}}, "an item of attributes.a is "),
    (USER, {"attributes": {"a": [["x"]]}}, "an item of attributes.a is "),
    (USER, {"attributes": {"a": "x" * 1025}}, "attributes.a is "),
    (USER, {"attributes": {f"a{i}": 1 for i in range(251)}}, "attributes is "),
    (GROUP, {"membershipRule": 5}, "membershipRule is 5"),
    (GROUP, {"membershipRuleProcessingState": "Off"}, "membershipRuleProcessingState is "),
    (SNAPSHOT, {"memberships": None}, "memberships is null; it must be a list"),
    (SNAPSHOT, {"memberships": [{"since": None}]}, f"memberships[0].group is missing; {ID}"),
    (SNAPSHOT, {"licenseAssignmentStates": {}}, "licenseAssignmentStates is "),
    (
        SNAPSHOT,
        {"licenseAssignmentStates": [{"skuId": "E3"}]},
        f"licenseAssignmentStates[0].state is missing; {NAME}",
    ),
    (
        SNAPSHOT,
        {"licenseAssignmentStates": [{"state": "Active"}]},
        f"licenseAssignmentStates[0].skuId is missing; {ID}",
    ),
    *(
        (
            SNAPSHOT,
            {"memberships": [{"group": "g1", "since": since}]},
            f"memberships[0].since is {shown}; it must be null or a time like 2026-11-24T08:00:00Z",
        )
        for since, shown in (
            (0, "0"),
            ("yesterday", "'yesterday'"),
            ("2024-02-30T00:00:00Z", "'2024-02-30T00:00:00Z'"),
            ("2024-01-01T00:00:00", "'2024-01-01T00:00:00'"),
            ("2024-01-01", "'2024-01-01'"),
        )
    ),
    (USER, {"displayName": 5}, f"displayName is 5; {TEXT}"),
    (USER, {"displayName": "a\nb"}, f"displayName is 'a\\nb'; {TEXT}"),
    (USER, {"userPrincipalName": False}, f"userPrincipalName is false; {TEXT}"),
    (USER, {"mail": "x" * 1025}, f"mail is '{'x' * 60}…' (1025 characters); {TEXT}"),
    (USER, {"mailNickname": ["ann"]}, f"mailNickname is a list of length 1; {TEXT}"),
    (USER, {"mail": "\x85"}, f"mail is '\\x85'; {TEXT}"),
    (USER, {"usageLocation": "us"}, "usageLocation is 'us'; it must be two capital letters, or"),
    (USER, {"usageLocation": "USA"}, "usageLocation is 'USA'; it must be two capital letters, or"),
    (USER, {"usageLocation": "UK"}, "usageLocation is 'UK'; it must be a code of ISO 3166-1: did"),
    (USER, {"usageLocation": "UK"}, "did you mean GB?"),
    (USER, {"usageLocation": "EL"}, "did you mean GR?"),
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
    (USER_LICENSES_SET, {"licenses": DROP}, "licenses is missing; it must be a list"),
    (USER_LICENSES_SET, {"licenses": None}, "licenses is null; it must be a list"),
    (GROUP_LICENSES_SET, {"licenses": [{}]}, f"licenses[0].skuId is missing; {ID}"),
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
UNITS_RULE = "it must be a whole number from 0 to 100000000"
REFUSED_UNITS = [
    ("enabled", -1, "-1"),
    ("enabled", True, "true"),
    ("warning", 1.5, "1.5"),
    ("warning", "25", "'25'"),
    ("suspended", None, "null"),
    ("suspended", 100_000_001, "100000001"),
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
    """The checks of one event count for the next one only if it names the same user."""
    event_readers.last_user.read = None
    if not fresh:
        assert DECODERS["user-changes"](b"contoso/u1", orjson.dumps(USER), None) == (read(USER), "")
    event = {**USER, "tenant": tenant, "user": user}
    refuse("user-changes", key, orjson.dumps(event), None)
