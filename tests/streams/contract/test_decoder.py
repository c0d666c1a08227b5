"""The input contract: events that the decoder accepts."""

from __future__ import annotations

import orjson
import pytest

from engine.domain import events as ev
from engine.domain.events import ABSENT
from engine.domain.model import ServicePlan
from streams.contract import field_checks
from streams.contract.decoder import DECODERS, Rejected
from tests.support.contract_samples import (
    ADDED,
    DROP,
    EVENTS,
    GROUP,
    GROUP_DELETED,
    GROUP_LICENSES,
    GROUP_LICENSES_SET,
    GROUP_REPROCESS,
    PRODUCT,
    REMOVED,
    SNAPSHOT,
    SUBSCRIPTION,
    SUBSCRIPTION_DELETED,
    TENANT,
    USER,
    USER_DELETED,
    USER_LICENSES,
    USER_LICENSES_SET,
    USER_REPROCESS,
    Event,
    each_event,
    read,
)


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
        (
            SNAPSHOT,
            ev.UserSnapshot(
                "e1",
                "contoso",
                "u1",
                "ann@contoso.example",
                "US",
                None,
                ("SMTP:ann@contoso.example",),
                (("g1", 1704067200000), ("g2", None)),
                (("E3", "g1", ("yammer",), 1704067200500), ("EMS", "", (), None)),
                None,
                (("department", "Sales"),),
            ),
        ),
        (ADDED, ev.MembershipAdded("e1", "contoso", "u1", "g1")),
        (REMOVED, ev.MembershipRemoved("e1", "contoso", "u1", "g1")),
        (
            USER_LICENSES,
            ev.UserLicensesChanged("e1", "contoso", "u1", (("E3", ("yammer",)),), ("E1",)),
        ),
        (
            USER_LICENSES_SET,
            ev.UserLicensesSet("e1", "contoso", "u1", (("E3", ("yammer",)),)),
        ),
        (USER_REPROCESS, ev.UserReprocess("e1", "contoso", "u1")),
        (GROUP, ev.GroupUpserted("e1", "contoso", "g1", "Sales")),
        (GROUP_DELETED, ev.GroupDeleted("e1", "contoso", "g1")),
        (GROUP_LICENSES, ev.GroupLicensesChanged("e1", "contoso", "g1", (("E3", ()),), ())),
        (
            GROUP_LICENSES_SET,
            ev.GroupLicensesSet("e1", "contoso", "g1", (("E3", ()), ("E1", ()))),
        ),
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
        (SUBSCRIPTION_DELETED, ev.SubscriptionDeleted("e1", "contoso", "E3")),
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
    patch = (
        "userPrincipalName", "displayName", "usageLocation", "mail", "proxyAddresses",
        "mailNickname", "attributes",
    )  # fmt: skip
    absent = read(USER, dict.fromkeys(patch, DROP))
    assert absent[3:] == (ABSENT,) * 6
    nulls = read(USER, dict.fromkeys(patch))
    assert nulls[3:] == (None,) * 6
    assert read(GROUP, {"displayName": DROP})[3:] == (ABSENT,) * 3
    assert read(GROUP, {"membershipRule": None}).membership_rule is None
    assert read(GROUP, {"membershipRuleProcessingState": None}).processing_state is None
    assert read(GROUP, {"displayName": None}).display_name is None
    assert read(TENANT, {"usageLocation": None}).usage_location is None
    bare = read(TENANT, {"usageLocation": DROP, "policies": {}, "displayName": DROP})
    assert bare[2:] == (ABSENT,) * 4
    assert read(TENANT, {"policies": DROP})[3:] == (ABSENT,) * 3


def test_attributes_are_text_by_their_names_in_small_letters() -> None:
    given = {"jobTitle": "Head", "accountEnabled": True, "level": 7.0, "JOBTITLE": "Boss"}
    more = {"city": None, "ratio": 0.5, "otherMails": ["a@x", 7], "none": []}
    assert read(USER, {"attributes": {**given, **more}}).attributes == (
        ("jobtitle", "Boss"),
        ("accountenabled", "true"),
        ("level", "7"),
        ("city", None),
        ("ratio", "0.5"),
        ("othermails", ("a@x", "7")),
        ("none", None),
    )


def test_the_text_of_a_rule_is_not_judged_here() -> None:
    rule = {"membershipRule": "no\nrule" * 500, "membershipRuleProcessingState": "Paused"}
    event = read(GROUP, rule)
    assert (event.membership_rule, event.processing_state) == tuple(rule.values())


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
    assert read(SUBSCRIPTION, {"prepaidUnits": {"lockedOut": 100_000_000}})[3:] == (
        0,
        0,
        0,
        100_000_000,
    )


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
    monkeypatch.setattr(field_checks, "MAX_SHARED_IDS", 10)
    for i in range(50):
        assert read(ADDED, {"group": f"g{i}"}).group == f"g{i}"
    assert len(field_checks.SHARED_IDS) <= 10


def test_another_encoding_behind_a_registrys_prefix_is_named() -> None:
    """The key is right, so that only the value can be wrong."""
    refused = DECODERS["user-changes"](b"contoso/u1", b"\0\0\0\0\7\x06ann\x04US", None)
    assert isinstance(refused, Rejected)
    assert refused.kind == "not_json"
    assert "it has a schema registry's prefix, but Avro and Protobuf are not read" in refused.reason
