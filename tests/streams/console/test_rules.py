"""R27 in the console: the members of a group with a rule, and what is not foretold."""

from __future__ import annotations

from typing import Any

from tests.streams.console.conftest import Console
from tests.support.system import Events

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


def test_rules_and_attributes_are_not_foretold(console: Console) -> None:
    ruled(console)
    for event in (
        {"type": "group.upserted", "group": "g", "membershipRule": None},
        {"type": "user.upserted", "user": "ann", "attributes": {"department": "HR"}},
    ):
        answer = whatif(console, event)
        assert answer.status_code == 400
        assert "membership rules are not foretold yet" in answer.text
    renamed = whatif(console, {"type": "user.upserted", "user": "ann", "displayName": "Ann"})
    assert renamed.json()["changes"] == []
