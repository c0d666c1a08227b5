"""What a worker counts, on one screen, and its HTTP endpoint: /metrics and /healthz.

The engine counts for itself (``machine.counters``, a dict of plain ints): those numbers are
collected when somebody asks, as ``seatflow_engine_<name>_total``. No label carries a user's id.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streams.exits import CONFIGURATION, WorkerError

# name without seatflow_, what it counts, label; `_total` is added
COUNTERS = (
    ("events", "input events applied, by the engine's name of their type", "type"),
    ("records_in", "records read and applied, inputs and internal ones", "topic"),
    ("records_out", "records written and committed", "topic"),
    ("dead_letters", "input records that could not be read", "topic"),
    ("transactions", "transactions committed", None),
    ("partitions_fenced", "partitions taken over: earlier owners are fenced", None),
    ("restored_rows", "rows read back when partitions were taken over", None),
    ("rebalances", "assignments of the group seen", None),
    ("gaps", "batches that did not fit on and were read again", None),
    ("expired", "input records that retention deleted before they were read", "topic"),
)
GAUGES = (
    ("partitions_owned", "partitions that this worker runs", None),
    ("partitions_opening", "partitions being fenced and restored", None),
    ("queue_records", "records fetched and not applied yet", "topic"),
    ("lag_records", "committed records not applied yet", "topic"),
    ("lag_seconds", "age of the oldest record that is fetched and not applied", "topic"),
    ("restore_seconds", "the longest that taking over a partition took", None),
)
TRANSACTION_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 15)


class Stats:
    """The layer's own numbers; partitions and the worker add to them on the main loop."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counts: dict[str, Counter[Any]] = {name: Counter() for name, _, _ in COUNTERS}
        self.engine: Counter[str] = Counter()  # of machines that are closed
        self.restore_seconds = 0.0
        self.transaction_seconds = Histogram(
            "seatflow_transaction_seconds",
            "from the first record sent to committed",
            registry=self.registry,
            buckets=TRANSACTION_SECONDS,
        )

    def add(self, name: str, label: Any = None, count: int = 1) -> None:
        self.counts[name][label] += count


class Collector:
    """The numbers as Prometheus families, when asked for; runs in the thread of the endpoint."""

    def __init__(self, stats: Stats, worker: Any) -> None:
        self._stats, self._worker = stats, worker

    def collect(self) -> Iterator[Any]:
        for name, meaning, label in COUNTERS:
            yield _family(CounterMetricFamily, name, meaning, label, self._stats.counts[name])
        gauges = self._gauges()
        for name, meaning, label in GAUGES:
            yield _family(GaugeMetricFamily, name, meaning, label, gauges[name])
        engine = Counter(self._stats.engine)
        for partition in list(self._worker.partitions.values()):
            engine.update(engine_counters(partition.machine))
        for name, value in sorted(engine.items()):
            meaning = f"the engine's {name.replace('_', ' ')}"
            yield _family(CounterMetricFamily, f"engine_{name}", meaning, None, {None: value})

    def _gauges(self) -> dict[str, dict[Any, float]]:
        partitions = list(self._worker.partitions.values())
        queued: Counter[str] = Counter()
        age: dict[str, float] = {}
        now = time.time()
        for partition in partitions:
            for topic, count, oldest in partition.queues():
                queued[topic] += count
                age[topic] = max(age.get(topic, 0.0), now - oldest if count else 0.0)
        running = sum(partition.running for partition in partitions)
        return {
            "partitions_owned": {None: running},
            "partitions_opening": {None: len(partitions) - running},
            "queue_records": dict(queued),
            "lag_records": dict(self._worker.lag),
            "lag_seconds": dict(age),
            "restore_seconds": {None: self._stats.restore_seconds},
        }


def engine_counters(machine: Any) -> dict[str, int]:
    """A copy, since the machine may count on meanwhile."""
    return dict(getattr(machine, "counters", None) or {})


def _family(
    kind: Callable[..., Any],
    name: str,
    meaning: str,
    label: str | None,
    values: Mapping[Any, float],
) -> Any:
    family = kind(f"seatflow_{name}", meaning, labels=[label] if label else [])
    for key, value in list(values.items()):
        shown = _snake(key.__name__) if isinstance(key, type) else str(key)
        family.add_metric([shown] if label else [], value)
    return family


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def serve(registry: CollectorRegistry, port: int, healthy: Callable[[], Iterable[str]]) -> int:
    """Serves in a thread of its own and returns the port. ``healthy`` gives what is wrong."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif path == "/healthz":
                wrong = list(healthy())
                text = "\n".join(wrong or ["ok"]) + "\n"
                self._answer(503 if wrong else 200, "text/plain; charset=utf-8", text.encode())
            else:
                self._answer(404, "text/plain; charset=utf-8", b"/metrics and /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise WorkerError(
            f"SEATFLOW_METRICS_PORT is {port}: cannot listen there ({error.strerror})",
            CONFIGURATION,
        ) from None
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_address[1])
