"""The tree of expected errors, and the exit codes that a supervisor may act on.

The codes are those of sysexits.h. Whatever the code, the partitions stay as their last committed
transaction left them: a worker is disposable, its successor fences and restores.

Every expected error derives from :class:`SeatflowError`: its text is one line for people, and
``exit_code`` states who acts. TEMPORARY: the supervisor, by a restart. CONFIGURATION: an operator.
Any other exception is a bug (SOFTWARE). The command line turns errors into exit codes in one place,
``streams/cli/main.py``; ``streams/kafka/errors.py`` does so for exceptions of the Kafka client.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import structlog

OK = 0
SOFTWARE = 70  # an unexpected exception: a bug; a restart may meet it again
TEMPORARY = 75  # fenced by a new owner, broker away, stalled: a restart is right
CONFIGURATION = 78  # settings, topics or permissions are wrong: a restart does not help

MEANING = {
    OK: "stopped as asked (SIGTERM, SIGINT)",
    SOFTWARE: "an unexpected exception: an internal error of Seatflow",
    TEMPORARY: "fenced by another worker, no broker, or no progress: start it again",
    CONFIGURATION: "settings, topics or permissions are wrong: see the message",
}

log = structlog.get_logger("seatflow")


class SeatflowError(Exception):
    """An expected failure. The message is one line for people: what is wrong, what to do."""

    exit_code = CONFIGURATION


class WorkerError(SeatflowError):
    """Ends a worker, or a command that depends on the brokers, with its exit code."""

    def __init__(self, message: str, exit_code: int = TEMPORARY) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_now(code: int) -> NoReturn:
    """Exits immediately without cleanup. The next owner aborts the open transaction."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
