"""From a machine's effects to one Kafka transaction: encoded, batched per topic partition, sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.contract.decoder import Rejected
from streams.contract.topics import DEAD_LETTERS, SEAT_REQUESTS
from streams.kafka.faust_adapter import RecordBatch
from streams.runtime import fault_injection
from streams.runtime.settings import Settings, client_options
from streams.worker.record_batches import Headers, Packing

BATCH_BYTES = 1 << 20
TRANSACTION_TIMEOUT_MS = 15_000

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


def dead_letter(record: Any, topic: str, partition: int, reason: str) -> DeadLetter:
    headers = {
        "dlq.topic": topic,
        "dlq.partition": str(partition),
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


class Transaction:
    """Everything of one transaction, encoded when it is made: the machine may go on at once."""

    def __init__(self, producer: Any, prefix: str, partition: int) -> None:
        self._producer, self._prefix = producer, prefix
        # Not a method of this object: in a circle the batches would wait for the collector.
        self._packing = Packing(
            partition, int(time.time() * 1000), lambda: RecordBatch(producer.create_batch())
        )
        self.add_applied = self._packing.add_applied
        self.counts = self._packing.counts

    def add_effects(self, effects: Any) -> None:
        """What was just computed."""
        self._tell_time()
        self._packing.add_effects(effects)

    def _tell_time(self) -> None:
        """A transaction may be open for as long as the one before it takes."""
        self._packing.now = int(time.time() * 1000)

    def add_dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        self._tell_time()
        for letter in letters:
            self._packing.add(DEAD_LETTERS, *letter)

    async def commit(self) -> None:
        """All or nothing. Any exception means that the outcome is not known: stop, and restore."""
        fault_injection.hit("before-send")
        producer, logs = self._producer, self._packing.logs
        await producer.begin_transaction()
        sent = [
            await producer.send_batch(batch, self._prefix + log.topic, partition=log.partition)
            for log in logs
            for batch in log.batches()
        ]
        # A batch that failed does not fail aiokafka's commit: it must be asked.
        try:
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise _cause(producer) or error from None
        fault_injection.hit("after-send")
        await producer.commit_transaction()
        fault_injection.hit("after-commit")
        if any(log.topic == SEAT_REQUESTS for log in logs):
            fault_injection.hit("seats-asked")
