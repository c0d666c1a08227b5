"""The life of a partition in a worker: fence, restore, run, close.

Its log is its lock: fencing first means that from then on nobody else writes the changelog that is
read next. What runs is a loop that lets the machine compute, and one transaction at a time that
takes everything computed since the last: while it is on its way the next is computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, Protocol

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from engine.domain.events import Delivered
from streams.contract.decoder import Rejected
from streams.contract.topics import CONSUMED, INPUT_NAMES, PRODUCED, USER_CHANGES
from streams.kafka import changelog
from streams.kafka.faust_adapter import Batch, root_cause
from streams.metrics.registry import Stats, engine_counters
from streams.runtime import fault_injection, gc_tuning, log_events
from streams.runtime.errors import log
from streams.runtime.settings import Settings
from streams.worker.protocols import Machine
from streams.worker.record_queues import Inbox
from streams.worker.transaction import MISPLACED, DeadLetter, Transaction, dead_letter, new_producer

QUEUE_RECORDS = 5_000  # per topic; above it no more is fetched
SLICE = 500  # records, or users of a fan-out, between two turns of the loop
# Rounds of the loop after a slice: a request and its answer take several, and transactions of other
# partitions are waiting for them.
BREATHS = 6
FLUSH_EVERY = 0.1
# In a backlog, or a fan-out alone, nobody waits for the next record: fewer and larger transactions,
# and fewer reports.
BACKLOG_COMMITS = 4  # times the commit interval
BACKLOG_FLUSH_EVERY = 2.0
EASE_FOR = 0.25
FENCE_PATIENCE = 60.0
HOLD_PATIENCE = 10.0
CLOSE_PATIENCE = 2.0

Bounds = Mapping[TopicPartition, tuple[int, int]]


class BatchDecoder(Protocol):
    """As :class:`streams.contract.decoder.Decoder`."""

    def decode_all(
        self, records: list[Any]
    ) -> tuple[list[Delivered], list[tuple[Any, Rejected]]]: ...


class Owner(Protocol):
    """What a partition needs of its worker."""

    settings: Settings
    stats: Stats
    decoders: Mapping[str, BatchDecoder]
    restoring: asyncio.Semaphore
    turn: asyncio.Lock  # to compute a slice; between two slices the loop looks at the network

    def new_machine(self, partition: int) -> Machine: ...
    async def bounds(self, tps: Iterable[TopicPartition]) -> Bounds: ...
    def ready(self, partition: Partition) -> None: ...
    def read_again(self, partition: Partition, topic: str) -> None: ...
    def failed(self, error: BaseException, partition: int | None = None) -> NoReturn: ...


class Partition:
    def __init__(self, number: int, owner: Owner) -> None:
        self.number, self._owner, self._settings = number, owner, owner.settings
        self.machine = owner.new_machine(number)
        self._producer = new_producer(owner.settings, number)
        self.running = False
        self.progress = 0  # grows with every step; for the watchdog
        self.applied: dict[str, int] = {}  # in the machine's state: next offset per topic
        self.committed: dict[str, int] = {}  # of that, what is in the log
        self._reads: dict[str, int] = {}  # next offset to come, per topic
        self._inbox = Inbox(CONSUMED)
        self._dead: list[DeadLetter] = []
        self._next: Transaction | None = None  # what goes into the next one, encoded
        self._times: list[int] = []  # of input records since the last transaction began
        self._pending = 0  # records handled and users fanned out since the last transaction began
        self._dirty = self._more = False
        self._awaited = False  # somebody may wait for what the next transaction brings
        self._commit: asyncio.Task[None] | None = None
        self._committed_at = self._flushed_at = self._eased_until = 0.0
        self._held = self._settling = self._closed = False
        self._wake, self._fenced, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._live(), name=f"partition-{number}")

    # --- fence, restore --------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            await self._open()
            await self._run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        # What happens to a partition that is given away already is its new owner's business.
        if not self._closed:
            self._owner.failed(error, self.number)

    async def _open(self) -> None:
        started = time.monotonic()
        await self._fence()
        self._owner.stats.add("partitions_fenced")
        log.info(log_events.PARTITION_FENCED, partition=self.number)
        fault_injection.hit("after-fence")
        async with self._owner.restoring, changelog.reader(self._settings) as reader:
            restored = await changelog.read(reader, self._settings, self.number)
            self.applied = restored.applied()
            rows = len(restored.values)
            await restored.load_into(self.machine)
        bounds = await self._owner.bounds(self._full_names(dict.fromkeys(CONSUMED, 0)))
        self.machine.start()
        self._started(changelog.starts(self._full_names(self.applied), bounds))
        self._restored(rows, restored.read, time.monotonic() - started)
        self._owner.ready(self)

    async def _fence(self) -> None:
        deadline = time.monotonic() + FENCE_PATIENCE
        while True:
            try:
                await self._producer.start()
                break
            except KafkaConnectionError:
                if time.monotonic() > deadline:
                    raise
                await self._producer.stop()
                await asyncio.sleep(0.5)
                self._producer = new_producer(self._settings, self.number)
        self._fenced.set()
        prefix = self._settings.topic_prefix
        await asyncio.gather(*[self._producer.partitions_for(prefix + name) for name in PRODUCED])

    def _started(self, places: Mapping[TopicPartition, int]) -> None:
        prefix = self._settings.topic_prefix
        starts = {tp.topic.removeprefix(prefix): offset for tp, offset in places.items()}
        for topic, offset in self.applied.items():
            # Retention deleted what no worker has read; control records may be among it.
            if count := starts[topic] - offset:
                self._owner.stats.add("expired_records", topic, count)
                log.error(
                    log_events.INPUT_EXPIRED, partition=self.number, topic=topic, records=count
                )
        self.applied = dict(starts)
        self.committed, self._reads = dict(starts), dict(starts)
        # The machine may have something to say again, or a fan-out to go on with.
        self._dirty = self._more = True
        self.running = True

    def _restored(self, rows: int, read: int, seconds: float) -> None:
        stats = self._owner.stats
        stats.add("restored_rows", None, rows)
        stats.restore.add(seconds)
        log.info(
            log_events.PARTITION_RESTORED,
            partition=self.number,
            rows=rows,
            records=read,
            seconds=round(seconds, 2),
        )

    # --- what comes in ---------------------------------------------------------------------------

    def places(self) -> dict[TopicPartition, int]:
        """Where each topic is to be read from, after a rebalance."""
        return self._full_names(self._reads)

    def noted(self) -> dict[TopicPartition, int]:
        """What is done, for the group's offsets.

        A fan-out or a report that is owed leaves a record undone, so that no lag means settled.
        """
        offsets = dict(self.committed)
        if self._more or self._dirty or self._commit or self.machine.unreported:
            for topic in [topic for topic in CONSUMED if offsets.get(topic)][:1]:
                offsets[topic] -= 1
        return self._full_names(offsets)

    def has_room(self, topic: str) -> bool:
        return self.running and not self._held and self._inbox.count(topic) < QUEUE_RECORDS

    def deliver(self, topic: str, batch: Batch) -> None:
        """Queues what is new in the batch; ``topic`` is the short name.

        Records never change, so what was read twice, before and after a rebalance, is told by its
        offset; and what got lost on the way by a batch that begins too late.
        """
        if not self.running:
            return
        expected = self._reads[topic]
        if batch.start > expected:
            self._owner.stats.add("gaps")
            log.info(
                log_events.GAP, partition=self.number, topic=topic, at=expected, got=batch.start
            )
            self._owner.read_again(self, topic)
        elif batch.next > expected:
            records = batch.records
            if records[0].offset < expected:
                records = [record for record in records if record.offset >= expected]
            self._reads[topic] = batch.next
            self._inbox.put(topic, records, batch.next)
            self._wake.set()

    def queues(self) -> Iterator[tuple[str, int, float]]:
        """Topic, records queued, and the timestamp of the oldest in seconds (0.0 if none)."""
        return self._inbox.figures()

    @property
    def busy(self) -> bool:
        if not self.running:
            return not self._closed
        return not self._held and bool(self._dirty or self._commit or self._inbox)

    def _full_names(self, offsets: Mapping[str, int]) -> dict[TopicPartition, int]:
        prefix = self._settings.topic_prefix
        return {TopicPartition(prefix + t, self.number): offset for t, offset in offsets.items()}

    # --- run -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            async with self._owner.turn:
                worked = self._step() if not self._held else False
                self._commit_if_due()
                for _ in range(BREATHS):
                    await asyncio.sleep(0)
            if not worked:
                await self._rest()

    def _step(self) -> bool:
        """One slice of what has come and one of what is fanned out; False if there is nothing."""
        if self._full and self._commit:
            return False  # enough for the next transaction: wait for this one
        handled = self._handle_slice()
        if self._more or handled:
            self._more = self.machine.work(SLICE)
            self._pending += SLICE if self._more else 0
            self._dirty = True
        now = time.monotonic()
        if self.machine.unreported and now >= self._flush_due_at():
            self._flushed_at = now
            self.machine.flush()
            self._dirty = handled = True
        self._pack()
        if self._behind or self._more:
            gc_tuning.set_aside()
        self.progress += 1
        return handled or self._more

    @property
    def _full(self) -> bool:
        return self._pending >= self._settings.commit_records

    @property
    def _behind(self) -> bool:
        return self._inbox.behind(SLICE)

    def _flush_due_at(self) -> float:
        return self._flushed_at + (BACKLOG_FLUSH_EVERY if self._behind else FLUSH_EVERY)

    def _handle_slice(self) -> bool:
        without = USER_CHANGES if self._eases() else ""
        for each in (slices := list(self._inbox.take(SLICE, without))):
            self._handle(*each)
        return bool(slices)

    def _eases(self) -> bool:
        """Users who wait for seats are answered sooner when fewer come in behind them.

        Slower, not never: what they wait for may be a partition that is on its way to a new owner.
        """
        now = time.monotonic()
        if not self.machine.crowded or now >= self._eased_until:
            self._eased_until = now + EASE_FOR
            return False
        return True

    def _handle(self, topic: str, records: list[Any], end: int) -> None:
        self._pending += len(records)
        self._dirty = self._awaited = True
        if batch := self._decode(topic, records):
            self.machine.handle(topic, batch)
            if self.machine.misplaced:
                offsets = set(self.machine.misplaced)
                self._reject(topic, [(r, MISPLACED) for r in records if r.offset in offsets])
                lost = [type(delivered[0]) for delivered in batch if delivered.offset in offsets]
                self._owner.stats.counts["events"].subtract(lost)
        self.applied[topic] = end
        self._owner.stats.add("records_in", topic, len(records))

    def _decode(self, topic: str, records: list[Any]) -> list[Delivered]:
        if topic not in INPUT_NAMES:
            loads = orjson.loads
            return [Delivered(loads(r.value), r.timestamp, r.offset) for r in records]
        batch, rejected = self._owner.decoders[topic].decode_all(records)
        if rejected:
            self._reject(topic, rejected)
        self._owner.stats.counts["events"].update([type(delivered[0]) for delivered in batch])
        self._times += [record.timestamp for record in records]
        return batch

    def _reject(self, topic: str, rejected: list[tuple[Any, Rejected]]) -> None:
        name = self._settings.topic_prefix + topic
        self._dead += [
            dead_letter(record, name, self.number, why.reason) for record, why in rejected
        ]
        for _, why in rejected:
            self._owner.stats.add("dead_letters", (topic, why.kind))
        record, why = rejected[0]
        log.warning(
            log_events.DEAD_LETTER,
            topic=topic,
            partition=self.number,
            offset=record.offset,
            reason=why.kind,  # in full, with what people wrote, only in the dead letter
            more=len(rejected) - 1,
        )

    async def _rest(self) -> None:
        """Until something comes, a transaction ends, or it is time to commit or to report."""
        if self._held and not self._commit and not (self._settling and self._dirty):
            self._idle.set()
            self._settling = False
        due = [
            at
            for at, wanted in (
                (self._commit_due_at(), self._may_commit()),
                (self._flush_due_at(), self.machine.unreported and not self._held),
                (self._eased_until, self.machine.crowded and self._inbox and not self._full),
            )
            if wanted
        ]
        timer = None
        if due:
            delay = max(0.0, min(due) - time.monotonic())
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer:
            timer.cancel()

    # --- commit ----------------------------------------------------------------------------------

    def _may_commit(self) -> bool:
        return self._dirty and not self._commit and (self._settling or not self._held)

    def _commit_due_at(self) -> float:
        if self._held or self._full:
            return 0.0
        # From the last one on: the first event after a pause does not wait.
        patient = self._behind or (self._more and not self._awaited)
        interval = self._settings.commit_interval
        return self._committed_at + interval * (BACKLOG_COMMITS if patient else 1)

    def _commit_if_due(self) -> None:
        if self._may_commit() and time.monotonic() >= self._commit_due_at():
            self._begin_commit()

    def _pack(self) -> None:
        """Encodes what the machine did, slice by slice: it is still in the processor's caches then,
        and the garbage collector need not go through it."""
        effects = self.machine.take()
        if effects.rows or effects.records:
            if self._next is None:
                self._next = Transaction(self._producer, self._settings.topic_prefix, self.number)
            self._next.add_effects(effects)

    def _begin_commit(self) -> None:
        self._pack()
        transaction, letters, applied = self._next, self._dead, dict(self.applied)
        times, self._times = self._times, []
        self._next, self._dead, self._pending = None, [], 0
        self._dirty = self._awaited = False
        if transaction is None:
            if not letters and applied == self.committed:
                return
            transaction = Transaction(self._producer, self._settings.topic_prefix, self.number)
        self._committed_at = time.monotonic()
        transaction.add_dead_letters(letters)
        transaction.add_applied(applied)
        self._commit = asyncio.create_task(self._send(transaction, applied, times))

    async def _send(
        self, transaction: Transaction, applied: dict[str, int], times: list[int]
    ) -> None:
        try:
            await transaction.commit()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(root_cause(self._producer, error))
            return
        self.committed = applied
        self._commit = None
        self.progress += 1
        stats = self._owner.stats
        stats.counts["records_out"].update(transaction.counts())
        stats.transaction.add(time.monotonic() - self._committed_at)
        stats.latency.add_ages(int(time.time() * 1000), times)
        self._wake.set()

    # --- rebalance, close ------------------------------------------------------------------------

    async def hold(self) -> None:
        """Commits what is computed, then computes nothing until ``resume``.

        A new owner fences only after the rebalance that this begins; so nothing of ours is under
        way then. One that is just being opened first gets over its own fencing, lest it fences the
        new owner later.
        """
        self._held, self._settling = True, self.running
        self._idle.clear()
        self._wake.set()
        waiting = self._idle if self.running else self._fenced
        # If the broker does not answer, what is open is aborted by the next owner's fencing.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting.wait(), HOLD_PATIENCE)

    def resume(self) -> None:
        self._held = False
        self._wake.set()

    async def close(self) -> None:
        """For a partition that is held. What is still open is left to the next owner's fencing."""
        self._closed, self.running = True, False
        tasks = [task for task in (self._task, self._commit) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._owner.stats.engine.update(engine_counters(self.machine))
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self._producer.stop(), CLOSE_PATIENCE)
        log.info(log_events.PARTITION_CLOSED, partition=self.number)
