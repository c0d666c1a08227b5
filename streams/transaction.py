"""From a machine's effects to one Kafka transaction: encoded, batched per topic partition, sent."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams import faults
from streams.changelog import APPLIED, row_key
from streams.contract import Rejected
from streams.settings import Settings, client_options
from streams.topics import CHANGELOG, DEAD_LETTERS, SEAT_REQUESTS

BATCH_BYTES = 1 << 20
TRANSACTION_TIMEOUT_MS = 15_000

Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []  # shared, never changed
MISPLACED = Rejected(
    "the key belongs to another partition; produce with Kafka's default partitioner (murmur2 of the"
    " key), or every partition would have its own idea of this object",
    "wrong_partition",
)


class DeadLetter(NamedTuple):
    """An input record that cannot be read: its bytes as they came, and where and why."""

    key: bytes | None
    value: bytes | None
    headers: Headers


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
        # aiokafka's lz4 has a fixed level that is ten times slower than this, for 1.3 times less.
        compression_type="snappy",
    )


def _cause(producer: Any) -> BaseException | None:
    """Why the whole transaction failed, if aiokafka knows: a topic is forbidden, say. Of the
    batches the first to fail may be one of another topic, which was not let in any more."""
    waiter = getattr(producer._txn_manager, "_transaction_waiter", None)
    if waiter is None or not waiter.done() or waiter.cancelled():
        return None
    cause: BaseException | None = waiter.exception()
    return cause


class Log:
    """What a transaction writes to one topic partition, in batches."""

    def __init__(self, topic: str, partition: int, new_batch: Callable[[], Any]) -> None:
        self.topic, self.partition, self._new_batch = topic, partition, new_batch
        self.batches: list[Any] = []
        self.append = self.roll()

    def roll(self) -> Callable[..., Any]:
        """Begins a batch; the ``append`` of one that is full returns None."""
        self.batches.append(self._new_batch())
        self.append = self.batches[-1].append
        return self.append

    def add(self, timestamp: int, key: Any, value: Any, headers: Headers = NO_HEADERS) -> None:
        if self.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            # An empty batch takes its first record whatever its size.
            self.roll()(timestamp=timestamp, key=key, value=value, headers=headers)


class Transaction:
    """Everything of one transaction, encoded when it is made: the machine may go on at once."""

    def __init__(self, producer: Any, prefix: str, partition: int) -> None:
        self._producer, self._prefix, self._partition = producer, prefix, partition
        self._now = int(time.time() * 1000)
        self._logs: dict[tuple[str, int], Log] = {}

    def add_effects(self, effects: Any) -> None:
        """``effects`` as the engine gives them: rows and records, values not yet encoded."""
        here, now, dumps = self._partition, self._now, orjson.dumps
        log = self._log(CHANGELOG.name, here)
        append = log.append
        for (table, key), row in effects.rows.items():
            name, value = row_key(table, key), None if row is None else dumps(row)
            if append(timestamp=now, key=name, value=value) is None:
                append = log.roll()
                append(timestamp=now, key=name, value=value)
        logs = self._logs
        for topic, partition, key, value in effects.records:
            place = (topic, here if partition is None else partition)
            log = logs.get(place) or self._log(*place)
            if value is not None and type(value) is not bytes:
                value = dumps(value)
            log.add(now, key.encode(), value)

    def add_dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            self._log(DEAD_LETTERS, self._partition).add(self._now, *letter)

    def add_applied(self, applied: Mapping[str, int]) -> None:
        self._log(CHANGELOG.name, self._partition).add(self._now, APPLIED, orjson.dumps(applied))

    def _log(self, topic: str, partition: int) -> Log:
        log = self._logs.get((topic, partition))
        if log is None:
            log = self._logs[topic, partition] = Log(topic, partition, self._producer.create_batch)
        return log

    def counts(self) -> Counter[str]:
        """Records by topic."""
        counts: Counter[str] = Counter()
        for log in self._logs.values():
            counts[log.topic] += sum(batch.record_count() for batch in log.batches)
        return counts

    async def commit(self) -> None:
        """All or nothing. Any exception means that the outcome is not known: stop, and restore."""
        faults.hit("before-send")
        producer = self._producer
        await producer.begin_transaction()
        sent = [
            await producer.send_batch(batch, self._prefix + log.topic, partition=log.partition)
            for log in self._logs.values()
            for batch in log.batches
        ]
        # A batch that failed does not fail aiokafka's commit: it must be asked.
        try:
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise _cause(producer) or error from None
        faults.hit("after-send")
        await producer.commit_transaction()
        faults.hit("after-commit")
        if any(topic == SEAT_REQUESTS for topic, _ in self._logs):
            faults.hit("seats-asked")
