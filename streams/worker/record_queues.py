"""Queues of the records that a partition has fetched and not handled yet."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator
from typing import Any

from streams.contract.topics import FORWARDED_EVENTS, INPUT_NAMES

EVENTS = (FORWARDED_EVENTS, *INPUT_NAMES)


class RecordQueues:
    """A queue for each topic (short names); topics named first are handled first."""

    def __init__(self, topics: Iterable[str]) -> None:
        # Records, and the offset that comes after them: control records leave gaps.
        self._queues: dict[str, deque[tuple[list[Any], int]]] = {t: deque() for t in topics}
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Returns True if any record is waiting."""
        return any(self._counts.values())

    def count(self, topic: str) -> int:
        """Returns the number of waiting records of a topic."""
        return self._counts[topic]

    def batches(self, topic: str) -> int:
        """Returns the number of batches that the waiting records of a topic came in."""
        return len(self._queues[topic])

    def has_backlog(self, records: int) -> bool:
        """Returns whether at least so many events of one topic are waiting."""
        return any(self._counts[topic] >= records for topic in EVENTS)

    def put(self, topic: str, records: list[Any], end: int) -> None:
        """Appends records; ``end`` is the offset after them."""
        self._queues[topic].append((records, end))
        self._counts[topic] += len(records)

    def take(
        self, limit: int, without: Container[str] = ()
    ) -> Iterator[tuple[str, list[Any], int]]:
        """Removes up to ``limit`` records in all, none of the topics ``without``.

        Forwarded events leave half of the slice to input that waits: a partition to which others
        forward without end still reads its own.

        Yields topic, records and the offset after them.
        """
        for topic, queue in self._queues.items():
            if queue and limit > 0 and topic not in without:
                shared = topic == FORWARDED_EVENTS and any(map(self._counts.get, INPUT_NAMES))
                records, end = self._first(queue, (limit + 1) // 2 if shared else limit)
                self._counts[topic] -= len(records)
                limit -= len(records)
                yield topic, records, end

    @staticmethod
    def _first(queue: deque[tuple[list[Any], int]], limit: int) -> tuple[list[Any], int]:
        """Removes up to ``limit`` records of a queue, across batches; returns the end offset."""
        records, end = queue.popleft()
        while queue and len(records) + len(queue[0][0]) <= limit:
            more, end = queue.popleft()
            records = records + more
        if len(records) > limit:
            queue.appendleft((records[limit:], end))
            records = records[:limit]
            end = records[-1].offset + 1
        return records, end

    def snapshot(self) -> Iterator[tuple[str, int, float]]:
        """Yields topic, records queued, and the oldest one's timestamp in seconds (0.0: none)."""
        for topic, queue in self._queues.items():
            try:
                oldest = queue[0][0][0].timestamp / 1000
            except IndexError:
                oldest = 0.0
            yield topic, self._counts[topic], oldest
