"""The whole system in memory: logs as lists, one machine per partition, every batch a transaction.

Used by dry runs, by the simulator, and by tests that need no Kafka. Time is what events carry.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from engine.domain.effects import as_json
from engine.domain.events import Delivered
from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.domain.partitioner import partition_of
from engine.partition_machine import PartitionMachine

INTERNAL = (
    "internal.configuration",
    "internal.seat-grants",
    "internal.address-verdicts",
    "internal.seat-requests",
    "internal.group-reports",
    "internal.address-claims",
)
INPUTS = ("catalog", "tenants", "subscriptions", "group-changes", "user-changes")


class Output(NamedTuple):
    """A committed output record; ``value`` is decoded JSON, None for a tombstone."""

    topic: str
    partition: int
    key: str
    value: Any


class InMemoryCluster:
    """P partitions whose logs and changelogs survive their machines."""

    def __init__(self, partitions: int = 8, limits: Limits = DEFAULT_LIMITS) -> None:
        self.partitions, self.limits = partitions, limits
        self.logs: dict[tuple[str, int], list[Delivered]] = defaultdict(list)
        self.changelogs: list[dict[tuple[str, str], str]] = [{} for _ in range(partitions)]
        self.applied: list[dict[str, int]] = [{} for _ in range(partitions)]
        self.machines = [self._new_machine(p) for p in range(partitions)]
        self.outputs: list[Output] = []

    def _new_machine(self, p: int) -> PartitionMachine:
        return PartitionMachine(p, self.partitions, limits=self.limits)

    def publish(self, topic: str, key: str, event: Any, at: int, source: str = "") -> None:
        """Appends an input event to its partition's log."""
        self._append(topic, partition_of(key, self.partitions), event, at, source)

    def _append(self, topic: str, p: int, event: Any, at: int, source: str = "") -> None:
        log = self.logs[topic, p]
        log.append(Delivered(event, at, len(log), source))

    def lag(self, p: int) -> Iterator[tuple[str, int]]:
        """Yields the topics that partition ``p`` has not applied to the end, with their lag."""
        for topic in (*INTERNAL, *INPUTS):
            behind = len(self.logs[topic, p]) - self.applied[p].get(topic, 0)
            if behind:
                yield topic, behind

    def step(self, p: int, topic: str, records: int) -> None:
        """One transaction: up to ``records`` of one topic, and what they caused."""
        first = self.applied[p].get(topic, 0)
        batch = self.logs[topic, p][first : first + records]
        self.machines[p].handle(topic, batch)
        self.applied[p][topic] = first + len(batch)
        self.commit(p)

    def commit(self, p: int) -> None:
        """Moves the effects of the machine to the changelog, the logs and the outputs."""
        effects = self.machines[p].drain_effects()
        changelog = self.changelogs[p]
        for place, row in effects.rows.items():
            if row is None:
                changelog.pop(place, None)
            else:
                changelog[place] = as_json(row)
        for topic, partition, key, value in effects.records:
            text = value if isinstance(value, bytes) else json.dumps(value)
            decoded: Any = None if value is None else json.loads(text)
            if topic.startswith("internal."):
                assert partition is not None
                self._append(topic, partition, decoded, decoded.get("at", 0))
            else:
                self.outputs.append(Output(topic, p, key, decoded))

    def restart(self, p: int) -> None:
        """Replaces the machine by one restored from the changelog, as after a crash."""
        machine = self.machines[p] = self._new_machine(p)
        for (table, key), row in self.changelogs[p].items():
            machine.load(table, key, json.loads(row))
        machine.start()
        self.commit(p)

    def settle(self, random: Random | None = None, records: int = 500, limit: int = 100_000) -> int:
        """Runs until nothing is left to do; in random order and batches if ``random`` is given.

        Returns the number of steps; raises RuntimeError if it does not end.
        """
        for steps in range(limit):
            work = [(p, topic, n) for p in range(self.partitions) for topic, n in self.lag(p)]
            if not work:
                if not sum(self._idle_work(p) for p in range(self.partitions)):
                    return steps
            elif random is None:
                p, topic, n = work[0]
                self.step(p, topic, min(n, records))
            else:
                p, topic, n = random.choice(work)
                self.step(p, topic, random.randint(1, min(n, records)))
                if random.random() < 0.2:
                    self._idle_work(random.randrange(self.partitions))
        raise RuntimeError(f"not settled after {limit} steps")

    def _idle_work(self, p: int) -> bool:
        machine = self.machines[p]
        busy = machine.has_background_work or machine.has_unreported_changes
        machine.run_background(100)
        machine.flush()
        self.commit(p)
        return busy
