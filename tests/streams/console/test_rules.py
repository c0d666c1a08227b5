"""R27 in the console: the members of a group with a rule, and what-if of rules and attributes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from streams.console.whatif import affected_users
from streams.console.whatif.replica import TenantReplica
from tests.streams.console.conftest import Console
from tests.streams.console.test_whatif import copied, really
from tests.support.system import Event, Events

WHATIF = "/v1/tenants/contoso/whatif"


def ruled(console: Console) -> Events:
    """Ann is a member of g by its rule; Bob by an event that does not count."""
    make = Events()
    rule = {"tenant": "contoso", "group": "g", "membershipRule": 'user.department -eq "Sales"'}
    console.world.publish(
        [
            *(make.product("e3"), make.seats("e3", 5), make.product("ems"), make.seats("ems", 5)),
            make.license("g", "e3"),
            make._event("group-changes", "contoso/g", "group.upserted", **rule),
            make.user("ann", usageLocation="US", attributes={"department": "Sales"}),
            make.user("bob", usageLocation="US"),
            make.join("bob", "g"),
        ]
    )
    return make


def whatif(console: Console, *events: dict[str, Any]) -> Any:
    return console.client.post(WHATIF, json={"events": list(events)})


def test_other_changes_are_foretold_with_the_members_as_they_are(console: Console) -> None:
    ruled(console)
    assign = {"type": "licenses.changed", "addLicenses": [{"skuId": "ems"}]}
    answer = whatif(console, *({**assign, "user": user} for user in ("ann", "bob"))).json()
    changes = {(c["user"], c["skuId"], c["change"]) for c in answer["changes"]}
    assert {change[:2] for change in changes} == {("ann", "ems"), ("bob", "ems")}
    joined = {"type": "membership.added", "user": "bob", "group": "g"}
    assert whatif(console, joined).json()["changes"] == []
    lost = whatif(console, {"type": "licenses.set", "group": "g", "licenses": []}).json()
    assert [(c["user"], c["skuId"]) for c in lost["changes"]] == [("ann", "e3")]


def group(make: Events, id: str, **members: Any) -> Event:
    return make._event("group-changes", f"contoso/{id}", "group.upserted",
                       tenant="contoso", group=id, **members)  # fmt: skip


def history(make: Events) -> Iterator[list[Event]]:
    """Changes of rules, of attributes, and of the licences of groups with rules."""
    sales, leeds = 'user.department -eq "Sales"', 'user.physicalDeliveryOfficeName -eq "Leeds"'
    yield [group(make, "g", membershipRule='user.department -eq "HR"')]
    yield [make.user("ann", attributes={"department": "HR"})]
    yield [make.user("cid", attributes={"department": "hr", "officeLocation": "Leeds"})]
    yield [group(make, "g", membershipRule=None)]
    yield [group(make, "g", membershipRule=sales)]
    yield [make.user("bob", attributes={"department": "Sales"})]
    yield [group(make, "g", membershipRuleProcessingState="Paused")]
    yield [make.user("bob", attributes={"department": "HR"})]
    yield [make.user("dan", attributes={"department": "Sales"})]
    yield [group(make, "g", membershipRuleProcessingState="On")]
    # A group that has members by its rule before it licenses anything.
    yield [group(make, "h", membershipRule=leeds)]
    yield [make.license("h", "ems")]
    yield [make.user("ann", attributes={"officeLocation": "leeds"})]
    yield [make.user("ann", attributes=None), make.leave("bob", "g")]
    yield [group(make, "h", membershipRule='user.usageLocation -ne "US"')]
    yield [make.user("cid", usageLocation="DE"), make.join("dan", "h")]
    yield [group(make, "h", membershipRule="user.nothing"), group(make, "g", membershipRule=None)]
    yield [make._event("group-changes", "contoso/h", "group.deleted", tenant="contoso", group="h")]


def test_rules_and_attributes_are_foretold(console: Console) -> None:
    """Every user ends as foretold, and those who are not reached stay as they are."""
    for number, change in enumerate(history(ruled(console))):
        before, db = really(console.world), console.service.store.read_connection()
        given = affected_users.decoded("contoso", [json.loads(value) for _, _, value in change])
        users = affected_users.reached(db, "contoso", given, 100)
        copy = TenantReplica(db, "contoso", users, console.world.at)
        assert copied(copy) == {id: before.get(id, {}) for id in copied(copy)}, number
        copy.apply(given)
        console.world.publish(change)
        after = really(console.world)
        assert {id: after[id] for id in copied(copy)} == copied(copy), number
        others = before.keys() - copied(copy).keys()
        assert {id: before[id] for id in others} == {id: after[id] for id in others}, number


def test_the_answer_names_who_would_join_and_which_seats_run_short(console: Console) -> None:
    make = ruled(console)
    people = ("cid", "dan", "eve")
    attributes = {"department": "HR"}
    console.world.publish([make.user(user, attributes=attributes) for user in people])
    console.world.publish([make.seats("e3", 2)])
    rule = 'user.department -in ["Sales", "HR"]'
    answer = whatif(console, {"type": "group.upserted", "group": "g", "membershipRule": rule})
    told = answer.json()
    assert [(c["user"], c["change"]) for c in told["changes"]] == [("cid", "gained")]
    assert [(f["user"], f["error"]) for f in told["failures"]] == [
        ("dan", "CountViolation"),
        ("eve", "CountViolation"),
    ]
    wrong = {"type": "group.upserted", "group": "g", "membershipRule": "user.department -eq"}
    (result,) = whatif(console, wrong).json()["results"]
    assert (result["status"], result["error"]) == ("rejected", "InvalidMembershipRule")


def test_a_user_may_have_more_attributes_than_one_event(console: Console) -> None:
    make = ruled(console)
    for part in range(2):
        many = {f"x{part}-{number}": "y" for number in range(200)}
        console.world.publish([make.user("ann", attributes=many)])
    listed = console.client.get("/v1/tenants/contoso/groups/g/members")
    assert [each["id"] for each in listed.json()["value"]] == ["ann"]
