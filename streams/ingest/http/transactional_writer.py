"""Writes the records of HTTP requests in Kafka transactions, many requests to one, in their order.

A request's events and the resources that the receiver stores for it are in one transaction. A
failed transaction ends the receiver: its memory may be ahead of Kafka, and a new receiver starts
from what Kafka has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError

from streams.contract.topics import RECEIVED
from streams.ingest.publisher import partition_of
from streams.kafka.broker_watch import BrokerWatch
from streams.kafka.producers import transactional_producer
from streams.kafka.topic_admin import new_topic, until_led
from streams.kafka.topic_reader import (
    admin_client,
    connected,
    consumer,
    read_to_end,
    topic_partitions,
)
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError
from streams.runtime.settings import Settings

RESOURCES = RECEIVED.name
TRANSACTION_RECORDS = 5_000
COMMIT_SECONDS = 8.0
"""For which a request waits for Kafka: its answer is there within 10 s."""


class Record(NamedTuple):
    """A record to write; a value of None is a tombstone."""

    topic: str  # without the prefix
    key: str
    value: bytes | None


class Writer:
    """The one producer of a receiver. A second receiver with the same app id fences the first."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.broker = BrokerWatch(settings)
        self._pending: list[Record] = []
        self._added = 0
        self._committed = 0
        self._overdue: Deadline | None = None  # of the transaction in progress
        self._has_pending = asyncio.Event()
        self._progress = asyncio.Condition()
        self.failure: Exception | None = None
        self.failed = asyncio.Event()

    async def start(self, inputs: Iterable[str]) -> None:
        """Creates the topic of resources if it is missing, and fences an earlier receiver."""
        async with connected(admin_client(self._settings), self._settings) as admin:
            await self._make_topic(admin)
            places = await topic_partitions(admin, self._settings, [*inputs, RESOURCES])
        prefix = self._settings.topic_prefix
        self._partitions: dict[str, int] = {}
        for place in places:
            name = place.topic.removeprefix(prefix)
            self._partitions[name] = max(self._partitions.get(name, 0), place.partition + 1)
        self._producer = transactional_producer(self._settings, f"{self._settings.app_id}-receiver")
        await self._producer.start()
        self.broker.start()
        self._task = asyncio.create_task(self._run())

    async def _make_topic(self, admin: Any) -> None:
        name = self._settings.topic_prefix + RESOURCES
        if name in await admin.list_topics():
            return
        response = await admin.create_topics([new_topic(RECEIVED, self._settings)])
        if failed := [each for each in response.topic_errors if each[1] not in (0, 36)]:
            raise WorkerError(f"{name} could not be created: {failed[0]}", CONFIGURATION)
        await until_led(admin, self._settings, [name])

    async def stop(self) -> None:
        """Stops without waiting for pending records."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self.broker.stop)
        await self._producer.stop()

    @property
    def pending_records(self) -> int:
        """The records whose transaction is not committed yet."""
        return self._added - self._committed

    def add(self, records: Iterable[Record]) -> int:
        """Adds a request's records; returns the sequence number to wait for."""
        before = len(self._pending)
        self._pending += records
        self._added += len(self._pending) - before
        self._has_pending.set()
        return self._added

    def check_progress(self) -> None:
        """Refuses further work while Kafka does not answer: it would pile up in memory.

        Raises: WorkerError.
        """
        overdue = self._overdue is not None and self._overdue.has_passed
        if overdue or self.broker.is_away:
            raise WorkerError("Kafka does not answer: repeat the request later", TEMPORARY)

    async def wait_committed(self, sequence: int | None = None) -> None:
        """Waits until the records up to a sequence number, or all of them, are committed.

        Raises: WorkerError, if a transaction failed or takes too long.
        """
        target = self._added if sequence is None else sequence
        try:
            async with asyncio.timeout(COMMIT_SECONDS), self._progress:
                await self._progress.wait_for(lambda: self._committed >= target or self.failure)
        except TimeoutError:
            raise WorkerError(
                f"Kafka has not confirmed the events within {COMMIT_SECONDS:.0f} s, and still may:"
                " repeat the request",
                TEMPORARY,
            ) from None
        if self._committed < target:
            raise WorkerError(f"Kafka rejected the transaction: {self.failure!r}", TEMPORARY)

    async def _run(self) -> None:
        while True:
            await self._has_pending.wait()
            batch = self._pending[:TRANSACTION_RECORDS]
            self._pending = self._pending[TRANSACTION_RECORDS:]
            if not self._pending:
                self._has_pending.clear()
            self._overdue = Deadline(COMMIT_SECONDS)
            try:
                await self._write(batch)
            except (KafkaError, TimeoutError, OSError) as error:
                self.failure = error
                self.failed.set()
            self._overdue = None
            async with self._progress:
                if self.failure is None:
                    self._committed += len(batch)
                self._progress.notify_all()
            if self.failure:
                return

    async def _write(self, batch: list[Record]) -> None:
        prefix = self._settings.topic_prefix
        async with self._producer.transaction():
            sent = [
                await self._producer.send(
                    prefix + topic,
                    value,
                    key.encode(),
                    partition=partition_of(key.encode(), self._partitions[topic]),
                )
                for topic, key, value in batch
            ]
            await asyncio.gather(*sent)


async def read_resources(settings: Settings) -> dict[str, bytes]:
    """Returns the resources that earlier receivers stored, by key. Call it after fencing them."""
    found: dict[str, bytes] = {}
    async with connected(admin_client(settings), settings) as admin:
        places = await topic_partitions(admin, settings, [RESOURCES])
    async with connected(consumer(settings), settings) as reading:
        reading.assign(places)
        async for batches in read_to_end(reading, places):
            for record in chain.from_iterable(batches.values()):
                key = record.key.decode()
                if record.value is None:
                    found.pop(key, None)
                else:
                    found[key] = record.value
    return found
