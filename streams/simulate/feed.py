"""A simulation fed from a file: the events are applied, the problems of bad lines are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streams.contract.event_reader import Event
from streams.ingest.items import FeedProblem
from streams.whatif.simulation import Simulation


def run_feed(simulation: Simulation, items: Iterable[Event | FeedProblem]) -> list[FeedProblem]:
    """Applies the events among the items; returns the problems among them."""
    problems: list[FeedProblem] = []
    simulation.run(_events(items, problems))
    return problems


def _events(items: Iterable[Event | FeedProblem], problems: list[FeedProblem]) -> Iterator[Event]:
    for item in items:
        if isinstance(item, FeedProblem):
            problems.append(item)
        else:
            yield item
