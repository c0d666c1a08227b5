"""How far a worker is behind, in records and in seconds, by topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from aiokafka import TopicPartition

from streams.contract.topics import CONSUMED


class Queued(Protocol):
    number: int

    def queues(self) -> Iterable[tuple[str, int, float]]:
        """Topic, records queued, and the timestamp of the oldest in seconds (0.0 if none)."""
        ...


class Lag:
    """What is committed and not applied: still in the log, and fetched into the queues.

    The age of what is still in the log is not known. It is taken as the time since it was first
    seen to be there: too low until it is fetched, for a second or so where the worker keeps up.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names  # full -> short
        self._unread: dict[tuple[str, int], int] = {}
        self._since: dict[tuple[str, int], float] = {}

    def look(self, places: Mapping[TopicPartition, tuple[int, int]], now: float) -> None:
        """``places``: the position of each log, and the end of its committed records."""
        unread = {
            (self._names[tp.topic], tp.partition): end - at
            for tp, (at, end) in places.items()
            if end > at
        }
        self._since = {place: self._since.get(place, now) for place in unread}
        self._unread = unread

    def queued(self, partitions: Iterable[Queued]) -> dict[str, float]:
        counts = dict.fromkeys(CONSUMED, 0.0)
        for partition in partitions:
            for topic, count, _ in partition.queues():
                counts[topic] += count
        return counts

    def records(self, partitions: Iterable[Queued]) -> dict[str, float]:
        partitions = list(partitions)
        counts = self.queued(partitions)
        numbers = {partition.number for partition in partitions}
        for (topic, number), count in self._unread.items():
            if number in numbers:
                counts[topic] += count
        return counts

    def seconds(self, partitions: Iterable[Queued], now: float) -> dict[str, float]:
        ages = dict.fromkeys(CONSUMED, 0.0)
        for partition in partitions:
            for topic, count, oldest in partition.queues():
                since = oldest if count else self._since.get((topic, partition.number), now)
                ages[topic] = max(ages[topic], now - since)
        return ages
