"""The reason why a user lost a licence: which event, about whom, from which row, sent by whom."""

from __future__ import annotations

import html
import re
from typing import Any

from streams.console.read_model.causes import origin, sentence
from tests.streams.console.conftest import Console
from tests.support.system import Events


def name(sku: str) -> str:
    return sku


def staffed(console: Console) -> Events:
    """Ann and Bob are in a group that gives e3."""
    make = Events(run="csv:9f3c52ab10de7744:")
    console.world.publish([make.product("e3"), make.product("e5"), make.seats("e3", 9)])
    console.world.publish([make.seats("e5", 9), make.license("sales", "e3")])
    console.world.publish([make.user("ann"), make.join("ann", "sales")])
    console.world.publish([make.user("bob"), make.join("bob", "sales")])
    return make


def lost(console: Console, user: str) -> list[dict[str, Any]]:
    found = console.client.get(f"/v1/tenants/contoso/users/{user}/explain").json()
    return list(found["lost"])


def why(console: Console, user: str) -> str:
    (one,) = lost(console, user)
    return sentence(one["cause"], user, name)


def test_a_membership_that_ended(console: Console) -> None:
    """With the row of the file that it came from, and the record of the topic."""
    make = staffed(console)
    assert lost(console, "ann") == []
    console.world.publish([make.leave("ann", "sales")])
    assert why(console, "ann") == "The user left the group sales"
    cause = lost(console, "ann")[0]["cause"]
    assert re.fullmatch(r"user-changes/0@\d+", cause["place"])
    assert (cause["file"], cause["row"]) == ("csv:9f3c52ab10de7744", 10)
    assert "row 10 of the file csv:9f3c52ab10de7744" in origin(cause)
    page = html.unescape(console.client.get("/t/contoso/users/ann").text)
    assert "Licences lost" in page
    assert "The user left the group sales" in page
    assert "everything that it changed" in page
    assert lost(console, "bob") == []


def test_a_group_that_gave_its_licence_up(console: Console) -> None:
    """By an operator in the console, whose name each member's page has."""
    staffed(console)
    answer = console.client.post(
        "/v1/tenants/contoso/groups/sales/assignLicense", json={"removeLicenses": ["e3"]}
    )
    assert answer.status_code == 200
    for user in ("ann", "bob"):
        assert why(console, user) == "The licences of the group sales were changed"
        cause = lost(console, user)[0]["cause"]
        assert cause["by"].endswith("on this machine")
        assert "in the console" in origin(cause)


def test_a_deleted_group(console: Console) -> None:
    make = staffed(console)
    key = "contoso/sales"
    deleted = make._event("group-changes", key, "group.deleted", tenant="contoso", group="sales")
    console.world.publish([deleted])
    assert why(console, "ann") == "The group sales was deleted"


def test_a_direct_licence_that_was_taken(console: Console) -> None:
    make = staffed(console)
    console.world.publish([make.assign("ann", "e5")])
    console.world.publish([make._of_user("ann", "licenses.changed", removeLicenses=["e5"])])
    assert why(console, "ann") == "The direct licences of the user were changed"


def test_a_snapshot_without_the_membership(console: Console) -> None:
    make = staffed(console)
    console.world.publish([make._of_user("ann", "user.snapshot", memberships=[])])
    assert why(console, "ann") == "The directory sent all that it knows of the user"


def test_a_licence_that_came_back_is_not_lost(console: Console) -> None:
    """One that is lost again has the latest cause."""
    make = staffed(console)
    console.world.publish([make.leave("ann", "sales")])
    console.world.publish([make.join("ann", "sales")])
    assert lost(console, "ann") == []
    log = html.unescape(console.client.get("/t/contoso/users/ann").text)
    assert "The user joined the group sales" in log
    console.world.publish([make.license("sales", "e5")])
    console.client.post(
        "/v1/tenants/contoso/groups/sales/assignLicense", json={"removeLicenses": ["e3"]}
    )
    assert why(console, "ann") == "The licences of the group sales were changed"


def test_a_cloud_event_has_its_source(console: Console) -> None:
    """The CloudEvents attribute names the system that the event came from."""
    make = staffed(console)
    body: dict[str, Any] = {
        "specversion": "1.0", "id": "left-1", "source": "/hr/leavers", "type": "membership.removed",
        "data": {"tenant": "contoso", "user": "ann", "group": "sales"},
    }  # fmt: skip
    console.world.publish([make._event("user-changes", "contoso/ann", **body)])
    assert "source /hr/leavers" in origin(lost(console, "ann")[0]["cause"])


def test_a_cause_that_is_not_known_any_more_is_named_by_its_event(console: Console) -> None:
    make = staffed(console)
    console.world.publish([make.leave("ann", "sales")])
    console.service.store.writer.execute("DELETE FROM causes")
    (one,) = lost(console, "ann")
    assert sentence(one["cause"], "ann", name) == "An event about the user or one of the groups"
    assert origin(one["cause"]).endswith(f"event {one['cause']['id']}")
