"""R22 in the console: users in the recycle bin, with what they are given when they are restored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from streams.console.read_model import queries
from streams.console.read_model.store import Store
from tests.streams.console.conftest import Console
from tests.streams.console.local import Rec
from tests.streams.console.test_read_model import put, rec
from tests.streams.console.test_whatif import really
from tests.support.system import Events


@pytest.mark.parametrize("together", [True, False])
def test_a_user_in_the_recycle_bin_comes_back_as_it_was(store: Store, together: bool) -> None:
    make = Events()
    records = [
        rec(make.user("ann", displayName="Ann", proxyAddresses=["SMTP:a@x.example"]), 1),
        rec(make.join("ann", "g"), 2),
        rec(make._of_user("ann", "user.deleted", restorable=True), 3),
        rec(make.join("ann", "h"), 4),
    ]
    for batch in [records] if together else [[record] for record in records]:
        put(store, "user-changes", *batch)
    db = store.read_connection()
    assert queries.user(db, "contoso", "ann") is None
    assert db.execute("SELECT count(*) FROM addresses").fetchone()[0] == 0
    put(store, "user-changes", rec(make.user("ann", userPrincipalName="ann@x.example"), 5))
    found = queries.user(db, "contoso", "ann")
    assert found is not None
    assert (found["displayName"], found["userPrincipalName"]) == ("Ann", "ann@x.example")
    assert [m["id"] for m in queries.memberships(db, "contoso", "ann")] == ["g", "h"]
    claims = [tuple(row) for row in db.execute("SELECT address, since FROM addresses")]
    assert claims == [("smtp:a@x.example", 5)]
    put(store, "user-changes", rec(make._of_user("ann", "user.deleted", restorable=True), 6))
    put(store, "user-changes", rec(make._of_user("ann", "user.deleted"), 7), rec(make.user("ann")))
    found = queries.user(db, "contoso", "ann")
    assert found is not None
    assert found["displayName"] is None
    assert queries.memberships(db, "contoso", "ann") == []


def published(*direct: str) -> Rec:
    """A state of Ann with these direct licences, and one through a group."""
    paths = [*((sku, None) for sku in direct), ("e3", "g")]
    moment = "2026-11-24T08:00:00.000Z"
    states: list[Any] = [
        {"skuId": s, "assignedByGroup": g, "disabledPlans": [], "state": "Active", "error": "None",
         "since": moment}
        for s, g in paths
    ]  # fmt: skip
    value = {
        "tenant": "contoso", "user": "ann", "usageLocation": "US", "mail": None, "revision": 1,
        "proxyAddresses": [], "assignedLicenses": [], "licenseAssignmentStates": states,
        "updatedAt": moment, "causedBy": "e1",
    }  # fmt: skip
    return Rec(b"contoso/ann", orjson.dumps(value), 1, 1)


TOMBSTONE = Rec(b"contoso/ann", None, 1, 1)


def merges(*lines: list[Any]) -> Iterator[list[Any]]:
    """All ways to merge the lines, each in its order."""
    if not any(lines):
        yield []
    for n, line in enumerate(lines):
        if line:
            for rest in merges(*lines[:n], line[1:], *lines[n + 1 :]):
                yield [line[0], *rest]


@pytest.mark.parametrize("together", [True, False])
def test_the_recycle_bin_has_the_direct_licences(store: Store, together: bool) -> None:
    """The last ones that were published, in whatever order the topics are read."""
    make = Events()
    gone = make._of_user("ann", "user.deleted", restorable=True)
    inputs = [("user-changes", rec(event)) for event in (gone, make.user("ann"), gone)]
    outputs = [("user-licenses", r) for r in (TOMBSTONE, published("project"), TOMBSTONE)]
    for order in merges(inputs, outputs):
        put(store, "user-changes", rec(make._of_user("ann", "user.deleted")), rec(make.user("ann")))
        put(store, "user-licenses", published("visio"))
        batches: list[tuple[str, list[Rec]]] = []
        for topic, record in order:
            if together and batches and batches[-1][0] == topic:
                batches[-1][1].append(record)
            else:
                batches.append((topic, [record]))
        for topic, records in batches:
            put(store, topic, *records)
        assert kept(store) == ["project"], order


def kept(store: Store) -> list[str]:
    """The products that the bin's one user had directly."""
    (row,) = store.read_connection().execute("SELECT direct FROM recycle_bin")
    return [sku for sku, _ in orjson.loads(row[0] or "[]")]


