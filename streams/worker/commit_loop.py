"""Commit loop: one transaction under way, and the next one being filled meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

from engine.domain.effects import Effects
from streams.contract.topics import CONSUMED
from streams.kafka.changelog_rows import ATTEMPTED
from streams.kafka.dead_letters import DeadLetter
from streams.kafka.forwarding import Forward
from streams.metrics.registry import WorkerMetrics
from streams.runtime.settings import Settings
from streams.worker.transaction import Transaction

# While a backlog or only a fan-out is worked off, nobody waits for a single record: fewer and
# larger transactions.
BACKLOG_COMMIT_INTERVALS = 4


class Uncommitted(IntEnum):
    """The most urgent kind of effect that waits for the next transaction."""

    NOTHING = 0
    BACKGROUND = 1  # fan-outs, reports, restored work
    INPUT = 2  # applied records: a client may wait for the outcome


class CommitLoop:
    """The transactions of a partition, one after the other.

    ``applied`` and ``committed`` are offsets by short topic name: of the next record that is not in
    the machine's state, and in the changelog, respectively.
    """

    def __init__(
        self,
        partition: int,
        settings: Settings,
        metrics: WorkerMetrics,
        on_committed: Callable[[], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._partition, self._settings, self._metrics = partition, settings, metrics
        self._on_committed, self._on_failed = on_committed, on_failed
        self.producer: Any = None  # set when the partition is fenced
        self.applied: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        self.uncommitted = Uncommitted.NOTHING
        self.in_flight: asyncio.Task[None] | None = None
        self._next: Transaction | None = None
        self._dead_letters: list[DeadLetter] = []
        self._forwarded: list[Forward] = []
        self._input_timestamps_ms: list[int] = []
        self._units = 0  # records handled and users fanned out since the last transaction began
        self._began_at = 0.0

    def start(self, offsets: dict[str, int]) -> None:
        """Sets the offsets after a restore; the machine may have messages to repeat."""
        self.applied, self.committed = dict(offsets), dict(offsets)
        self.add_work(Uncommitted.BACKGROUND)

    # --- filling the next transaction ------------------------------------------------------------

    def add_work(self, kind: Uncommitted, units: int = 0) -> None:
        """Notes that the machine computed something; ``units``: records or users of a fan-out."""
        self.uncommitted = max(self.uncommitted, kind)
        self._units += units

    def add_applied(self, topic: str, offset: int) -> None:
        """Notes that the topic's records are in the state up to ``offset``."""
        self.applied[topic] = offset

    def add_input_timestamps(self, timestamps_ms: list[int]) -> None:
        """Notes input records, whose latency is measured at the commit."""
        self._input_timestamps_ms += timestamps_ms

    def add_dead_letters(self, letters: list[DeadLetter]) -> None:
        """Adds records that could not be read."""
        self._dead_letters += letters

    def add_forwarded(self, events: list[Forward]) -> None:
        """Adds events that belong to other partitions."""
        self._forwarded += events

    def add_effects(self, effects: Any) -> None:
        """Encodes what the machine just computed.

        Slice by slice: the objects are still in the processor's caches, and the garbage collector
        never sees them.
        """
        if effects.rows or effects.records:
            if self._next is None:
                self._next = self._new_transaction()
            self._next.add_effects(effects)

    def forget(self) -> None:
        """Drops what waits for a transaction: of a trial, which writes nothing."""
        self._next, self._dead_letters, self._input_timestamps_ms = None, [], []
        self._forwarded = []

    @property
    def is_full(self) -> bool:
        """True if the next transaction has reached the configured size."""
        return self._units >= self._settings.commit_records

    # --- committing ------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """True if no transaction is in flight and nothing waits for one."""
        return not self.in_flight and not self.uncommitted

    @property
    def can_begin(self) -> bool:
        """True if something waits for a transaction and none is in flight."""
        return bool(self.uncommitted) and not self.in_flight

    def due_at(self, has_backlog: bool, has_background_work: bool) -> float:
        """Returns the monotonic time of the next commit.

        Measured from the last one: the first event after a pause does not wait.
        """
        if self.is_full:
            return 0.0
        nobody_waits = has_background_work and self.uncommitted < Uncommitted.INPUT
        intervals = BACKLOG_COMMIT_INTERVALS if has_backlog or nobody_waits else 1
        return self._began_at + self._settings.commit_interval * intervals

    def begin(self) -> None:
        """Starts the commit of everything added so far; does nothing if that is nothing."""
        if self.in_flight:
            raise AssertionError(f"partition {self._partition}: a transaction is under way")
        transaction, letters, applied = self._next, self._dead_letters, dict(self.applied)
        forwarded, self._forwarded = self._forwarded, []
        timestamps, self._input_timestamps_ms = self._input_timestamps_ms, []
        self._next, self._dead_letters, self._units = None, [], 0
        self.uncommitted = Uncommitted.NOTHING
        if transaction is None:
            if not letters and not forwarded and applied == self.committed:
                return
            transaction = self._new_transaction()
        self._began_at = time.monotonic()
        transaction.add_dead_letters(letters)
        transaction.add_forwarded(forwarded)
        transaction.add_applied(applied)
        self.in_flight = asyncio.create_task(self._commit(transaction, applied, timestamps))

    async def note_attempt(self, applied: Mapping[str, int]) -> None:
        """Commits that this opening of the partition goes on from the offsets ``applied``."""
        transaction = self._new_transaction()
        effects = Effects()
        effects.rows[ATTEMPTED] = dict(applied)
        transaction.add_effects(effects)
        await transaction.commit()

    def committable_offsets(self, has_background_work: bool) -> dict[str, int]:
        """Returns the offsets to commit to the consumer group.

        While work is outstanding, one record is left uncommitted, so that zero lag means that
        everything is processed.
        """
        offsets = dict(self.committed)
        if has_background_work or not self.is_idle:
            topic = next((topic for topic in CONSUMED if offsets.get(topic)), None)
            if topic is not None:
                offsets[topic] -= 1
        return offsets

    async def _commit(
        self, transaction: Transaction, applied: dict[str, int], timestamps_ms: list[int]
    ) -> None:
        try:
            await transaction.commit()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._on_failed(error)
            return
        self.committed = applied
        self.in_flight = None
        self._metrics.counts["records_out"].update(transaction.counts())
        self._metrics.transaction.add(time.monotonic() - self._began_at)
        self._metrics.latency.add_ages(int(time.time() * 1000), timestamps_ms)
        self._on_committed()

    def _new_transaction(self) -> Transaction:
        return Transaction(self.producer, self._settings.topic_prefix, self._partition)
