"""The tree of expected errors, and the exit codes that a supervisor may act on.

The codes are those of sysexits.h. Whatever the code, the partitions stay as their last committed
transaction left them: a worker is disposable, its successor fences and restores.

Every expected error derives from :class:`SeatflowError`: its text is one line for people, and
``actor`` states who acts on it, from which the exit code follows. Errors of a record or a request
derive from :class:`SenderError`: they become a dead letter, a rejection or an HTTP 4xx. Any other
exception is a bug (SOFTWARE). The command line turns errors into exit codes in one place,
``streams/cli/main.py``; ``streams/kafka/errors.py`` does so for exceptions of the Kafka client.
"""

from __future__ import annotations

import os
import sys
from enum import Enum
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


class Actor(Enum):
    """The party that acts on an error, and its action."""

    NOBODY = "temporary: a restart of the worker, or another attempt, is right"
    OPERATOR = "settings, topics, files or permissions are wrong: an operator corrects them"
    SENDER = "a record or a request is refused: its sender corrects it"
    DEVELOPER = "an internal error: it is reported with its traceback"

    @property
    def exit_code(self) -> int:
        """The exit code of a process that such an error ends."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Actor.NOBODY: TEMPORARY,
    Actor.OPERATOR: CONFIGURATION,
    Actor.SENDER: CONFIGURATION,  # of a command, whose operator has given it the record
    Actor.DEVELOPER: SOFTWARE,
}


class SeatflowError(Exception):
    """An expected failure. The message is one line for people: what is wrong, what to do."""

    @property
    def actor(self) -> Actor:
        """The party that acts on this error."""
        return Actor.OPERATOR

    @property
    def exit_code(self) -> int:
        """The exit code of the process that this error ends."""
        return self.actor.exit_code


class SenderError(SeatflowError):
    """A record or a request that cannot be accepted. It never ends a worker, console or feed."""

    actor = Actor.SENDER


class TemporaryError(SeatflowError):
    """A failure that the next attempt may not meet: nobody needs to correct anything."""

    actor = Actor.NOBODY


class WorkerError(SeatflowError):
    """Ends a worker, or a command that depends on the brokers, with its exit code."""

    def __init__(self, message: str, exit_code: int = TEMPORARY) -> None:
        super().__init__(message)
        self._exit_code = exit_code

    @property
    def actor(self) -> Actor:
        """The party that the exit code names; a developer, for a code that is not one of ours."""
        if self._exit_code == TEMPORARY:
            return Actor.NOBODY
        return Actor.OPERATOR if self._exit_code == CONFIGURATION else Actor.DEVELOPER

    @property
    def exit_code(self) -> int:
        """The exit code given; of a process that ended by itself, that process's own."""
        return self._exit_code


def exit_now(code: int) -> NoReturn:
    """Exits immediately without cleanup. The next owner aborts the open transaction."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
