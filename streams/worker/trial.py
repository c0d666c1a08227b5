"""A trial: suspects are applied in a child process, so that one that never ends costs nothing.

A record whose processing stalls or takes all memory ends the worker, and nobody is left to say
which record it was. The child has a copy of the partition's state, applies the suspects one by one,
and reports each that is done. It writes nothing. What ends the child is the next record's doing:
a kill of the worker from outside never makes a culprit.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import NamedTuple, NoReturn

from streams.worker.watchdog import CPU_SIGNAL, CPU_TIMER

POLL_SECONDS = 0.02
MEMORY_BYTES = 1 << 30  # that one record may need, beyond the state
PASSED_STATUS, FAILED_STATUS, MEMORY_STATUS = 0, 1, 2
DONE, WORKING = b".", b"-"


class End(Enum):
    """The ends of a trial."""

    PASSED = auto()  # every suspect was applied
    STALLED = auto()  # one took too much CPU time
    MEMORY = auto()  # one took too much memory
    KILLED = auto()  # the child was ended by a signal: by the system, a crash, or a person
    ABANDONED = auto()  # the worker has no use for it any more
    UNKNOWN = auto()  # an exception, which the worker handles itself; no answer; no child


class Outcome(NamedTuple):
    """The number of suspects that were applied, and how the trial ended."""

    passed: int
    end: End


async def run(
    steps: Iterable[bool], cpu_seconds: float, silence_seconds: float, go_on: Callable[[], bool]
) -> Outcome:
    """Runs ``steps`` in a child process.

    Args:
        steps: computes one step per item; True ends the steps of one suspect.
        cpu_seconds: CPU time that one step may take.
        silence_seconds: time without a step after which the trial is given up.
        go_on: called several times a second; False abandons the trial.
    """
    reader, writer = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child uses no other thread
            pid = os.fork()
    except OSError:  # no process or memory left
        os.close(reader)
        os.close(writer)
        return Outcome(0, End.UNKNOWN)
    if pid == 0:
        _child(steps, writer, cpu_seconds)
    os.close(writer)
    os.set_blocking(reader, False)
    try:
        return await _follow(pid, reader, silence_seconds, go_on)
    finally:
        os.close(reader)


async def _follow(
    pid: int, reader: int, silence_seconds: float, go_on: Callable[[], bool]
) -> Outcome:
    passed, heard_at = 0, time.monotonic()
    ended = False
    try:
        while True:
            ended, status = _status(pid)
            while steps := _read(reader):
                passed += steps.count(DONE)
                heard_at = time.monotonic()
            if ended:
                return Outcome(passed, _end(status))
            if time.monotonic() - heard_at > silence_seconds:
                return Outcome(passed, End.UNKNOWN)
            if not go_on():
                return Outcome(passed, End.ABANDONED)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if not ended:
            _kill(pid)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _status(pid: int) -> tuple[bool, int]:
    found, status = os.waitpid(pid, os.WNOHANG)
    return bool(found), status


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except BlockingIOError:
        return b""


def _end(status: int) -> End:
    if os.WIFSIGNALED(status):
        return End.STALLED if os.WTERMSIG(status) == CPU_SIGNAL else End.KILLED
    ends = {PASSED_STATUS: End.PASSED, MEMORY_STATUS: End.MEMORY}
    return ends.get(os.WEXITSTATUS(status), End.UNKNOWN)


# --- in the child ---------------------------------------------------------------------------------


def _child(steps: Iterable[bool], writer: int, cpu_seconds: float) -> NoReturn:
    status = FAILED_STATUS
    try:
        _isolate(writer)
        signal.setitimer(CPU_TIMER, cpu_seconds)
        for done in steps:
            os.write(writer, DONE if done else WORKING)
            signal.setitimer(CPU_TIMER, cpu_seconds)
        status = PASSED_STATUS
    except MemoryError:
        status = MEMORY_STATUS
    finally:
        os._exit(status)


def _isolate(writer: int) -> None:
    """Separates the child from the worker's signals, connections, log and memory."""
    gc.disable()  # it would copy the whole state
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    traceback = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    keep = sorted((writer, traceback))
    for first, last in zip((2, *keep), (*keep, os.sysconf("SC_OPEN_MAX")), strict=True):
        os.closerange(first + 1, last)
    faulthandler.register(CPU_SIGNAL, file=traceback, all_threads=False, chain=True)
    with contextlib.suppress(OSError, ValueError):  # best effort: the kernel's killer remains
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, most))
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end
