"""The shared scenarios on the engine itself, without Kafka: in order, shuffled, and restarted."""

from __future__ import annotations

import pathlib
import random

import pytest

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.decoder import DECODERS, Rejected
from tests.support.scenario_player import SCENARIOS, Published, play, play_all


class EngineTarget:
    """A cluster in memory behind the real input contract."""

    def __init__(self, seed: int | None = None, restarts: bool = False) -> None:
        self.cluster = InMemoryCluster(partitions=4)
        self.random = None if seed is None else random.Random(seed)
        self.restarts = restarts
        self.dead: list[Published] = []
        self.clock = 1_700_000_000_000

    def publish(self, topic: str, key: str, value: bytes) -> None:
        self.clock += 1
        decoded = DECODERS[topic](key.encode(), value, ())
        if isinstance(decoded, Rejected):
            self.dead.append(("dead-letters", key, value))
        else:
            event, source = decoded
            self.cluster.publish(topic, key, event, self.clock, source)

    def settle(self) -> None:
        self.cluster.settle(self.random)
        if self.restarts:
            for p in range(self.cluster.partitions):
                self.cluster.restart(p)
            self.cluster.settle(self.random)

    def records(self) -> list[Published]:
        return [*((r.topic, r.key, r.value) for r in self.cluster.outputs), *self.dead]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_engine_passes_the_scenario(path: pathlib.Path) -> None:
    assert play(path, EngineTarget()) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_engine_passes_them_all_in_any_interleaving(seed: int) -> None:
    failures = play_all(SCENARIOS, EngineTarget(seed))
    assert {name: some for name, some in failures.items() if some} == {}


def test_the_engine_passes_them_all_when_every_step_ends_with_a_restart() -> None:
    failures = play_all(SCENARIOS, EngineTarget(seed=7, restarts=True))
    assert {name: some for name, some in failures.items() if some} == {}
