"""R24 beyond the last 64 events of an object: what a replay of old events does, and does not."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from engine.domain import events as ev
from engine.domain.deduplication import WINDOW_EVENTS
from engine.simulation.in_memory_cluster import InMemoryCluster

AT = 1_764_000_000_000
EVENTS = 3 * WINDOW_EVENTS


def _history(seed: int) -> list[ev.MembershipAdded | ev.MembershipRemoved]:
    random = Random(seed)
    kinds = (ev.MembershipAdded, ev.MembershipRemoved)
    return [
        random.choice(kinds)(f"e{n}", "t", "u", random.choice(("g1", "g2", "g3")))
        for n in range(EVENTS)
    ]


def _groups(cluster: InMemoryCluster) -> set[str]:
    return set(cluster.machines[0].configuration.tenants["t"].users["u"].groups)


def _played(history: list[ev.MembershipAdded | ev.MembershipRemoved]) -> InMemoryCluster:
    cluster = InMemoryCluster(partitions=1)
    user = ev.UserUpserted("user", "t", "u")
    for n, event in enumerate([user, *history]):
        cluster.publish("user-changes", "t/u", event, AT + n)
    cluster.settle()
    return cluster


@pytest.mark.parametrize("start", [0, 1, 60, 100, EVENTS - WINDOW_EVENTS - 1, EVENTS - 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_replay_in_order_to_the_end_ends_in_the_same_memberships(seed: int, start: int) -> None:
    history = _history(seed)
    cluster = _played(history)
    before = _groups(cluster)
    for n, event in enumerate(history[start:]):
        cluster.publish("user-changes", "t/u", event, AT + 10_000 + n)
    cluster.settle()
    assert _groups(cluster) == before


def test_one_of_the_last_64_events_is_never_applied_again() -> None:
    history = _history(1)
    cluster = _played(history)
    before = _groups(cluster)
    for event in reversed(history[-WINDOW_EVENTS:]):
        cluster.publish("user-changes", "t/u", event, AT + 10_000)
    cluster.settle()
    assert _groups(cluster) == before


def test_a_single_older_event_is_a_new_one() -> None:
    """The limit in docs/guarantees.md, *Old repetitions*; nothing in the event tells it apart."""
    join, leave = ev.MembershipAdded("a", "t", "u", "g"), ev.MembershipRemoved("b", "t", "u", "g")
    others = [ev.MembershipAdded(f"e{n}", "t", "u", f"g{n % 9}") for n in range(WINDOW_EVENTS)]
    cluster = _played([join, leave, *others])
    assert "g" not in _groups(cluster)
    cluster.publish("user-changes", "t/u", join, AT + 10_000)
    cluster.settle()
    assert "g" in _groups(cluster)


def test_an_older_event_that_states_what_holds_changes_nothing() -> None:
    """R24: the last event of each fact is harmless, however long ago it was."""
    last: list[Any] = [
        ev.UserUpserted("location", "t", "u", usage_location="US"),
        ev.MembershipAdded("join", "t", "u", "g"),
        ev.MembershipAdded("came", "t", "u", "left"),
        ev.MembershipRemoved("leave", "t", "u", "left"),
    ]
    others = [ev.MembershipAdded(f"e{n}", "t", "u", f"g{n % 9}") for n in range(WINDOW_EVENTS)]
    cluster = InMemoryCluster(partitions=1)
    licence = ev.GroupLicensesChanged("licence", "t", "g", (("s", ()),), ())
    cluster.publish("catalog", "s", ev.ProductDefined("s", "s", "S", "s", ()), AT)
    cluster.publish("tenants", "t", ev.TenantUpdated("t", "t", None), AT)
    cluster.publish("subscriptions", "t/s", ev.SubscriptionUpdated("s", "t", "s", 5, 0, 0, 0), AT)
    cluster.publish("group-changes", "t/g", licence, AT)
    for n, event in enumerate([*last, *others]):
        cluster.publish("user-changes", "t/u", event, AT + n)
    cluster.settle()
    before = [record for record in cluster.outputs if record.topic != "group-status"]
    assert "g" in _groups(cluster)
    assert any(record.topic == "user-licenses" for record in before)
    for n, event in enumerate(event for event in last if event.id != "came"):
        cluster.publish("user-changes", "t/u", event, AT + 10_000 + n)
    cluster.settle()
    assert [record for record in cluster.outputs if record.topic != "group-status"] == before