def test_what_could_not_be_restored_is_not_kept(store: Store) -> None:
    """Nothing was published of the restored user, so there is nothing to keep."""
    make = Events()
    gone = rec(make._of_user("ann", "user.deleted", restorable=True))
    put(store, "user-changes", rec(make.user("ann")))
    put(store, "user-licenses", published("visio"))
    put(store, "user-changes", gone)
    put(store, "user-licenses", TOMBSTONE)
    back = make.user("ann")
    put(store, "user-changes", rec(back))
    answer = {"causedBy": json.loads(back[2])["id"], "tenant": "contoso", "user": "ann"}
    answer["status"] = "applied"
    put(store, "results", Rec(b"contoso/ann", orjson.dumps(answer), 1, 1))
    put(store, "user-changes", gone)
    assert kept(store) == []


def test_an_adopted_licence_is_kept_before_it_is_published(store: Store) -> None:
    """R25: a snapshot's direct licences, of a user who is deleted before the first state of it."""
    make = Events()
    held = [
        {"skuId": "visio", "disabledPlans": ["p"], "state": "Active"},
        {"skuId": "e3", "assignedByGroup": "g", "disabledPlans": [], "state": "Active"},
    ]
    snapshot = make._of_user("ann", "user.snapshot", licenseAssignmentStates=held)
    gone = make._of_user("ann", "user.deleted", restorable=True)
    put(store, "user-changes", rec(snapshot), rec(gone))
    assert kept(store) == ["visio"]


def test_a_restored_user_is_foretold_with_what_it_had(console: Console) -> None:
    """R22: memberships count again, direct licences are asked for again, and addresses claimed."""
    make, world = Events(), console.world
    mail = {"servicePlanId": "mail", "mailEnabled": True}
    topic, key, value = make.product("mailbox")
    mailbox = topic, key, json.dumps({**json.loads(value), "servicePlans": [mail]}).encode()
    world.publish([make.product("e3"), make.product("visio"), make.product("project"), mailbox])
    world.publish([make.seats(sku, 5) for sku in ("e3", "visio", "mailbox")])
    world.publish([make.seats("project", 1), make.license("g", "e3"), make.license("m", "mailbox")])
    address = ["SMTP:a@contoso.example"]
    world.publish([make.user("ann", displayName="Ann", proxyAddresses=address), make.user("bob")])
    world.publish([make.join("ann", "g"), make.join("ann", "m"), make.assign("ann", "visio")])
    world.publish([make.assign("ann", "project")])
    world.publish([make._of_user("ann", "user.deleted", restorable=True)])
    world.publish([make.assign("bob", "project"), make.user("cid", proxyAddresses=address)])
    assert really(world)["ann"] == {}
    asked = {"events": [{"type": "user.upserted", "user": "ann", "usageLocation": "US"}]}
    answer = console.client.post("/v1/tenants/contoso/whatif", json=asked).json()
    gained = {(c["user"], c["displayName"], c["skuId"]) for c in answer["changes"]}
    assert gained == {("ann", "Ann", "e3"), ("ann", "Ann", "visio")}
    failures = [(f["user"], f["skuId"], f["error"]) for f in answer["failures"]]
    assert failures == [("ann", "mailbox", "UniquenessViolation")]
    (result,) = answer["results"]
    assert result["details"]["notRestored"][0]["skuId"] == "project"
    world.publish([make.user("ann")])
    assert really(world)["ann"] == {
        ("e3", "g"): ("Active", "None"),
        ("visio", ""): ("Active", "None"),
        ("mailbox", "m"): ("Error", "UniquenessViolation"),
    }


def test_a_user_who_arrives_is_foretold_with_its_memberships(console: Console) -> None:
    """R22: a membership of an unknown user is kept, and evaluated when the user arrives."""
    make = Events()
    console.world.publish([make.product("e3"), make.seats("e3", 1), make.license("g", "e3")])
    console.world.publish([make.join("dan", "g")])
    asked = {"events": [{"type": "user.upserted", "user": "dan", "usageLocation": "US"}]}
    answer = console.client.post("/v1/tenants/contoso/whatif", json=asked).json()
    assert [(c["user"], c["skuId"], c["change"]) for c in answer["changes"]] == [
        ("dan", "e3", "gained")
    ]
