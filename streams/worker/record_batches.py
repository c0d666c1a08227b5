"""What a transaction writes, encoded and put in record batches, by topic and partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from orjson import dumps

from streams.contract.topics import CHANGELOG
from streams.kafka.changelog_rows import APPLIED, row_key

NewBatch = Callable[[], Any]
"""Makes a :class:`streams.kafka.faust_adapter.RecordBatch`."""

Headers = list[tuple[str, bytes]]
NO_HEADERS: Final[Headers] = []  # shared, never changed


class Log:
    """What goes to one topic partition."""

    def __init__(self, topic: str, partition: int, new_batch: NewBatch) -> None:
        self.topic, self.partition, self._new_batch = topic, partition, new_batch
        self.records = 0
        self._full: list[Any] = []
        self._roll()

    def _roll(self) -> None:
        self._batch = self._new_batch()
        self._append: Callable[..., Any] = self._batch.append
        self._count = 0

    def add(self, timestamp: int, key: Any, value: Any, headers: Headers = NO_HEADERS) -> None:
        if self._append(self._count, timestamp, key, value, headers) is None:
            self._full.append(self._batch.seal(self._count))
            self._roll()
            # An empty batch takes its first record whatever its size.
            self._append(0, timestamp, key, value, headers)
        self._count += 1
        self.records += 1

    def batches(self) -> list[Any]:
        """To send, in this order; nothing can be added any more."""
        return [*self._full, self._batch.seal(self._count)]


class Packing:
    """The logs of one transaction of ``partition``.

    ``now`` is the time of the records that are added next. It is to be when they were computed, not
    when the transaction began: an effect never has an earlier time than its cause.
    """

    def __init__(self, partition: int, now: int, new_batch: NewBatch) -> None:
        self._partition, self.now, self._new_batch = partition, now, new_batch
        self._here: dict[str, Log] = {}  # of its own partition
        self._there: dict[tuple[str, int], Log] = {}

    @property
    def logs(self) -> list[Log]:
        return [*self._here.values(), *self._there.values()]

    def add_effects(self, effects: Any) -> None:
        """``effects`` as the engine gives them: rows and records, values not yet encoded."""
        now = self.now
        log = self._at(CHANGELOG.name, None)
        for (table, key), row in effects.rows.items():
            if row is not None and type(row) is not bytes:
                row = dumps(row)
            log.add(now, row_key(table, key), row)
        for topic, partition, key, value in effects.records:
            if value is not None and type(value) is not bytes:
                value = dumps(value)
            self._at(topic, partition).add(now, key.encode(), value)

    def add(self, topic: str, key: Any, value: Any, headers: Headers = NO_HEADERS) -> None:
        self._at(topic, None).add(self.now, key, value, headers)

    def add_applied(self, applied: Mapping[str, int]) -> None:
        self.add(CHANGELOG.name, APPLIED, dumps(applied))

    def _at(self, topic: str, partition: int | None) -> Log:
        """The log of a topic's partition; None: that of the transaction."""
        if partition is None or partition == self._partition:
            log = self._here.get(topic)
            if log is None:
                log = self._here[topic] = Log(topic, self._partition, self._new_batch)
        else:
            log = self._there.get((topic, partition))
            if log is None:
                log = Log(topic, partition, self._new_batch)
                self._there[topic, partition] = log
        return log

    def counts(self) -> Counter[str]:
        """Records by topic."""
        counts: Counter[str] = Counter()
        for log in self.logs:
            counts[log.topic] += log.records
        return counts
