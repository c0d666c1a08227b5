"""What a worker says: the names of its log events, and how they are written."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

WORKER_STARTED = "worker_started"
BROKER_AWAITED = "broker_awaited"
WORKER_STOPPING = "worker_stopping"
WORKER_STOPPED = "worker_stopped"
STOP_TIMED_OUT = "stop_timed_out"
TOPICS_WRONG = "topics_wrong"
ASSIGNED = "assigned"
PARTITION_FENCED = "partition_fenced"  # this worker owns it now, whoever did before
PARTITION_RESTORED = "partition_restored"
PARTITION_CLOSED = "partition_closed"
FENCED = "fenced"  # another worker owns a partition of ours: the end
FAIL_STOP = "fail_stop"
STALLED = "stalled"
GAP = "gap"
INPUT_EXPIRED = "input_expired"
DEAD_LETTER = "dead_letter"
OFFSETS_NOT_NOTED = "offsets_not_noted"
METRICS_SERVED = "metrics_served"

# The libraries tell of every rebalance at INFO, and aiokafka of a retry that will succeed at ERROR.
# What ends a worker comes to us as an exception. Mode logs a class's doings under its module.
QUIET = {
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "streams.faust_layer": logging.ERROR,
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
