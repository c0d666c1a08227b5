"""The log events of a worker and of the console, on one screen, and the set-up of logging.

Ids of users and groups, and texts from records, are logged at DEBUG only. The reference page
``docs/reference/logs.md`` is generated from this table.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

WORKER_STARTED = "worker_started"
BROKER_AWAITED = "broker_awaited"
BROKER_AWAY = "broker_away"
BROKER_BACK = "broker_back"
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
EVENTS_FORWARDED = "events_forwarded"
OFFSETS_NOT_NOTED = "offsets_not_noted"
CONSOLE_COMMAND = "console_command"
CONSOLE_COMMAND_FAILED = "console_command_failed"
CONSOLE_PROBLEM = "console_problem"
CONSOLE_REBUILT = "console_rebuilt"
VALUE_IGNORED = "value_ignored"
METRICS_FAILED = "metrics_failed"
TOKENS_READABLE = "tokens_readable"
TOPICS_CHECKED = "topics_checked"
TOPIC_MENDED = "topic_mended"
TOPIC_WRONG = "topic_wrong"
TOPIC_UNSAFE = "topic_unsafe"
PARTITION_SUSPECTED = "partition_suspected"
PROCESSOR_FAILED = "processor_failed"
PROCESSOR_SKIPPED = "processor_skipped"


class Event(NamedTuple):
    """A row of the table; ``fields``: meaning by name. A line may omit fields."""

    name: str
    level: str
    meaning: str
    fields: Mapping[str, str] = {}


WHERE = {"partition": "the partition's number"}
RECORDS = {"records": "number of records"}
END = {"why": "the reason", "exit": "the exit code"}
EVENTS = (
    Event(
        WORKER_STARTED,
        "info",
        "the topics are checked; the worker joins the consumer group",
        {
            "app": "SEATFLOW_APP_ID",
            "worker": "SEATFLOW_WORKER_ID, or dynamic",
            "pid": "process id",
            "brokers": "SEATFLOW_BROKERS",
            "metrics": "URL of the worker's metrics",
        },
    ),
    Event(
        BROKER_AWAITED,
        "warning",
        "no broker answers yet; the worker waits",
        {"brokers": "SEATFLOW_BROKERS", "at_most": "seconds until it gives up"},
    ),
    Event(
        BROKER_AWAY,
        "warning",
        "no broker has answered for some seconds; worker, console or receiver are not ready until"
        " one does",
        {
            "brokers": "SEATFLOW_BROKERS",
            "seconds": "since the last answer",
            "error": "of the last attempt",
        },
    ),
    Event(
        BROKER_BACK,
        "info",
        "a broker answers again",
        {"brokers": "SEATFLOW_BROKERS", "seconds": "for which none did"},
    ),
    Event(WORKER_STOPPING, "info", "a signal asked the worker to stop"),
    Event(WORKER_STOPPED, "info", "the open transactions are committed, the worker left the group"),
    Event(
        STOP_TIMED_OUT,
        "warning",
        "the orderly stop took too long; the process exits",
        {"why": "the reason"},
    ),
    Event(
        ASSIGNED,
        "info",
        "partitions were assigned",
        {
            "generation": "of the consumer group",
            "partitions": "all partitions of this worker",
            "kept": "those that it had before",
        },
    ),
    Event(
        PARTITION_FENCED,
        "info",
        "this worker owns the partition; its previous owner can write no more",
        WHERE,
    ),
    Event(
        PARTITION_RESTORED,
        "info",
        "the partition's state is restored; processing starts",
        WHERE | RECORDS | {"rows": "rows in the state", "seconds": "since the assignment"},
    ),
    Event(PARTITION_CLOSED, "info", "the partition was revoked or lost", WHERE),
    Event(
        FENCED,
        "error",
        "another worker owns a partition of this worker; the process exits",
        WHERE | END | {"error": "the exception's name"},
    ),
    Event(
        FAIL_STOP,
        "error",
        "unrecoverable error; the process exits. Exit code 70 is a bug, with a traceback",
        WHERE | END | {"error": "the exception's name"},
    ),
    Event(STALLED, "error", "no progress, or a blocked event loop; the process exits", END),
    Event(
        GAP,
        "info",
        "a rebalance dropped a fetched batch; its records are fetched again",
        WHERE | {"topic": "short name", "at": "expected offset", "got": "received offset"},
    ),
    Event(
        INPUT_EXPIRED,
        "error",
        "retention deleted input records before a worker read them",
        WHERE | RECORDS | {"topic": "short name"},
    ),
    Event(
        DEAD_LETTER,
        "warning",
        "input records that cannot be read; the dead letters have the reasons in full",
        WHERE
        | {
            "topic": "short name",
            "offset": "of the first such record of the batch",
            "reason": "the code of the reason, as in `dlq.code` and in the metric's label",
            "more": "number of further such records in the batch",
        },
    ),
    Event(
        PARTITION_SUSPECTED,
        "warning",
        "the last worker of this partition ended before it had applied anything; the records of the"
        " backlog are tried in a child process before they are applied",
        WHERE,
    ),
    Event(
        EVENTS_FORWARDED,
        "info",
        "events of this input topic were found on another partition than that of their key, and"
        " forwarded to it: a producer uses another partitioner than murmur2. Nothing has to be done"
        " (R29). At most one line a minute for each topic",
        {"topic": "short name of the input topic", "events": "number since the last such line"},
    ),
    Event(
        PROCESSOR_FAILED,
        "error",
        "a slice of records failed with a bug, whose traceback follows; nothing of it is committed,"
        " and its records are replayed one by one",
        WHERE | RECORDS | {"error": "the exception's name"},
    ),
    Event(
        PROCESSOR_SKIPPED,
        "error",
        "the record that fails, stalls, or ends the process when it is applied alone; it becomes a"
        " dead letter",
        WHERE | {"topic": "short name", "offset": "of the record", "error": "the exception"},
    ),
    Event(
        OFFSETS_NOT_NOTED,
        "debug",
        "the group's offsets could not be committed; the next attempt follows",
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
        TOKENS_READABLE,
        "warning",
        "a file with tokens in plain text can be read by everybody on the machine",
        {"file": "its path"},
    ),
    Event(
        METRICS_FAILED,
        "error",
        "a worker's metrics could not be collected",
        {"why": "the exception; a traceback follows"},
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
        VALUE_IGNORED,
        "warning",
        "the receiver accepted a request but not one of its values; each text is logged once",
        {"tenant": "the tenant", "source": "name of the source", "why": "a sentence"},
    ),
    Event(
        TOPICS_CHECKED,
        "info",
        "the topics that were missing are made, by `seatflow topics create`, or by a worker that"
        " finds all topics but those that are new in its release",
        {
            "made": "how many",
            "found": "how many were there already",
            "brokers": "SEATFLOW_BROKERS",
            "partitions": "SEATFLOW_PARTITIONS",
        },
    ),
    Event(
        TOPIC_MENDED,
        "warning",
        "`seatflow topics create` has changed a setting of a topic",
        {"why": "a sentence"},
    ),
    Event(
        TOPIC_UNSAFE,
        "warning",
        "a setting of an input topic lets producers do harm; `seatflow topics create` mends it",
        {"why": "a sentence"},
    ),
    Event(TOPIC_WRONG, "error", "a topic is not as it must be", {"why": "a sentence"}),
)

# The libraries log every rebalance at INFO, and aiokafka logs retries that will succeed at ERROR.
# Whatever ends a worker arrives as an exception. Mode logs under the module of a class.
QUIET = {
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "streams.kafka.faust_adapter": logging.ERROR,
    "aiokafka": logging.CRITICAL,
}


def configure(level: str = "info", fmt: str = "console") -> None:
    """Sends all logs to stderr, one line each; ``fmt`` is console or json."""
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
    # At DEBUG it logs the bytes of every message, including those of a login.
    quiet = logging.INFO if level == "debug" else logging.CRITICAL
    logging.getLogger("aiokafka.conn").setLevel(quiet)
