"""The simulator plants a bug: an event at which the machine fails when it is half through.

Everything but that event is applied as if it had never come; it is a dead letter, and nothing of it
is half done.
"""

from __future__ import annotations

from random import Random

import pytest

from engine.simulation.last_defence import DEAD_LETTERS
from engine.simulation.runner import config_for, run
from engine.simulation.scheduler import Simulation
from engine.simulation.simulation_config import SimulationConfig
from tests.engine.simulation.test_oracle import comparable, left_open, overtaken, seatless
from tests.spec.documents import short_form
from tests.spec.world import World
from tests.support.generators import contract_json, inputs


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_everything_else_goes_on_under_every_fault(first: int) -> None:
    """All invariants of the simulator hold, with one to three poisoned events in each history."""
    for seed in range(first, first + 40):
        config = config_for(seed)
        random = Random(seed)
        ids = sorted({i.event.id for i in config.inputs})
        poison = frozenset(random.sample(ids, min(len(ids), random.randint(1, 3))))
        stalls = frozenset(id for id in sorted(poison) if random.random() < 0.4)
        s = run(config._replace(poison=poison - stalls, stalls=stalls))
        letters = {o.value["id"] for o in s.broker.outputs if o.topic == DEAD_LETTERS}
        assert letters == poison, f"seed {seed}"
        caused = {
            o.value.get("causedBy") for o in s.broker.outputs if o.topic != DEAD_LETTERS and o.value
        }
        assert not caused & poison, f"seed {seed}: half done"


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_the_outcome_is_that_of_the_rules_without_the_event(first: int) -> None:
    for seed in range(first, first + 20):
        _play(seed)


def _play(seed: int, events: int = 30) -> None:
    random, world, at, held = Random(seed), World(), 0, []
    history = inputs(seed, events)
    poison = frozenset(i.event.id for i in random.sample(history, 3))
    s = Simulation(SimulationConfig(seed, 1, 1, (), frozenset(), 0, poison))
    for i in history:
        at = max(at + 1, i.at)
        poisoned = i.event.id in poison
        if not poisoned and left_open(world, i):
            continue
        offset = len(s.broker.logs[i.topic, 0])
        s.publish(i._replace(at=at))
        held.append(i)
        if poisoned:
            continue  # the next event comes in the same slice
        s.settle()
        world.apply(i.topic, contract_json(i.event), (at, offset))
        log = [(o.topic, o.key, o.value) for o in s.broker.outputs if o.topic != DEAD_LETTERS]
        for tenant in world.tenants:
            ours, theirs = comparable(short_form(log, tenant)), comparable(world.state(tenant))
            if ours != theirs and overtaken(ours, theirs):
                return
            if ours != theirs:
                assert seatless(ours) == seatless(theirs), f"seed {seed}, {i}"
                return  # they differ only in the error of a group that lacks a seat
    s.settle()
    letters = [o.value["id"] for o in s.broker.outputs if o.topic == DEAD_LETTERS]
    assert sorted(letters) == sorted(i.event.id for i in held if i.event.id in poison)
