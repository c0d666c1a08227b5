"""A thread that ends the process when the event loop, or a partition that has work, stands still.

It is for progress only. That a worker which was away too long does no harm is not its doing: its
producers are fenced by the new owners.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from streams.runtime.errors import OK, TEMPORARY, leave, log
from streams.runtime.log_events import STALLED, STOP_TIMED_OUT

LOOK_EVERY = 0.5


class Work(NamedTuple):
    """Something that must get on: ``progress`` changes while it does."""

    name: str
    busy: bool
    progress: object


class Watchdog(threading.Thread):
    def __init__(
        self, loop_limit: float, stall_limit: float, works: Callable[[], Iterable[Work]]
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._loop_limit, self._stall_limit, self._works = loop_limit, stall_limit, works
        self._beat = time.monotonic()
        self._seen: dict[str, tuple[object, float]] = {}
        self._stop_by: float | None = None

    def beat(self) -> None:
        """The loop runs. To be called several times a second."""
        self._beat = time.monotonic()

    def stop_within(self, seconds: float) -> None:
        """The worker was asked to stop: it ends after ``seconds``, whatever still hangs."""
        self._stop_by = time.monotonic() + seconds

    def complaints(self) -> Iterator[str]:
        """For /healthz: what this thread is about to end the process for, or should have."""
        if (still := time.monotonic() - self._beat) > self._loop_limit:
            yield f"the event loop has been blocked for {still:.1f} s"
        for name, (_, since) in list(self._seen.items()):
            if (still := time.monotonic() - since) > self._stall_limit:
                yield f"{name} has work and made no progress for {still:.0f} s"

    def run(self) -> None:
        looked = time.monotonic()
        while True:
            time.sleep(LOOK_EVERY)
            now = time.monotonic()
            if self._stop_by is not None and now > self._stop_by:
                log.warning(STOP_TIMED_OUT, why="an open transaction is left to the next owner")
                leave(OK)
            if now - looked > self._loop_limit:
                # The machine slept, or the process was stopped: others own our partitions now.
                self._end(f"this process was paused for {now - looked:.1f} s")
            if now - self._beat > self._loop_limit:
                self._end(f"the event loop has been blocked for {now - self._beat:.1f} s")
            looked = now
            self._look_at_works(now)

    def _look_at_works(self, now: float) -> None:
        seen = self._seen
        self._seen = {}
        for work in self._works():
            if not work.busy:
                continue
            progress, since = seen.get(work.name, (work.progress, now))
            if progress != work.progress:
                since = now
            if now - since > self._stall_limit:
                self._end(f"{work.name} has work and made no progress for {now - since:.0f} s")
            self._seen[work.name] = (work.progress, since)

    def _end(self, why: str) -> None:
        log.error(STALLED, why=why, exit=TEMPORARY)
        leave(TEMPORARY)
