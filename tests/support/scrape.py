"""A worker's metrics as numbers, and its health."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.system import Worker


class Sample(NamedTuple):
    """One sample of a metric."""

    name: str
    labels: dict[str, str]
    value: float


def address(worker: Worker) -> str:
    """Returns the address of the worker's endpoint from its log, such as http://127.0.0.1:41234."""
    text = "\n".join(worker.lines)
    found = re.search(r"metrics\W+(http://[\w.]+:\d+)/metrics", text)
    assert found, text
    return found[1]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(*workers: Worker) -> list[Sample]:
    """Returns the samples of all workers, one after the other."""
    return [s for worker in workers for s in parse(get(f"{address(worker)}/metrics")[1])]


def parse(text: str) -> Iterable[Sample]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield Sample(sample.name, sample.labels, sample.value)


def summed(samples: Iterable[Sample], name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Returns the sum over all workers by the values of these labels, without zeros."""
    sums: dict[tuple[str, ...], float] = {}
    for sample in samples:
        if sample.name == name:
            key = tuple(sample.labels[label] for label in labels)
            sums[key] = sums.get(key, 0.0) + sample.value
    return {key: value for key, value in sums.items() if value}


def total(samples: Iterable[Sample], name: str, **where: str) -> float:
    chosen = [s for s in samples if s.name == name and s.labels.items() >= where.items()]
    assert chosen, f"no {name}"
    return sum(s.value for s in chosen)
