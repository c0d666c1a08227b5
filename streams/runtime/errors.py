"""How a worker ends, and what the supervisor that restarts it may read from the exit code.

The codes are those of sysexits.h. Everything that is not 0 leaves the partitions as their last
committed transaction has them: a worker is disposable, its successor fences and restores.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import structlog

OK = 0
SOFTWARE = 70  # an exception of ours: a bug; restarting may meet it again
TEMPORARY = 75  # fenced by a new owner, broker away, stalled: restarting is right
CONFIGURATION = 78  # settings, topics or permissions are wrong: restarting does not help

MEANING = {
    OK: "stopped as asked (SIGTERM, SIGINT)",
    SOFTWARE: "an unexpected exception: a bug of Seatflow",
    TEMPORARY: "fenced by another worker, no broker, or no progress: start it again",
    CONFIGURATION: "settings, topics or permissions are wrong: see the message",
}

log = structlog.get_logger("seatflow")


class WorkerError(Exception):
    """Ends the worker with one line for a person and an exit code."""

    def __init__(self, message: str, code: int = TEMPORARY) -> None:
        super().__init__(message)
        self.code = code


def leave(code: int) -> NoReturn:
    """The end at once, no cleaning up: what is not committed is to be undone by the next owner."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
