"""The records of a transaction, encoded into record batches by topic and partition."""

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


class PartitionBatch:
    """The records of a transaction for one topic partition, in one batch or several."""

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
        """Adds a record; ``timestamp`` in milliseconds."""
        if self._append(self._count, timestamp, key, value, headers) is None:
            self._full.append(self._batch.seal(self._count))
            self._roll()
            # An empty batch takes its first record whatever its size.
            self._append(0, timestamp, key, value, headers)
        self._count += 1
        self.records += 1

    def sealed(self) -> list[Any]:
        """Returns the batches to send, in this order; nothing can be added afterwards."""
        return [*self._full, self._batch.seal(self._count)]


class TransactionBatches:
    """The batches of one transaction of ``partition``.

    ``now`` is the timestamp in milliseconds of the records that are added next. It must be the time
    when they were computed, not when the transaction began: an effect never has an earlier
    timestamp than its cause.
    """

    def __init__(self, partition: int, now: int, new_batch: NewBatch) -> None:
        self._partition, self.now, self._new_batch = partition, now, new_batch
        self._own: dict[str, PartitionBatch] = {}  # of its own partition
        self._other: dict[tuple[str, int], PartitionBatch] = {}

    @property
    def partition_batches(self) -> list[PartitionBatch]:
        """The batches by topic partition."""
        return [*self._own.values(), *self._other.values()]

    def add_effects(self, effects: Any) -> None:
        """Adds the engine's effects: changed rows, and records whose values are not encoded yet."""
        now = self.now
        batch = self._at(CHANGELOG.name, None)
        for (table, key), row in effects.rows.items():
            if row is not None and type(row) is not bytes:
                row = dumps(row)
            batch.add(now, row_key(table, key), row)
        for topic, partition, key, value in effects.records:
            if value is not None and type(value) is not bytes:
                value = dumps(value)
            self._at(topic, partition).add(now, key.encode(), value)

    def add(
        self,
        topic: str,
        key: Any,
        value: Any,
        headers: Headers = NO_HEADERS,
        partition: int | None = None,
    ) -> None:
        """Adds a record for a partition of a topic; None: the transaction's own partition."""
        self._at(topic, partition).add(self.now, key, value, headers)

    def add_applied(self, applied: Mapping[str, int]) -> None:
        """Adds the row of the applied offsets."""
        self.add(CHANGELOG.name, APPLIED, dumps(applied))

    def _at(self, topic: str, partition: int | None) -> PartitionBatch:
        """Returns the batch of a topic's partition; None: the transaction's own partition."""
        if partition is None or partition == self._partition:
            batch = self._own.get(topic)
            if batch is None:
                batch = self._own[topic] = PartitionBatch(topic, self._partition, self._new_batch)
        else:
            batch = self._other.get((topic, partition))
            if batch is None:
                batch = PartitionBatch(topic, partition, self._new_batch)
                self._other[topic, partition] = batch
        return batch

    def counts(self) -> Counter[str]:
        """Returns the number of records by topic."""
        counts: Counter[str] = Counter()
        for batch in self.partition_batches:
            counts[batch.topic] += batch.records
        return counts
