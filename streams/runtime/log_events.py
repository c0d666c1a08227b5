"""What a worker says: its log events, on one screen, and how they are written.

Ids and all that people wrote stay below: at DEBUG, and in the topics. ``docs/reference/logs.md`` is
made of this table.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

WORKER_STARTED = "worker_started"
BROKER_AWAITED = "broker_awaited"
WORKER_STOPPING = "worker_stopping"
WORKER_STOPPED = "worker_stopped"
STOP_TIMED_OUT = "stop_timed_out"
ASSIGNED = "assigned"
PARTITION_FENCED = "partition_fenced"
PARTITION_RESTORED = "partition_restored"
PARTITION_CLOSED = "partition_closed"
FENCED = "fenced"
FAIL_STOP = "fail_stop"
STALLED = "stalled"
GAP = "gap"
INPUT_EXPIRED = "input_expired"
DEAD_LETTER = "dead_letter"
OFFSETS_NOT_NOTED = "offsets_not_noted"
CONSOLE_COMMAND = "console_command"
CONSOLE_COMMAND_FAILED = "console_command_failed"
CONSOLE_PROBLEM = "console_problem"
CONSOLE_REBUILT = "console_rebuilt"
TOPICS_CHECKED = "topics_checked"
TOPIC_WRONG = "topic_wrong"


class Event(NamedTuple):
    """``fields`` by name, with their meaning; not all are always there."""

    name: str
    level: str
    meaning: str
    fields: Mapping[str, str] = {}


WHERE = {"partition": "its number"}
RECORDS = {"records": "how many"}
END = {"why": "a sentence", "exit": "the exit code"}
EVENTS = (
    Event(
        WORKER_STARTED,
        "info",
        "the topics are right; the group is joined next",
        {
            "app": "SEATFLOW_APP_ID",
            "worker": "SEATFLOW_WORKER_ID, or dynamic",
            "pid": "of the process",
            "brokers": "SEATFLOW_BROKERS",
            "metrics": "the address of its metrics",
        },
    ),
    Event(
        BROKER_AWAITED,
        "warning",
        "no broker answers yet",
        {"brokers": "SEATFLOW_BROKERS", "at_most": "seconds that it waits"},
    ),
    Event(WORKER_STOPPING, "info", "it was asked to stop"),
    Event(WORKER_STOPPED, "info", "it has finished what was open, and left the group"),
    Event(STOP_TIMED_OUT, "warning", "it ends without having finished", {"why": "a sentence"}),
    Event(
        ASSIGNED,
        "info",
        "the group dealt the partitions",
        {
            "generation": "of the group",
            "partitions": "all that this worker has now",
            "kept": "those of them that it goes on with",
        },
    ),
    Event(PARTITION_FENCED, "info", "this worker owns it now, whoever did before", WHERE),
    Event(
        PARTITION_RESTORED,
        "info",
        "its state is read back; it runs",
        WHERE | RECORDS | {"rows": "in the state", "seconds": "since it was given"},
    ),
    Event(PARTITION_CLOSED, "info", "it is given up", WHERE),
    Event(
        FENCED,
        "error",
        "another worker owns a partition of this one: the end",
        WHERE | END | {"error": "the exception's name"},
    ),
    Event(
        FAIL_STOP,
        "error",
        "it cannot go on for sure: the end. With exit 70 there is a traceback: a bug",
        WHERE | END | {"error": "the exception's name"},
    ),
    Event(STALLED, "error", "no progress, or a blocked event loop: the end", END),
    Event(
        GAP,
        "info",
        "a rebalance dropped a batch on its way; it is read again",
        WHERE | {"topic": "short name", "at": "offset expected", "got": "offset that came"},
    ),
    Event(
        INPUT_EXPIRED,
        "error",
        "retention deleted input that nobody had read",
        WHERE | RECORDS | {"topic": "short name"},
    ),
    Event(
        DEAD_LETTER,
        "warning",
        "input that cannot be read; what exactly is in the dead letter",
        WHERE
        | {
            "topic": "short name",
            "offset": "of the first of the batch",
            "reason": "its kind, as the label of the metric",
            "more": "others of the same batch",
        },
    ),
    Event(
        OFFSETS_NOT_NOTED,
        "debug",
        "the offsets for lag tools will be noted later",
        {"error": "the exception"},
    ),
    Event(
        CONSOLE_COMMAND,
        "info",
        "the console sent a command, with its audit record",
        {"id": "of the command", "activity": "as in the audit log"},
    ),
    Event(
        CONSOLE_COMMAND_FAILED,
        "warning",
        "the broker did not accept or did not confirm a command of the console",
        {"id": "of the command", "activity": "as in the audit log", "why": "the exception"},
    ),
    Event(
        CONSOLE_PROBLEM,
        "warning",
        "the console cannot follow the topics; it tries again",
        {"problem": "a sentence"},
    ),
    Event(
        CONSOLE_REBUILT,
        "warning",
        "the console's read model is rebuilt from the topics",
        {"why": "a sentence"},
    ),
    Event(
        TOPICS_CHECKED,
        "info",
        "`seatflow topics create` has made the topics that were missing",
        {
            "made": "how many",
            "found": "how many were there already",
            "brokers": "SEATFLOW_BROKERS",
            "partitions": "SEATFLOW_PARTITIONS",
        },
    ),
    Event(TOPIC_WRONG, "error", "a topic is not as it must be", {"why": "a sentence"}),
)

# The libraries tell of every rebalance at INFO, and aiokafka of a retry that will succeed at ERROR.
# What ends a worker comes to us as an exception. Mode logs a class's doings under its module.
QUIET = {
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "streams.kafka.faust_adapter": logging.ERROR,
    "aiokafka": logging.CRITICAL,
}


def configure(level: str = "info", fmt: str = "console") -> None:
    """Everything to stderr, one line each, the libraries' too; ``fmt`` is console or json."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )
    if fmt == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else least)
    # At DEBUG it tells the bytes of every message, those of a login among them.
    quiet = logging.INFO if level == "debug" else logging.CRITICAL
    logging.getLogger("aiokafka.conn").setLevel(quiet)
