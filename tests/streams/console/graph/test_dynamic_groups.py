"""Groups of the type DynamicMembership: created, changed, shown, filtered (R27)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.streams.console.conftest import Console
from tests.streams.console.graph.test_changes import GROUP, call, refused
from tests.support.system import Events

RULE = 'user.department -eq "Sales"'
DYNAMIC = {
    **GROUP,
    "groupTypes": ["DynamicMembership"],
    "membershipRule": RULE,
    "membershipRuleProcessingState": "On",
}


@pytest.fixture
def directory(console: Console) -> Console:
    """Ann in Sales, Bob in HR, and a product."""
    make = Events(run="s")
    console.world.publish([make.product("e3"), make.seats("e3", 5)])
    for user, department in (("ann", "Sales"), ("bob", "HR")):
        console.world.publish([make.user(user, attributes={"department": department})])
    return console


def licensed(console: Console) -> list[str]:
    found = call(console, "GET", "users?$filter=assignedLicenses/any(x:x/skuId eq 'e3')")
    return [user["id"] for user in found["value"]]


def test_a_rule_is_given_changed_paused_and_taken_away(directory: Console) -> None:
    group = call(directory, "POST", "groups", DYNAMIC, 201)
    path = f"groups/{group['id']}"
    assert {name: group[name] for name in DYNAMIC if name in group} == {
        name: DYNAMIC[name] for name in DYNAMIC if name in group
    }
    add = {"addLicenses": [{"skuId": "e3"}], "removeLicenses": []}
    call(directory, "POST", f"{path}/assignLicense", add, 202)
    assert licensed(directory) == ["ann"]
    call(directory, "PATCH", path, {"membershipRule": 'user.department -eq "HR"'}, 204)
    assert licensed(directory) == ["bob"]
    call(directory, "PATCH", path, {"membershipRuleProcessingState": "Paused"}, 204)
    directory.world.publish([Events(run="l").user("ann", attributes={"department": "HR"})])
    assert licensed(directory) == ["bob"]
    shown = call(directory, "GET", path)
    assert shown["membershipRuleProcessingState"] == "Paused"
    call(directory, "PATCH", path, {"groupTypes": []}, 204)
    assert licensed(directory) == []
    shown = call(directory, "GET", path)
    assert (shown["groupTypes"], shown["membershipRule"]) == ([], None)


def test_dynamic_groups_are_found_by_type_and_state(directory: Console) -> None:
    dynamic = call(directory, "POST", "groups", DYNAMIC, 201)["id"]
    plain = call(directory, "POST", "groups", {**GROUP, "displayName": "Plain"}, 201)["id"]
    for query, expected in (
        ("groupTypes/any(c:c eq 'DynamicMembership')", [dynamic]),
        ("groupTypes/any()", [dynamic]),
        ("not(groupTypes/any(c:c eq 'DynamicMembership'))", [plain]),
        ("membershipRuleProcessingState eq 'On'", [dynamic]),
        ("membershipRuleProcessingState eq 'Paused'", []),
    ):
        answer = directory.client.get(
            f"/v1.0/groups?$filter={query}&$count=true", headers={"ConsistencyLevel": "eventual"}
        )
        assert answer.status_code == 200, answer.text
        assert [group["id"] for group in answer.json()["value"]] == expected, query


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"membershipRule": "user.department -eq"}, "membershipRule cannot be read. At character"),
        ({"membershipRule": None}, "needs membershipRule"),
        ({"groupTypes": []}, "need groupTypes: ['DynamicMembership']"),
        ({"groupTypes": ["Unified"]}, "security groups"),
        ({"groupTypes": "DynamicMembership"}, "security groups"),
        ({"membershipRuleProcessingState": "Off"}, "membershipRuleProcessingState"),
        ({"membershipRule": 7}, "must be text or null"),
        ({"members@odata.bind": ["https://x/v1.0/directoryObjects/ann"]}, "follow from it"),
    ],
)
def test_a_new_dynamic_group_that_cannot_be_is_refused(
    directory: Console, body: dict[str, Any], says: str
) -> None:
    refused(directory, "POST", "groups", {**DYNAMIC, **body}, says)
    assert call(directory, "GET", "groups")["value"] == []


def test_members_of_a_rule_are_not_added_or_removed(directory: Console) -> None:
    group = call(directory, "POST", "groups", DYNAMIC, 201)["id"]
    bob = {"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/bob"}
    says = "follow from its membership rule"
    refused(directory, "POST", f"groups/{group}/members/$ref", bob, says)
    refused(directory, "DELETE", f"groups/{group}/members/ann/$ref", None, says)
    plain = call(directory, "POST", "groups", GROUP, 201)["id"]
    refused(directory, "PATCH", f"groups/{plain}", {"membershipRule": RULE}, "need groupTypes")
    both = {"groupTypes": ["DynamicMembership"], "membershipRule": RULE}
    call(directory, "PATCH", f"groups/{plain}", both, 204)
    assert call(directory, "GET", f"groups/{plain}")["membershipRule"] == RULE


def test_the_members_of_a_rule_are_listed(directory: Console) -> None:
    """The group need not have licences; an event about members does not count."""
    group = call(directory, "POST", "groups", DYNAMIC, 201)["id"]
    plain = call(directory, "POST", "groups", {**GROUP, "displayName": "Plain"}, 201)["id"]
    make = Events(run="m")
    directory.world.publish([make.join("bob", group), make.join("bob", plain)])

    def ids(path: str) -> list[str]:
        return [each["id"] for each in call(directory, "GET", path)["value"]]

    def members() -> list[str]:
        found = ids(f"groups/{group}/members")
        assert directory.client.get(f"/v1.0/groups/{group}/members/$count").text == str(len(found))
        listed = directory.client.get(f"/v1/tenants/contoso/groups/{group}/members").json()
        assert [each["id"] for each in listed["value"]] == found
        (expanded,) = call(directory, "GET", f"groups?$filter=id eq '{group}'&$expand=members")[
            "value"
        ]
        assert [each["id"] for each in expanded["members"]] == found
        return found

    assert members() == ["ann"]
    assert ids("users/ann/memberOf") == [group]
    assert ids("users/bob/memberOf") == [plain]
    directory.world.publish([make.user("bob", attributes={"department": "sales"})])
    assert members() == ["ann", "bob"]
    assert sorted(ids("users/bob/memberOf")) == sorted([group, plain])
    directory.world.publish([make.user("ann", attributes={"department": None})])
    assert members() == ["bob"]
    call(directory, "PATCH", f"groups/{group}", {"groupTypes": []}, 204)
    assert members() == ["bob"]
    assert ids("users/ann/memberOf") == []
