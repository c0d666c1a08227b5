"""From a machine's effects to one Kafka transaction: encoded, batched per topic partition, sent."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from streams import faults
from streams.changelog import APPLIED, row_key
from streams.settings import Settings, client_options
from streams.topics import CHANGELOG, DEAD_LETTERS

BATCH_BYTES = 1 << 20
TRANSACTION_TIMEOUT_MS = 15_000
NO_HEADERS: list[tuple[str, bytes]] = []  # shared, never changed


class DeadLetter(NamedTuple):
    """An input record that cannot be read: its bytes as they came, and where and why."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter(record: Any, topic: str, reason: str) -> DeadLetter:
    headers = {
        "dlq.topic": topic,
        "dlq.partition": str(record.partition),
        "dlq.offset": str(record.offset),
        "dlq.reason": " ".join(reason.split()),
    }
    return DeadLetter(
        record.key, record.value, [(name, text.encode()) for name, text in headers.items()]
    )


def new_producer(settings: Settings, partition: int) -> Any:
    """The producer of a partition. Starting it fences every earlier one."""
    return AIOKafkaProducer(
        **client_options(settings),
        transactional_id=f"{settings.app_id}-{partition}",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        compression_type="lz4",
    )


class Transaction:
    """Everything of one transaction, encoded when it is made: the machine may go on at once."""

    def __init__(self, producer: Any, prefix: str, partition: int) -> None:
        self._producer, self._prefix, self._partition = producer, prefix, partition
        self._now = int(time.time() * 1000)
        self._open: dict[tuple[str, int], Any] = {}
        self._full: list[tuple[tuple[str, int], Any]] = []
        self.counts: Counter[str] = Counter()

    def add_effects(self, effects: Any) -> None:
        """``effects`` as the engine gives them: rows and records, values not yet encoded."""
        here, dumps = self._partition, orjson.dumps
        for (table, key), row in effects.rows.items():
            self._add(
                CHANGELOG.name, here, row_key(table, key), None if row is None else dumps(row)
            )
        for topic, partition, key, value in effects.records:
            if value is not None and type(value) is not bytes:
                value = dumps(value)
            self._add(topic, here if partition is None else partition, key.encode(), value)

    def add_dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            self._add(DEAD_LETTERS, self._partition, *letter)

    def add_applied(self, applied: Mapping[str, int]) -> None:
        self._add(CHANGELOG.name, self._partition, APPLIED, orjson.dumps(applied))

    def _add(
        self,
        topic: str,
        partition: int,
        key: Any,
        value: Any,
        headers: list[tuple[str, bytes]] = NO_HEADERS,
    ) -> None:
        self.counts[topic] += 1
        place = (topic, partition)
        batch = self._open.get(place)
        if batch is not None:
            if batch.append(timestamp=self._now, key=key, value=value, headers=headers) is not None:
                return
            self._full.append((place, batch))
        batch = self._open[place] = self._producer.create_batch()
        # An empty batch takes its first record whatever its size.
        batch.append(timestamp=self._now, key=key, value=value, headers=headers)

    async def commit(self) -> None:
        """All or nothing. Any exception means that the outcome is not known: stop, and restore."""
        faults.hit("before-send")
        producer = self._producer
        await producer.begin_transaction()
        sent = [
            await producer.send_batch(batch, self._prefix + topic, partition=partition)
            for (topic, partition), batch in (*self._full, *self._open.items())
        ]
        # A batch that failed does not fail aiokafka's commit: it must be asked.
        await asyncio.gather(*sent)
        faults.hit("after-send")
        await producer.commit_transaction()
        faults.hit("after-commit")
