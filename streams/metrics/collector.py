"""The numbers as Prometheus families, when somebody asks.

What the machines hold is read on the main loop, which alone changes it. While that is busy, in a
restore for one, the last look is answered again.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from engine.metrics import snapshot
from engine.partition_machine import PartitionMachine
from streams.metrics.families import Values, family
from streams.metrics.registry import (
    ENGINE,
    INITIAL_SERIES,
    METRICS,
    Histogram,
    WorkerMetrics,
    engine_counters,
)

SNAPSHOT_TIMEOUT_SECONDS = 1.0
OTHER = "other"


class Collector:
    """Collector for a Prometheus registry; ``collect`` runs in the thread of the endpoint."""

    def __init__(self, metrics: WorkerMetrics, worker: Any, max_products: int) -> None:
        self._metrics, self._worker, self._max_products = metrics, worker, max_products
        self._loop = asyncio.get_running_loop()
        self._version = importlib.metadata.version("seatflow")
        self._latest = self._snapshot()

    def collect(self) -> Iterator[Any]:
        """Yields all metric families; the last known values if the event loop does not respond."""
        values_by_name = self._newest()
        for metric in METRICS:
            initial = dict.fromkeys(INITIAL_SERIES.get(metric.name, ()), 0)
            values = values_by_name[metric.name]
            yield family(metric, initial | dict(values) if initial else values)

    def _newest(self) -> dict[str, Any]:
        async def snapshot() -> dict[str, Any]:
            return self._snapshot()

        work = snapshot()
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._latest = future.result(SNAPSHOT_TIMEOUT_SECONDS)
        except TimeoutError:
            future.cancel()
        except RuntimeError:  # the loop has ended: so does the process
            work.close()
        return self._latest

    def _snapshot(self) -> dict[str, Any]:
        metrics, worker = self._metrics, self._worker
        partitions = [p for p in worker.partitions.values() if p.is_open]
        engine = Counter(metrics.engine)
        for partition in partitions:
            engine.update(engine_counters(partition.machine))
        return {
            **{name: dict(counts) for name, counts in metrics.counts.items()},
            **{name: _copy(histogram) for name, histogram in metrics.histograms.items()},
            **{metric.name: {None: engine[metric.name]} for metric in ENGINE},
            "partitions": {None: worker.settings.partitions},
            "partitions_owned": {None: len(partitions)},
            "partitions_opening": {None: len(worker.partitions) - len(partitions)},
            "queue_records": worker.lag.queued(partitions),
            "lag_records": worker.lag.records(partitions),
            "lag_seconds": worker.lag.seconds(partitions, time.time()),
            "build_info": {self._version: 1},
            "broker_reachable": {None: not worker.broker.is_away},
            **_state([p.machine for p in partitions], self._max_products),
        }


def _state(machines: Iterable[Any], max_products: int) -> dict[str, Values]:
    found = [snapshot(machine) for machine in machines if isinstance(machine, PartitionMachine)]
    seats = [one for figures in found for one in figures.seats]
    return {
        "users": {None: sum(f.users for f in found)},
        "users_in_error": sum((Counter(f.errors) for f in found), Counter()),
        "users_with_errors": {None: sum(f.with_errors for f in found)},
        "seat_requests_in_flight": {None: sum(f.in_flight for f in found)},
        "groups": sum((Counter(f.groups) for f in found), Counter()),
        "groups_with_errors": {None: sum(f.groups_with_errors for f in found)},
        "seats_held": {None: sum(f.held for f in found)},
        "users_denied": {None: sum(f.denied for f in found)},
        "seats_oversold": {None: sum(f.oversold for f in found)},
        **by_product(seats, max_products),
    }


def by_product(seats: list[Any], most: int) -> dict[str, Values]:
    """Returns series of the ``most`` products with the most units; the rest is summed in one."""
    ranked = sorted(seats, key=lambda one: (-max(one.units, one.used), one.tenant, one.sku))
    units: Counter[tuple[str, str]] = Counter()
    used, waiting = units.copy(), units.copy()
    info: dict[tuple[str, str], float] = {}
    for rank, one in enumerate(ranked):
        key = (one.tenant, one.sku) if rank < most else (OTHER, OTHER)
        units[key] += one.units
        used[key] += one.used
        waiting[key] += one.waiting
        # A product that the catalog does not define goes by its skuId.
        info[(one.sku, one.part_number or one.sku) if rank < most else (OTHER, OTHER)] = 1
    return {
        "seats_units": units,
        "seats_used": used,
        "seats_available": {key: units[key] - used[key] for key in units},
        "users_waiting": waiting,
        "product_info": info,
    }


def _copy(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Returns the cumulative counts by the text of their bounds, and the sum."""
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum
