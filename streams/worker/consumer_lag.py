"""The lag of a worker, in records and in seconds, by topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from aiokafka import TopicPartition

from streams.contract.topics import CONSUMED


class QueueOwner(Protocol):
    """A partition with its queues."""

    number: int

    def queues(self) -> Iterable[tuple[str, int, float]]:
        """Yields topic, records queued, and the oldest one's timestamp in seconds (0.0: none)."""


class ConsumerLag:
    """Records that are committed and not applied: those in the log, and those in the queues.

    The age of records in the log is unknown. It is taken as the time since they were first seen
    there, which is too low until they are fetched: for about a second where the worker keeps up.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names  # full -> short
        self._unread: dict[tuple[str, int], int] = {}
        self._since: dict[tuple[str, int], float] = {}

    def update(self, progress: Mapping[TopicPartition, tuple[int, int]], now: float) -> None:
        """Takes the position in each log and the end of its committed records; ``now``: seconds."""
        unread = {
            (self._names[tp.topic], tp.partition): end - position
            for tp, (position, end) in progress.items()
            if end > position
        }
        self._since = {log: self._since.get(log, now) for log in unread}
        self._unread = unread

    def queued(self, partitions: Iterable[QueueOwner]) -> dict[str, float]:
        """Returns the records in the queues, by topic."""
        counts = dict.fromkeys(CONSUMED, 0.0)
        for partition in partitions:
            for topic, count, _ in partition.queues():
                counts[topic] += count
        return counts

    def records(self, partitions: Iterable[QueueOwner]) -> dict[str, float]:
        """Returns the records in the logs and in the queues, by topic."""
        partitions = list(partitions)
        counts = self.queued(partitions)
        numbers = {partition.number for partition in partitions}
        for (topic, number), count in self._unread.items():
            if number in numbers:
                counts[topic] += count
        return counts

    def seconds(self, partitions: Iterable[QueueOwner], now: float) -> dict[str, float]:
        """Returns the age of the oldest record in seconds, by topic; ``now``: seconds."""
        ages = dict.fromkeys(CONSUMED, 0.0)
        for partition in partitions:
            for topic, count, oldest in partition.queues():
                since = oldest if count else self._since.get((topic, partition.number), now)
                ages[topic] = max(ages[topic], now - since)
        return ages
