"""Membership rules and attributes in pages of Graph (R27)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.contract.event_reader import event_of
from streams.ingest import FeedItem
from streams.ingest.graph import GraphFeed, events_from_graph
from streams.whatif import Simulation

RULE = 'user.department -eq "Sales"'
MEMBERS: dict[str, Any] = {"members@delta": [{"id": "u"}]}


def feed_of(folder: Path, *pages: dict[str, Any]) -> GraphFeed:
    for number, page in enumerate(pages):
        (folder / f"{number}.json").write_text(json.dumps(page))
    return events_from_graph(folder, "t")


def listed(kind: str, *objects: dict[str, Any], delta: bool = False) -> dict[str, Any]:
    context = f"https://graph.microsoft.com/v1.0/$metadata#{kind}"
    return {"@odata.context": context + ("/$delta" if delta else ""), "value": list(objects)}


def dynamic(id: str, rule: str = RULE, **members: Any) -> dict[str, Any]:
    kind = {"groupTypes": ["DynamicMembership"], "membershipRuleProcessingState": "On"}
    return {"id": id, **kind, "membershipRule": rule, **members}


def bodies(feed: GraphFeed, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(item.value) for item in feed.parts()[0] if isinstance(item, FeedItem)]
    return [each for each in found if each["type"] == kind]


def only(feed: GraphFeed, kind: str) -> dict[str, Any]:
    (found,) = bodies(feed, kind)
    return {name: value for name, value in found.items() if name not in ("id", "time", "tenant")}


def test_the_attributes_of_a_user_have_the_names_of_rules(tmp_path: Path) -> None:
    user = {
        "id": "u",
        "userPrincipalName": "u@x.example",
        "department": None,
        "officeLocation": "2/07",
        "businessPhones": ["+49 1", "+49 2"],
        "accountEnabled": False,
        "otherMails": ["u@home.example"],
        "employeeOrgData": {"@odata.type": "x", "costCenter": "C1"},
        "onPremisesExtensionAttributes": {"extensionAttribute3": "x", "extensionAttribute4": None},
        "extension_0a1b_badge": "7",
        "aboutMe": "is no property of rules",
    }
    event = only(feed_of(tmp_path, listed("users", user)), "user.upserted")
    assert event["attributes"] == {
        "department": None,
        "officeLocation": "2/07",
        "telephoneNumber": "+49 1",
        "accountEnabled": False,
        "otherMails": ["u@home.example"],
        "costCenter": "C1",
        "extensionAttribute3": "x",
        "extensionAttribute4": None,
        "extension_0a1b_badge": "7",
    }


def test_an_object_that_is_null_clears_what_was_in_it(tmp_path: Path) -> None:
    user = {"id": "u", "employeeOrgData": None, "onPremisesExtensionAttributes": None}
    event = only(feed_of(tmp_path, listed("users", user, delta=True)), "user.upserted")
    cleared = event["attributes"]
    assert set(cleared.values()) == {None}
    assert len(cleared) == 2 + 15


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (dynamic("g"), {"membershipRule": RULE, "membershipRuleProcessingState": "On"}),
        (
            dynamic("g", membershipRuleProcessingState="Paused"),
            {"membershipRule": RULE, "membershipRuleProcessingState": "Paused"},
        ),
        ({"id": "g", "membershipRule": RULE}, {"membershipRule": RULE}),
        # Made an assigned group: Entra keeps the text.
        (dynamic("g", groupTypes=["Unified"]), {"membershipRule": None}),
        ({"id": "g", "membershipRule": None}, {"membershipRule": None}),
        # Licences and devices: nothing that is read here.
        (dynamic("g", rule="user.assignedPlans -eq 1"), {"membershipRule": None}),
        ({"id": "g", "displayName": "G"}, {"displayName": "G"}),
    ],
    ids=["on", "paused", "no types", "assigned", "null", "unreadable", "not told"],
)
def test_a_page_of_a_group_gives_its_rule(
    tmp_path: Path, group: dict[str, Any], expected: dict[str, Any]
) -> None:
    event = only(feed_of(tmp_path, listed("groups", group, delta=True)), "group.upserted")
    assert event == {"type": "group.upserted", "group": "g", **expected}


@pytest.mark.parametrize("rule", [5, ["x"], {"text": RULE}], ids=["number", "list", "object"])
def test_a_rule_that_is_no_text_is_refused(tmp_path: Path, rule: Any) -> None:
    feed = feed_of(tmp_path, listed("groups", {"id": "g", "membershipRule": rule}))
    (problem,) = list(feed)
    assert "membershipRule is" in str(problem)


@pytest.mark.parametrize(
    ("rule", "user", "words"),
    [
        (
            RULE,
            {"userPrincipalName": "u@x.example"},
            "the rule names department, which no user of the export has",
        ),
        ("device.model -eq 1", {"department": "Sales"}, "the membership rule cannot be read here"),
    ],
    ids=["not selected", "unreadable"],
)
def test_a_group_whose_rule_cannot_be_used_keeps_its_members_and_says_why(
    tmp_path: Path, rule: str, user: dict[str, Any], words: str
) -> None:
    group = dynamic("g", rule, **MEMBERS)
    feed = feed_of(tmp_path, listed("groups", group), listed("users", {"id": "u", **user}))
    (warning,) = feed.warnings
    assert only(feed, "group.upserted")["membershipRule"] is None
    assert only(feed, "membership.added")["group"] == "g"
    assert warning.startswith("1 groups keep the members that the pages list")
    assert f"e.g. g: {words}" in warning


def test_a_changed_department_moves_a_member_whom_graph_has_not_moved_yet(tmp_path: Path) -> None:
    pages = [
        listed("groups", dynamic("g", **MEMBERS)),
        listed("users", {"id": "u", "department": "sales"}),
    ]
    (tmp_path / "first").mkdir()
    (tmp_path / "next").mkdir()
    simulation = Simulation()

    def groups_after(feed: GraphFeed) -> list[str]:
        simulation.run(event_of(item.value) for item in feed if isinstance(item, FeedItem))  # type: ignore[misc]
        return list(simulation.machine.configuration.tenants["t"].users["u"].groups)

    assert groups_after(feed_of(tmp_path / "first", *pages)) == ["g"]
    moved = listed("users", {"id": "u", "department": "Research"}, delta=True)
    assert groups_after(feed_of(tmp_path / "next", moved)) == []


def test_a_user_with_an_invalid_attribute_is_refused_as_a_whole(tmp_path: Path) -> None:
    states = [{"skuId": "e3", "state": "Active", "assignedByGroup": None}]
    user = {"id": "u", "department": {"name": "Sales"}, "licenseAssignmentStates": states}
    (problem,) = list(feed_of(tmp_path, listed("users", user, delta=True)))
    assert "attributes.department" in str(problem)
