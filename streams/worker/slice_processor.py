"""The computing part of an opened partition: slices of records, reports and fan-outs, and replays.

It lives as long as one opening of the partition: a machine that has failed is used no more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from streams.contract.topics import FORWARDED_EVENTS, USER_CHANGES
from streams.runtime import gc_tuning
from streams.worker import trial
from streams.worker.commit_loop import CommitLoop, Uncommitted
from streams.worker.protocols import PartitionContext
from streams.worker.record_intake import RecordIntake
from streams.worker.record_reader import RecordReader
from streams.worker.replay import Replay

SLICE_UNITS = 500  # records, or users of a fan-out, between two turns of the event loop
FLUSH_INTERVAL_SECONDS = 0.1
BACKLOG_FLUSH_INTERVAL_SECONDS = 2.0  # in a backlog, reports can be fewer
THROTTLE_SECONDS = 0.25
THROTTLED = (USER_CHANGES, FORWARDED_EVENTS)


class SliceProcessor:
    """Gives the records of the intake to the machine, and its effects to the transactions.

    ``progress`` grows with every step, for the watchdog.
    """

    def __init__(
        self, number: int, context: PartitionContext, commits: CommitLoop, replay: Replay
    ) -> None:
        self._context, self._commits, self._replay = context, commits, replay
        self.machine = context.new_machine(number)
        self.intake = RecordIntake()
        self.has_background_work = False
        self.throttled_until = 0.0
        self.progress = 0
        self._reader = RecordReader(number, context, commits)
        self._flushed_at = 0.0
        self._suspects: deque[tuple[str, list[Any], int]] = deque()  # each a record alone
        self._tried = 0  # of them, those that the trial has passed, or found guilty

    @property
    def has_records(self) -> bool:
        """True if any record is waiting."""
        return bool(self.intake or self._suspects)

    @property
    def has_backlog(self) -> bool:
        """True if the records of a whole slice are waiting."""
        return self.intake.has_backlog(SLICE_UNITS)

    def step(self) -> bool:
        """Computes a slice of records and a slice of fan-outs; False if there was neither."""
        commits = self._commits
        if self._suspects or self._replay.is_active(commits.applied):
            return self._replay_step()
        if commits.is_full and commits.in_flight:
            return False  # the next transaction is full: wait for this one
        handled = self._handle_slice()
        if self.has_background_work or handled:
            self.has_background_work = self.machine.run_background(SLICE_UNITS)
            units = SLICE_UNITS if self.has_background_work else 0
            commits.add_work(Uncommitted.BACKGROUND, units)
        now = time.monotonic()
        if self.machine.has_unreported_changes and now >= self.flush_due_at():
            self._flushed_at = now
            self.machine.flush()
            commits.add_work(Uncommitted.BACKGROUND)
            handled = True
        commits.add_effects(self.machine.drain_effects())
        if self.has_backlog or self.has_background_work:
            gc_tuning.freeze_young_objects()
        self.progress += 1
        return handled or self.has_background_work

    def flush_due_at(self) -> float:
        """Returns the monotonic time at which reports are to be sent."""
        in_backlog = self.has_backlog
        interval = BACKLOG_FLUSH_INTERVAL_SECONDS if in_backlog else FLUSH_INTERVAL_SECONDS
        return self._flushed_at + interval

    def _handle_slice(self) -> bool:
        slices = self.intake.take(SLICE_UNITS, THROTTLED if self._is_throttled() else ())
        for each in slices:
            self._handle(*each)
        return bool(slices)

    def _is_throttled(self) -> bool:
        """Returns whether changes of users have to wait for the users in flight.

        Those get their seats sooner when fewer come in behind them. Never for long: the seats may
        depend on a partition that is moving to a new owner.
        """
        now = time.monotonic()
        if not self.machine.is_backpressured or now >= self.throttled_until:
            self.throttled_until = now + THROTTLE_SECONDS
            return False
        return True

    def _handle(self, topic: str, records: list[Any], end: int) -> None:
        self._commits.add_work(Uncommitted.INPUT, len(records))
        for part in self._reader.read(topic, records):
            self._reader.handled(part, self.machine.handle(part.topic, part.batch).misrouted)
        self._commits.add_applied(topic, end)
        self._context.metrics.add("records_in", topic, len(records))

    # --- replay, after a failure (replay.py) -----------------------------------------------------

    def _replay_step(self) -> bool:
        """Applies one record alone; False if there is none, or a commit must end first."""
        commits, replay = self._commits, self._replay
        if commits.in_flight and (replay.commit_each or commits.is_full):
            return False
        if replay.commit_each and commits.uncommitted:
            return False
        replay.current = None
        if self.has_background_work:
            self._background_step()
        elif self.machine.has_unreported_changes:
            self.machine.flush()
            commits.add_work(Uncommitted.BACKGROUND)
        elif suspect := self._next_suspect():
            self._apply_alone(*suspect)
        else:
            return False
        commits.add_effects(self.machine.drain_effects())
        self.progress += 1
        return True

    def _background_step(self) -> None:
        self.has_background_work = self.machine.run_background(SLICE_UNITS)
        self._commits.add_work(Uncommitted.BACKGROUND, SLICE_UNITS)

    def _next_suspect(self) -> tuple[str, list[Any], int] | None:
        if self._tried:
            self._tried -= 1
            return self._suspects.popleft()
        if self._suspects or self._replay.needs_trial:
            return None  # the trial comes first
        slices = self.intake.take(1)
        return slices[0] if slices else None

    def _apply_alone(self, topic: str, records: list[Any], end: int) -> None:
        if records and (verdict := self._replay.verdict(topic, records[0].offset)):
            self._reader.refuse(topic, [(records[0], verdict)])
            self._commits.add_work(Uncommitted.INPUT, 1)
            self._commits.add_applied(topic, end)
            return
        if records:
            self._replay.current = (topic, records[0].offset)
        self._handle(topic, records, end)
        self.machine.flush()
        self.has_background_work = self.machine.run_background(SLICE_UNITS)
        self._commits.add_effects(self.machine.drain_effects())
        if not self._replay.commit_each:
            self._replay.current = None

    # --- trial, after a stall (trial.py) ---------------------------------------------------------

    @property
    def wants_trial(self) -> bool:
        """True if the next records are to be tried, and the machine has nothing else to do."""
        return (
            not self._tried
            and (bool(self._suspects) or (self._replay.needs_trial and bool(self.intake)))
            and not self.has_background_work
            and not self.machine.has_unreported_changes
        )

    async def try_suspects(self, is_running: Callable[[], bool]) -> None:
        """Applies the next records in a child process; the one that ends it is a culprit."""

        def go_on() -> bool:
            self.progress += 1
            return is_running()

        suspects, settings = self._suspects, self._context.settings
        if not suspects:
            suspects.extend(self._take_singly())
        ended = await trial.run(
            self._trial_steps(),
            cpu_seconds=settings.session_timeout,
            silence_seconds=settings.stall_timeout,
            go_on=go_on,
        )
        self._tried = ended.passed
        if ended.end is trial.End.PASSED:
            return
        topic, records, _ = suspects[ended.passed]
        if not records or self._replay.is_decided(ended.end, (topic, records[0].offset)):
            self._tried += 1

    def _take_singly(self) -> Iterator[tuple[str, list[Any], int]]:
        for topic, records, end in self.intake.take(SLICE_UNITS):
            ends = [*(record.offset for record in records[1:]), end]
            if not records:
                yield topic, records, end
            for record, after in zip(records, ends, strict=False):
                yield topic, [record], after

    def _trial_steps(self) -> Iterator[bool]:
        """Computes what the replay would; in the child. True: a suspect is done."""
        for suspect in self._suspects:
            self._apply_alone(*suspect)
            self._commits.forget()
            while self.has_background_work:
                yield False
                self._background_step()
                self._commits.add_effects(self.machine.drain_effects())
                self._commits.forget()
            yield True
