"""An in-memory stand-in for Kafka: logs, compacted changelogs, fenced transactions."""

from __future__ import annotations

import json
from random import Random
from typing import Any, NamedTuple

from engine.domain.effects import as_json
from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.partition_machine import PartitionMachine
from engine.simulation.forwarding import (
    FORWARDED_EVENTS,
    Forwarded,
    found_partition,
    owner_of,
)
from engine.simulation.in_memory_cluster import InMemoryCluster, Output

Place = tuple[str, str]
"""Table and key of a row."""


class Transaction(NamedTuple):
    """Effects of a machine since its last transaction, encoded so that the machine can continue.

    ``epoch``: the epoch of the producer that will commit it (KIP-98).
    """

    partition: int
    epoch: int
    applied: dict[str, int]
    rows: dict[Place, str | None]
    records: list[tuple[str, int, str, str | None]]
    forwarded: list[Forwarded]


class Broker(InMemoryCluster):
    """Logs outlive every worker. A partition's changelog keeps the last row of each place.

    ``prefetch_min_units``: the smallest grant ahead of need, small because tenants are small here;
    ``mixed``: producers use different partitioners (R29);
    ``journal``: input events and output documents in the order of their becoming visible, as
    (topic, partition, key, value).
    """

    def __init__(
        self,
        partitions: int,
        prefetch_min_units: int,
        limits: Limits = DEFAULT_LIMITS,
        mixed: bool = False,
    ) -> None:
        super().__init__(partitions, limits)
        self.mixed = mixed
        self.prefetch_min_units = prefetch_min_units
        self.machines = []  # workers have them
        self.epochs = [0] * partitions
        self.fenced = 0
        self.journal: list[tuple[str, int, str, Any]] = []

    def publish(self, topic: str, key: str, event: Any, at: int, source: str = "") -> None:
        """Appends an input event to the log where its producer puts it, and to the journal."""
        p = found_partition(key, self.partitions, self.mixed)
        self._append(topic, p, event, at, source)
        self.journal.append((topic, p, key, event))

    def fence(self, p: int) -> int:
        """Starts a new transactional producer for the partition; earlier ones are fenced."""
        self.epochs[p] += 1
        return self.epochs[p]

    def restored(self, p: int, random: Random) -> PartitionMachine:
        """Returns a machine restored from the changelog, its rows in random order."""
        machine = self._new_machine(p)
        machine.configuration.prefetch_min_units = self.prefetch_min_units
        rows = list(self.changelogs[p].items())
        random.shuffle(rows)
        for (table, key), row in rows:
            machine.load(table, key, json.loads(row))
        machine.start()
        return machine

    def append(self, t: Transaction) -> list[Output] | None:
        """Commits all or nothing; returns the outputs that became visible, or None if fenced."""
        if t.epoch != self.epochs[t.partition]:
            self.fenced += 1
            return None
        changelog = self.changelogs[t.partition]
        for place, row in t.rows.items():
            if row is None:
                changelog.pop(place, None)
            else:
                changelog[place] = row
        self.applied[t.partition] = t.applied
        for each in t.forwarded:
            self._append(FORWARDED_EVENTS, owner_of(each, self.partitions), each, each.found.at)
        first = len(self.outputs)
        for topic, p, key, text in t.records:
            value: Any = None if text is None else json.loads(text)
            if topic.startswith("internal."):
                self._append(topic, p, value, value["at"])
            else:
                self.outputs.append(Output(topic, p, key, value))
                self.journal.append((topic, p, key, value))
        return self.outputs[first:]

    def repeat(self, topic: str, p: int, offset: int) -> None:
        """Appends a message of the log once more, at its end."""
        event, at, _, source = self.logs[topic, p][offset]
        self._append(topic, p, event, at, source)


def seal_transaction(
    machine: PartitionMachine,
    p: int,
    epoch: int,
    applied: dict[str, int],
    forwarded: list[Forwarded],
) -> Transaction:
    """Returns the effects of the machine since its last transaction, encoded."""
    effects = machine.drain_effects()
    return Transaction(
        p,
        epoch,
        dict(applied),
        {place: None if row is None else as_json(row) for place, row in effects.rows.items()},
        [
            (topic, p if to is None else to, key, _text(value))
            for topic, to, key, value in effects.records
        ],
        forwarded,
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else json.dumps(value)
