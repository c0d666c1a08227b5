"""The simulation: its state may come from rows, its time is an input, and results may be kept."""

from __future__ import annotations

import json
from collections.abc import Iterable

from engine.documents.user_documents import published_states
from engine.simulation.in_memory_cluster import InMemoryCluster
from engine.state.tenant_state import User
from streams.contract.event_reader import Event, event_of
from streams.whatif import SeatFigures, Simulation, take_baseline
from streams.whatif.comparison import known, seat_figures, user_changes
from tests.streams.whatif.cases import NOW_MS, state
from tests.support.system import Events


def read(events: Iterable[tuple[str, str, bytes]]) -> list[Event]:
    found = [event_of(value) for _, _, value in events]
    assert all(isinstance(each, Event) for each in found)
    return found  # type: ignore[return-value]


def user(simulation: Simulation, id: str) -> User:
    return simulation.machine.configuration.tenant("contoso").users[id]


def test_a_simulation_of_a_changelogs_rows_continues_from_their_state() -> None:
    cluster = InMemoryCluster(1)
    simulation = Simulation(start_ms=NOW_MS)
    for step in state():
        for event in read(step):
            cluster.publish(event.topic, event.key.decode(), event.event, simulation.now_ms)
            simulation.run([event])
        cluster.settle()
    rows = {place: json.loads(row) for place, row in cluster.changelogs[0].items()}
    restored = Simulation(rows, simulation.now_ms)
    for each in (restored, simulation):
        each.run(read([Events(run="n").join("fay", "staff"), Events(run="m").join("eve", "few")]))
    states = [
        {u.id: published_states(u.outcome, u.paths) for u in known(each)}
        for each in (restored, simulation)
    ]
    assert states[0] == states[1]
    assert seat_figures(restored) == seat_figures(simulation)


def test_time_passes_by_a_millisecond_for_each_event_and_as_it_is_set() -> None:
    make = Events()
    simulation = Simulation(start_ms=NOW_MS)
    simulation.run(read([make.product("e3"), make.seats("e3", 9), make.license("g", "e3")]))
    assert simulation.now_ms == NOW_MS + 3
    simulation.run(read([make.user("ann"), make.join("ann", "g")]))
    simulation.now_ms = NOW_MS + 86_400_000
    simulation.run(read([make.user("bob"), make.join("bob", "g")]))
    assert user(simulation, "ann").since_of(0) == NOW_MS + 4
    assert user(simulation, "bob").since_of(0) == NOW_MS + 86_400_001


def test_applied_results_are_kept_if_asked_for() -> None:
    make = Events()
    events = [make.product("e3"), make.seats("e3", 1), make.user("ann"), make.assign("ann", "e3")]
    events.append(make.assign("nobody", "e3"))
    for keep_applied, statuses in ((False, ["rejected"]), (True, ["applied", "rejected"])):
        simulation = Simulation(keep_applied=keep_applied)
        simulation.run(read(events))
        assert sorted(result["status"] for result in simulation.results) == statuses
        assert simulation.result_counts == {"applied": 1, "rejected": 1}


def test_one_by_one_a_user_misses_the_seat_of_one_who_leaves_later() -> None:
    """In one batch the leaver never held it; seats that become free are not retried (R9)."""
    make = Events()
    setup = [make.product("e3"), make.seats("e3", 1), make.license("g", "e3")]
    setup.append(make.tenant_settings(policies={"seatRetry": "manual"}))
    setup += [make.user("ann"), make.user("bob")]
    tried = read([make.join("ann", "g"), make.join("bob", "g"), make.leave("ann", "g")])
    for one_by_one, licensed in ((False, ["bob"]), (True, [])):
        simulation = Simulation()
        simulation.run(read(setup))
        before = take_baseline(simulation)
        apply = simulation.run_one_by_one if one_by_one else simulation.run
        apply(tried)
        gained = [c.user for c in user_changes(before, simulation) if c.gained == {"e3"}]
        assert gained == licensed
        figures = seat_figures(simulation)["contoso", "e3"]
        assert figures == SeatFigures(1, len(licensed), 1 - len(licensed))


def test_a_user_who_is_deleted_loses_what_it_had() -> None:
    make = Events()
    simulation = Simulation()
    simulation.run(read([make.product("e3"), make.seats("e3", 1), make.license("g", "e3")]))
    simulation.run(read([make.user("ann"), make.join("ann", "g"), make.user("bob")]))
    before = take_baseline(simulation)
    simulation.run(read([make._of_user("ann", "user.deleted")]))
    bob, ann = user_changes(before, simulation)
    assert (bob.user, bob.exists, bob.lost) == ("bob", True, frozenset())
    assert (ann.user, ann.exists, ann.lost) == ("ann", False, frozenset({"e3"}))
