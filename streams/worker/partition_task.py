"""A partition in a worker: fence, restore, process, give up.

The transactional id of a partition is its lock: fencing first means that nobody else writes the
changelog that is read next. Then a loop lets the machine compute slice by slice, while at most one
transaction commits everything computed since the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.faust_adapter import Batch, sender_failure
from streams.metrics.registry import engine_counters
from streams.runtime import log_events
from streams.runtime.errors import log
from streams.worker import partition_opening
from streams.worker.commit_loop import CommitLoop
from streams.worker.partition_state import Action, PartitionLifecycle, PartitionState
from streams.worker.protocols import PartitionContext
from streams.worker.replay import TOO_LARGE, Replay, is_ours
from streams.worker.slice_processor import SLICE_UNITS, SliceProcessor

# Rounds of the event loop after a slice: a request and its answer take several, and transactions of
# other partitions wait for them.
LOOP_YIELDS_PER_SLICE = 6
HOLD_TIMEOUT_SECONDS = 10.0  # less than the 15 s of a transaction
CLOSE_TIMEOUT_SECONDS = 2.0


class PartitionTask:
    """The life of one partition in a worker, by the states of ``partition_state.py``.

    Opens itself when it is made.
    """

    def __init__(self, number: int, context: PartitionContext) -> None:
        self.number, self._context, self._settings = number, context, context.settings
        self._committed_transactions = 0
        self._lifecycle = PartitionLifecycle(number)
        self._replay = Replay(number)
        self._attempt: Mapping[str, int] | None = None  # offsets, until they are noted
        self._failure: Exception | None = None  # of a commit, to be raised in the task
        self._begin()
        self._wake, self._fenced, self._drained = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._live(), name=f"partition-{number}")

    def _begin(self) -> None:
        """Makes everything that belongs to one opening of the partition."""
        context = self._context
        self._commits = CommitLoop(
            self.number, context.settings, context.metrics, self._committed, self._commit_failed
        )
        self._processor = SliceProcessor(self.number, context, self._commits, self._replay)
        self.machine, self._intake = self._processor.machine, self._processor.intake

    async def _live(self) -> None:
        try:
            while True:
                await self._open()
                try:
                    await self._run()
                except Exception as error:
                    if not (self._is_running() and is_ours(error)):
                        raise
                    await self._open_again(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        # The failures of a partition that was given up are its new owner's business.
        if not self._lifecycle.is_closed:
            self._context.failed(error, self.number)

    # --- fence, restore --------------------------------------------------------------------------

    async def _open(self) -> None:
        producer = await partition_opening.fence(self.number, self._context)
        self._commits.producer = producer
        self._lifecycle.apply(Action.FENCED)
        self._fenced.set()
        await partition_opening.prepare(producer, self.number, self._context)
        restored = await partition_opening.restore(self.machine, self.number, self._context)
        self._intake.start(restored.positions)
        self._commits.start(restored.positions)
        self._processor.has_background_work = True  # a fan-out may have been interrupted
        if restored.backlog and restored.was_attempted:
            self._replay.suspect(self._within_reach(restored))
        self._attempt = restored.applied if restored.backlog else None
        in_rebalance = self._context.rebalancing
        self._lifecycle.apply(Action.RESTORED_IN_REBALANCE if in_rebalance else Action.RESTORED)
        self._context.read_from(self.positions())

    def _is_running(self) -> bool:
        return self._lifecycle.state is PartitionState.RUNNING

    async def _note_attempt(self) -> None:
        """Notes in the changelog from where this opening goes on, before it does (replay.py)."""
        if self._attempt is not None:
            await self._commits.note_attempt(self._attempt)
            self._attempt = None

    def _within_reach(self, restored: partition_opening.Restored) -> dict[str, int]:
        """Returns the backlog as far as the last owner can have come without a commit."""
        records = 2 * self._settings.commit_records + SLICE_UNITS  # one in flight, one being filled
        return {
            topic: min(end, restored.positions[topic] + records)
            for topic, end in restored.backlog.items()
        }

    # --- seen from the worker --------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """True if the state is restored and the partition takes records."""
        return self._lifecycle.is_open

    @property
    def is_busy(self) -> bool:
        """True if the watchdog may expect progress."""
        state = self._lifecycle.state
        if state is PartitionState.RUNNING:
            return not self._commits.is_idle or self._processor.has_records
        return state in (PartitionState.FENCING, PartitionState.RESTORING)

    @property
    def progress(self) -> object:
        """Changes with every step, for the watchdog."""
        return self._committed_transactions, self._processor.progress

    def positions(self) -> dict[TopicPartition, int]:
        """Returns the offset to read each topic from, after a rebalance."""
        return self._full_names(self._intake.positions)

    def committable_offsets(self) -> dict[TopicPartition, int]:
        """Returns the offsets to commit to the consumer group; zero lag means fully processed."""
        owed = self._processor.has_background_work or self.machine.has_unreported_changes
        return self._full_names(self._commits.committable_offsets(owed))

    def can_accept(self, topic: str) -> bool:
        """Returns whether more records of the topic (short name) may be fetched."""
        return self._lifecycle.state is PartitionState.RUNNING and self._intake.can_accept(topic)

    def deliver(self, topic: str, batch: Batch) -> None:
        """Queues a batch of a topic (short name); reads it again if an earlier one was lost."""
        if not self.is_open:
            return
        if self._intake.deliver(topic, batch):
            self._wake.set()
            return
        expected = self._intake.positions[topic]
        self._context.metrics.add("gaps")
        log.info(log_events.GAP, partition=self.number, topic=topic, at=expected, got=batch.start)
        self._context.read_from(self._full_names({topic: expected}))

    def queues(self) -> Iterator[tuple[str, int, float]]:
        """Yields topic, records queued, and the oldest one's timestamp in seconds (0.0: none)."""
        return self._intake.snapshot()

    def _full_names(self, offsets: Mapping[str, int]) -> dict[TopicPartition, int]:
        return partition_opening.full_names(self._settings.topic_prefix, self.number, offsets)

    # --- process ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if failure := self._failure:
                self._failure = None
                raise failure
            if self._is_running():
                await self._note_attempt()
                if self._processor.wants_trial:
                    await self._processor.try_suspects(self._is_running)
            async with self._context.compute_lock:
                worked = self._is_running() and self._processor.step()
                self._commit_if_due()
                for _ in range(LOOP_YIELDS_PER_SLICE):
                    await asyncio.sleep(0)
            if not worked:
                await self._rest()

    async def _open_again(self, error: Exception) -> None:
        """Gives up the machine and what is not committed; the next state is the committed one.

        Raises:
            BaseException: the error, if no record can be its cause.
        """
        self._replay.note_failure(error, self._intake.taken, self._commits.committed)
        self._lifecycle.apply(Action.FAILED)
        self._fenced.clear()
        await self._stop_writing()
        self._begin()

    # --- wait ------------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Waits for records, the end of a transaction, or the time to commit, report or go on."""
        if self._lifecycle.state is PartitionState.DRAINING and self._commits.is_idle:
            self._lifecycle.apply(Action.DRAINED)
            self._drained.set()
        timer = None
        if due := list(self._due_times()):
            delay = max(0.0, min(due) - time.monotonic())
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer:
            timer.cancel()

    def _due_times(self) -> Iterator[float]:
        if self._lifecycle.state is not PartitionState.RUNNING:
            return
        if self._commits.can_begin:
            yield self._commit_due_at()
        if self.machine.has_unreported_changes:
            yield self._processor.flush_due_at()
        if self.machine.is_backpressured and self._intake and not self._commits.is_full:
            yield self._processor.throttled_until

    # --- commit ----------------------------------------------------------------------------------

    def _commit_due_at(self) -> float:
        if self._replay.commit_each:
            return 0.0
        processor = self._processor
        return self._commits.due_at(processor.has_backlog, processor.has_background_work)

    def _commit_if_due(self) -> None:
        match self._lifecycle.state:
            case PartitionState.RUNNING:
                due = self._commits.can_begin and time.monotonic() >= self._commit_due_at()
            case PartitionState.DRAINING:
                due = self._commits.can_begin
            case _:
                due = False
        if due:
            self._commits.add_effects(self.machine.drain_effects())
            self._commits.begin()

    def _committed(self) -> None:
        self._committed_transactions += 1
        self._wake.set()

    def _commit_failed(self, error: BaseException) -> None:
        cause = sender_failure(self._commits.producer, error)
        running = self._lifecycle.state is PartitionState.RUNNING
        if isinstance(cause, TOO_LARGE) and running:
            self._failure = cause
            self._wake.set()
        else:
            self._fail(cause)

    # --- rebalance -------------------------------------------------------------------------------

    async def hold(self) -> None:
        """Commits what is computed; computes nothing more until ``resume``.

        A new owner fences only after the rebalance that this begins, so nothing of this worker is
        under way then. A partition that is being opened first completes its own fencing, or it
        would fence the new owner later.
        """
        state = self._lifecycle.apply(Action.HOLD)
        if state is PartitionState.DRAINING:
            self._drained.clear()
            self._wake.set()
            done = self._drained
        else:
            done = self._fenced
        # If the broker does not answer, the next owner's fencing aborts the open transaction.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), HOLD_TIMEOUT_SECONDS)

    def resume(self) -> None:
        """Goes on after a rebalance that left the partition here."""
        self._lifecycle.apply(Action.RESUME)
        self._wake.set()

    async def revoke(self) -> None:
        """Gives the partition up in order: a transaction under way may still end."""
        self._lifecycle.apply(Action.REVOKE)
        if self._commits.in_flight:
            await asyncio.wait({self._commits.in_flight}, timeout=CLOSE_TIMEOUT_SECONDS)
        await self._close()

    async def lose(self) -> None:
        """Gives up a partition that another worker may own already: commits nothing."""
        self._lifecycle.apply(Action.LOSE)
        await self._close()

    async def _close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_writing()
        log.info(log_events.PARTITION_CLOSED, partition=self.number)

    async def _stop_writing(self) -> None:
        """Ends a transaction under way, whatever its outcome, and the producer."""
        commits = self._commits
        if commits.in_flight:
            commits.in_flight.cancel()
            await asyncio.gather(commits.in_flight, return_exceptions=True)
        self._context.metrics.engine.update(engine_counters(self.machine))
        if commits.producer:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(commits.producer.stop(), CLOSE_TIMEOUT_SECONDS)
