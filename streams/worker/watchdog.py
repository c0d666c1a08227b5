"""A thread that ends the process when the event loop, or a partition with work, makes no progress.

It serves progress only. Safety does not depend on it: a worker that was paused for too long finds
its producers fenced by the new owners.

Compiled code need not let a thread run: in a loop of its own it keeps the interpreter's lock. A
timer of the system therefore backs the thread. It counts the CPU time since the last heartbeat (a
paused process uses none), prints where every thread is, and ends the process by SIGPROF.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from streams.runtime.deadline import Deadline
from streams.runtime.errors import OK, TEMPORARY, exit_now, log
from streams.runtime.log_events import STALLED, STOP_TIMED_OUT

CHECK_INTERVAL_SECONDS = 0.5
CPU_TIMER: Final = signal.ITIMER_PROF
CPU_SIGNAL: Final = signal.SIGPROF
CPU_MARGIN_SECONDS = 2.0  # by which the thread comes first, if it can run


class ProgressProbe(NamedTuple):
    """Something that must make progress while it is busy; ``progress`` then changes."""

    name: str
    busy: bool
    progress: object


class Watchdog(threading.Thread):
    """Watches the event loop by its heartbeats, and the probes by their progress.

    ``loop_limit`` and ``stall_limit`` in seconds; ``probes`` is called in this thread.
    """

    def __init__(
        self, loop_limit: float, stall_limit: float, probes: Callable[[], Iterable[ProgressProbe]]
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._loop_limit, self._stall_limit, self._probes = loop_limit, stall_limit, probes
        self._heartbeat_at = time.monotonic()
        self._seen: dict[str, tuple[object, float]] = {}
        self._stop_deadline = Deadline(None)

    def start(self) -> None:
        """Starts to watch."""
        faulthandler.register(CPU_SIGNAL, chain=True)
        super().start()
        self.heartbeat()

    def heartbeat(self) -> None:
        """Tells that the event loop runs; must be called several times a second."""
        self._heartbeat_at = time.monotonic()
        if self.is_alive():
            signal.setitimer(CPU_TIMER, self._loop_limit + CPU_MARGIN_SECONDS)

    @staticmethod
    def stop_timer() -> None:
        """Ends the watch over the event loop, when it ends in order."""
        signal.setitimer(CPU_TIMER, 0.0)

    def stop_within(self, seconds: float) -> None:
        """Ends the process after ``seconds``, even if the orderly stop hangs."""
        self._stop_deadline = Deadline(seconds)

    def unhealthy_reasons(self) -> Iterator[str]:
        """Yields, for /healthz, the reasons for which this thread is about to end the process."""
        if (still := time.monotonic() - self._heartbeat_at) > self._loop_limit:
            yield f"the event loop has been blocked for {still:.1f} s"
        for name, (_, since) in list(self._seen.items()):
            if (still := time.monotonic() - since) > self._stall_limit:
                yield f"{name} has work and made no progress for {still:.0f} s"

    def run(self) -> None:
        """Checks twice a second, for ever."""
        checked_at = time.monotonic()
        while True:
            time.sleep(CHECK_INTERVAL_SECONDS)
            now = time.monotonic()
            if self._stop_deadline.has_passed:
                log.warning(STOP_TIMED_OUT, why="an open transaction is left to the next owner")
                exit_now(OK)
            if now - checked_at > self._loop_limit:
                # The computer slept, or the process was stopped: others own the partitions.
                self._end(f"this process was paused for {now - checked_at:.1f} s")
            if now - self._heartbeat_at > self._loop_limit:
                self._end(f"the event loop has been blocked for {now - self._heartbeat_at:.1f} s")
            checked_at = now
            self._check_probes(now)

    def _check_probes(self, now: float) -> None:
        seen = self._seen
        self._seen = {}
        for probe in self._probes():
            if not probe.busy:
                continue
            progress, since = seen.get(probe.name, (probe.progress, now))
            if progress != probe.progress:
                since = now
            if now - since > self._stall_limit:
                self._end(f"{probe.name} has work and made no progress for {now - since:.0f} s")
            self._seen[probe.name] = (probe.progress, since)

    def _end(self, why: str) -> None:
        log.error(STALLED, why=why, exit=TEMPORARY)
        exit_now(TEMPORARY)
