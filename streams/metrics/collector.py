"""The numbers as Prometheus families, when somebody asks.

What the machines hold is read on the main loop, which alone changes it. While that is busy, in a
restore for one, the last look is answered again.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from engine.metrics import snapshot
from engine.partition_machine import PartitionMachine
from streams.metrics.registry import (
    COUNTER,
    ENGINE,
    EVENT_LABELS,
    HISTOGRAM,
    METRICS,
    ZEROS,
    Buckets,
    Metric,
    Stats,
    engine_counters,
)

LOOK_PATIENCE = 1.0
OTHER = "other"

Values = Mapping[Any, float]
"""By the label's value, by a tuple where there are several, by None where there is none."""


class Collector:
    """For a registry; ``collect`` runs in the thread of the endpoint."""

    def __init__(self, stats: Stats, worker: Any, max_products: int) -> None:
        self._stats, self._worker, self._max_products = stats, worker, max_products
        self._loop = asyncio.get_running_loop()
        self._version = importlib.metadata.version("seatflow")
        self._seen = self._look()

    def collect(self) -> Iterator[Any]:
        seen = self._newest()
        for metric in METRICS:
            zeros = dict.fromkeys(ZEROS.get(metric.name, ()), 0)
            values = seen[metric.name]
            yield _family(metric, zeros | dict(values) if zeros else values)

    def _newest(self) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            return self._look()

        work = look()
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._seen = asked.result(LOOK_PATIENCE)
        except TimeoutError:
            asked.cancel()
        except RuntimeError:  # the loop has ended: so does the process
            work.close()
        return self._seen

    def _look(self) -> dict[str, Any]:
        stats, worker = self._stats, self._worker
        partitions = [p for p in worker.partitions.values() if p.running]
        engine = Counter(stats.engine)
        for partition in partitions:
            engine.update(engine_counters(partition.machine))
        return {
            **{name: dict(counts) for name, counts in stats.counts.items()},
            **{name: _copy(buckets) for name, buckets in stats.histograms.items()},
            **{metric.name: {None: engine[metric.name]} for metric in ENGINE},
            "partitions": {None: worker.settings.partitions},
            "partitions_owned": {None: len(partitions)},
            "partitions_opening": {None: len(worker.partitions) - len(partitions)},
            "queue_records": worker.lag.queued(partitions),
            "lag_records": worker.lag.records(partitions),
            "lag_seconds": worker.lag.seconds(partitions, time.time()),
            "build_info": {self._version: 1},
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
    """One series for each of the ``most`` products with the most units; the rest in one."""
    ranked = sorted(seats, key=lambda one: (-max(one.units, one.used), one.tenant, one.sku))
    units: Counter[tuple[str, str]] = Counter()
    used, waiting = units.copy(), units.copy()
    info: dict[tuple[str, str], float] = {}
    for rank, one in enumerate(ranked):
        key = (one.tenant, one.sku) if rank < most else (OTHER, OTHER)
        units[key] += one.units
        used[key] += one.used
        waiting[key] += one.waiting
        # One that the catalogue does not define goes by its skuId.
        info[(one.sku, one.part_number or one.sku) if rank < most else (OTHER, OTHER)] = 1
    return {
        "seats_units": units,
        "seats_used": used,
        "seats_available": {key: units[key] - used[key] for key in units},
        "users_waiting": waiting,
        "product_info": info,
    }


def _copy(buckets: Buckets) -> tuple[list[tuple[str, float]], float]:
    """As the family wants it: cumulative counts by the text of their bounds, and the sum."""
    bounds = [*(str(float(bound)) for bound in buckets.bounds), "+Inf"]
    return list(zip(bounds, accumulate(buckets.counts), strict=True)), buckets.sum


def _family(metric: Metric, values: Any) -> Any:
    name = f"seatflow_{metric.name}"
    if metric.kind == HISTOGRAM:
        family = HistogramMetricFamily(name, metric.meaning)
        family.add_metric([], *values)
        return family
    make: Any = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
    family = make(name, metric.meaning, labels=metric.labels)
    if not metric.labels:
        values = values or {None: 0}
    for key, value in values.items():
        labels = key if isinstance(key, tuple) else () if key is None else (key,)
        family.add_metric([_text(label) for label in labels], value)
    return family


def _text(label: Any) -> str:
    return EVENT_LABELS[label] if isinstance(label, type) else str(label)
