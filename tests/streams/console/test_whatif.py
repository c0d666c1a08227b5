"""The what-if trial: the outcome on the copy is the real one, and nothing else is changed."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from streams.console.whatif import affected_users
from streams.console.whatif.affected_users import EventNotReadableError, ScopeTooLargeError
from streams.console.whatif.process import WhatIfError, read_events
from streams.console.whatif.replica import TenantReplica
from streams.contract.decoder import DECODERS, Rejected
from streams.demo.scenario import Step, demo_steps
from streams.whatif.comparison import state_of
from tests.streams.console.conftest import Console
from tests.streams.console.local import World, demo
from tests.support.system import Events

MOST = 100_000
States = dict[str, dict[tuple[str, str], tuple[str, str]]]


def really(world: World) -> States:
    """User -> (skuId, group) -> state, error; as the engine behind the console has it."""
    found: States = {}
    for machine in world.cluster.machines:
        for id, user in machine.configuration.tenant("contoso").users.items():
            found[id] = {
                (s.sku, user.path(s.path_index)): (s.state, s.reason.error)
                for s in user.outcome.states
            }
    return found


def copied(copy: TenantReplica) -> States:
    return {
        user.id: {
            path: (state.state, state.reason.error)
            for path, state in state_of(user).by_path().items()
        }
        for user in copy.simulation.machine.configuration.tenant("contoso").users.values()
    }


def bodies(step: str) -> list[Any]:
    """The events of a step of the demo that can be read."""
    records = next(s.records for s in demo_steps() if s.name == step)
    return [
        orjson.loads(value)
        for topic, key, value in records
        if topic in DECODERS and not isinstance(DECODERS[topic](key, value, None), Rejected)
    ]


STEPS = ("Group changes", "A new product", "Direct licences", "Moves", "Endings", "Seats")


def test_the_copy_foretells_what_happens(console: Console) -> None:
    """Step by step: every user reached ends as foretold, the others stay, and seats agree."""
    demo(console.world, until=STEPS[0])
    for step in demo_steps():
        if step.name in STEPS:
            foretell(console, step)


def foretell(console: Console, step: Step) -> None:
    before = really(console.world)
    db, events = console.service.store.read_connection(), bodies(step.name)
    given = affected_users.decoded("contoso", events)
    users = affected_users.reached(db, "contoso", given, MOST)
    copy = TenantReplica(db, "contoso", users, console.world.at)
    same = copied(copy)
    assert {id: before[id] for id in same} == same, "the copy is not the present state"
    copy.apply(given)
    foretold, seats = copied(copy), copy.seats()
    console.world.steps([step])
    after = really(console.world)
    wrong = {id: (foretold[id], after[id]) for id in foretold if foretold[id] != after.get(id, {})}
    assert wrong == {}, step.name
    missed = [id for id in before.keys() - foretold.keys() if before[id] != after.get(id, {})]
    assert missed == [], step.name
    for sku, (units, consumed, waiting, _) in seats.items():
        row = db.execute("SELECT * FROM seats WHERE tenant='contoso' AND sku=?", (sku,)).fetchone()
        if row is not None:
            figures = (row["consumed"] + row["available"], row["consumed"], row["waiting"])
            assert figures == (units, consumed, waiting), step.name


def test_the_answer_names_who_fails_and_what_is_short(console: Console) -> None:
    """Three users ask for a product of two seats: one fails for it, and it is one seat short."""
    make = Events()
    console.world.publish([make.product("e3"), make.seats("e3", 2), make.license("g", "e3")])
    console.world.publish([make.user("ann"), make.join("ann", "g"), make.user("bob")])
    console.world.publish([make.user("cid")])
    asked = {
        "events": [
            {"type": "membership.added", "user": "bob", "group": "g"},
            {"type": "membership.added", "user": "cid", "group": "g"},
        ]
    }
    answer = console.client.post("/v1/tenants/contoso/whatif", json=asked).json()
    assert [(f["user"], f["error"]) for f in answer["failures"]] == [("cid", "CountViolation")]
    assert "buy more" in answer["failures"][0]["message"]
    assert [(c["user"], c["change"]) for c in answer["changes"]] == [("bob", "gained")]
    (seats,) = answer["seats"]
    assert tuple(
        seats[name] for name in ("units", "consumedBefore", "consumed", "available", "short")
    ) == (2, 1, 2, 0, 1)
    bob = console.client.get("/v1/tenants/contoso/users/bob").json()
    assert bob["licenseAssignmentStates"] == [], "it was not to be applied"


def test_a_product_that_is_off_is_foretold_and_explained(console: Console) -> None:
    """R15: the copy disables and enables as the workers do; the explanation names the rule."""
    make = Events()
    world = console.world
    world.publish([make.product("e3"), make.seats("e3", 2), make.user("ann"), make.user("bob")])
    world.publish([make.assign("ann", "e3"), make.assign("bob", "e3")])
    cancel = {"type": "subscription.deleted", "skuId": "e3"}
    answer = console.client.post("/v1/tenants/contoso/whatif", json={"events": [cancel]}).json()
    assert [(c["user"], c["change"]) for c in answer["changes"]] == [
        ("ann", "disabled"),
        ("bob", "disabled"),
    ]
    assert answer["failures"] == []
    world.publish([make.cancel("e3")])
    sku = console.client.get("/v1/tenants/contoso/subscribedSkus").json()["value"][0]
    assert (sku["capabilityStatus"], sku["availableUnits"]) == ("Deleted", -2)
    told = console.client.get("/v1/tenants/contoso/users/ann/explain").json()["products"][0]
    assert told["held"]
    assert "disabled" in told["verdict"]
    assert "R15" in [s["rule"] for s in told["paths"][0]["sentences"]]
    again = {"type": "subscription.updated", "skuId": "e3", "prepaidUnits": {"warning": 2}}
    answer = console.client.post("/v1/tenants/contoso/whatif", json={"events": [again]}).json()
    assert {(c["user"], c["change"]) for c in answer["changes"]} == {
        ("ann", "enabled"),
        ("bob", "enabled"),
    }


def test_a_rejection_is_told(console: Console) -> None:
    """A change that the rules reject comes back with the rule's message."""
    make = Events()
    console.world.publish([make.product("e3"), make.seats("e3", 2), make.user("ann")])
    change = {"type": "licenses.changed", "user": "ann", "removeLicenses": ["e3"]}
    answer = console.client.post("/v1/tenants/contoso/whatif", json={"events": [change]}).json()
    assert [(r["status"], r["error"]) for r in answer["results"]] == [("rejected", "NotAssigned")]


@pytest.mark.parametrize("events", [[{"n": 1e400}], [{"n": 10**30}], [{"s": "\ud800"}]])
def test_what_no_topic_carries_is_refused(console: Console, events: Any) -> None:
    """Numbers and text that Python reads and a topic cannot have: 400, not a failure."""
    answer = console.client.post(
        "/v1/tenants/contoso/whatif",
        content=json.dumps({"events": events}),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (400, 404)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ([], "not an object"),
        ({"type": "user.exploded", "user": "u"}, "user.exploded"),
        ({"type": "weather"}, "it must be one of"),
        ({"type": "user.deleted", "user": "a b"}, "user is 'a b'"),
        ({"type": "user.deleted", "user": "u", "tenant": "fabrikam"}, "another tenant"),
    ],
)
def test_bad_events_are_refused_with_a_reason(event: Any, says: str) -> None:
    """By the workers' own decoder, with the number of the event."""
    with pytest.raises(EventNotReadableError, match="event 1") as refused:
        affected_users.decoded("contoso", [event])
    assert says in str(refused.value)


def test_too_many_users_are_not_tried(console: Console) -> None:
    """The limit is reported before anything is copied."""
    make = Events()
    console.world.publish([make.join(f"u{n}", "g") for n in range(5)])
    given = affected_users.decoded("contoso", [{"type": "group.deleted", "group": "g"}])
    with pytest.raises(ScopeTooLargeError, match="more than 3 users"):
        affected_users.reached(console.service.store.read_connection(), "contoso", given, 3)


def test_events_are_pasted_in_any_form() -> None:
    """JSON Lines, an array, one object, an object with events; nothing and rubbish are refused."""
    one, two = {"type": "a"}, {"type": "b"}
    lines = f"{json.dumps(one)}\n\n{json.dumps(two)}\n"
    for text in (lines, json.dumps([one, two]), json.dumps({"events": [one, two]})):
        assert [one, two] == read_events(text)
    assert [one] == read_events(json.dumps(one))
    for text in ("", "   \n", '{"type":'):
        with pytest.raises(WhatIfError):
            read_events(text)


def test_computed_mail_attributes_are_known_to_a_what_if(console: Console) -> None:
    """R19: Ann would get ann@contoso.example by her plan, so Bob, who wants it, would fail."""
    make = Events()
    topic, key, value = make.product("e3")
    mail = {"servicePlanId": "mail", "mailEnabled": True}
    product = topic, key, json.dumps({**json.loads(value), "servicePlans": [mail]}).encode()
    domain = make.tenant_settings(usageLocation="US", initialDomain="contoso.example")
    console.world.publish([product, make.seats("e3", 9), domain, make.license("g", "e3")])
    ann = make.user("ann", userPrincipalName="ann@x.example", mailNickname="Ann.A")
    console.world.publish([ann, make.user("bob"), make.user("cid", mailNickname="cid")])
    console.world.publish([make.join("cid", "g")])
    shown = console.client.get("/v1/tenants/contoso/users/cid").json()
    assert (shown["mailNickname"], shown["proxyAddresses"]) == ("cid", ["SMTP:cid@contoso.example"])
    wanted = ["smtp:ann.a@contoso.example"]
    asked = {
        "events": [
            {"type": "membership.added", "user": "ann", "group": "g"},
            {"type": "user.upserted", "user": "bob", "proxyAddresses": wanted},
            {"type": "membership.added", "user": "bob", "group": "g"},
        ]
    }
    answer = console.client.post("/v1/tenants/contoso/whatif", json=asked).json()
    (failure,) = answer["failures"]
    assert (failure["user"], failure["error"]) == ("bob", "UniquenessViolation")
