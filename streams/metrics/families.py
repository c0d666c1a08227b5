"""A row of the table of metrics, with its values, as a family of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from streams.metrics.registry import COUNTER, EVENT_LABELS, HISTOGRAM, Metric

Values = Mapping[Any, float]
"""By the label's value; by a tuple if there are several labels, by None if there is none."""


def family(metric: Metric, values: Any) -> Any:
    """Returns a metric with its values; of a histogram its cumulative counts and its sum."""
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
    return EVENT_LABELS.get(label, label.__name__) if isinstance(label, type) else str(label)


class _Given:
    def __init__(self, metrics: Iterable[Metric], values: Mapping[str, Values]) -> None:
        self._metrics, self._values = metrics, values

    def collect(self) -> Iterator[Any]:
        """Yields the metrics with their values."""
        return (family(metric, self._values[metric.name]) for metric in self._metrics)


def exposition(metrics: Iterable[Metric], values: Mapping[str, Values]) -> bytes:
    """Returns metrics with these values, and those of the process, in Prometheus' text form."""
    registry = CollectorRegistry()
    registry.register(_Given(metrics, values))
    ProcessCollector(registry=registry)
    return generate_latest(registry)
