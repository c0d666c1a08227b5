"""Reads a topic of Debezium continuously; events and offsets are written in one transaction.

A bridge reads all partitions of the topic. A new bridge fences its predecessor and continues after
its last transaction. Records that cannot be mapped become dead letters.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from engine.domain.model import FIRST_TIMESTAMP_MS, LAST_TIMESTAMP_MS, timestamp
from streams.contract.rejection import Rejected
from streams.contract.topics import DEAD_LETTERS
from streams.ingest.debezium import Mapping, events_of
from streams.ingest.event_builder import EventBuilder
from streams.ingest.items import FeedItem
from streams.ingest.publisher import partition_of
from streams.kafka.dead_letters import dead_letter
from streams.kafka.producers import transactional_producer
from streams.kafka.topic_reader import (
    Batches,
    admin_client,
    connected,
    consumer,
    follow,
    read_to_end,
    topic_partitions,
)
from streams.runtime import log_events
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError, log
from streams.runtime.settings import Settings

RECORDS = 2_000
MAX_REQUEST_BYTES = 8 << 20  # of a dead letter, whose record may be as large as its topic allows
INPUTS = ("user-changes",)


class Bridge:
    """The bridge of one topic. Counts records: ``processed``, of which ``rejected``."""

    def __init__(self, settings: Settings, topic: str, mapping: Mapping) -> None:
        self._settings, self._topic, self._mapping = settings, topic, mapping
        self._group = f"{settings.app_id}-{topic}"
        self.processed = 0
        self.rejected = 0

    async def run(self, until_end: bool = False) -> None:
        """Runs until cancelled, or with ``until_end`` to the current end of the topic.

        Raises: WorkerError, if there is no topic or broker, or another bridge has taken over.
        """
        settings = self._settings
        async with connected(admin_client(settings), settings) as admin:
            places = await topic_partitions(admin, settings, [*INPUTS, DEAD_LETTERS])
            found = await admin.describe_topics([self._topic])
        numbers = [p["partition"] for p in found[0]["partitions"]] if found else []
        if not numbers:
            raise WorkerError(f"the topic {self._topic} does not exist", CONFIGURATION)
        self._partitions = len([p for p in places if p.topic.endswith(INPUTS[0])])
        producer = transactional_producer(
            settings, f"{self._group}-bridge", max_request_size=MAX_REQUEST_BYTES
        )
        reading = consumer(settings, group_id=self._group)
        async with connected(producer, settings), connected(reading, settings):
            mine = [TopicPartition(self._topic, number) for number in numbers]
            reading.assign(mine)
            await self._run(producer, reading, mine, until_end)

    async def _run(
        self, producer: Any, reading: Any, mine: list[TopicPartition], until_end: bool
    ) -> None:
        if until_end:
            incoming = read_to_end(reading, mine, max_records=RECORDS)
        else:
            incoming = follow(reading, RECORDS)
        async for batches in incoming:
            try:
                await self._transaction(producer, batches)
            except KafkaError as error:
                raise WorkerError(f"the bridge stopped: {error!r}", TEMPORARY) from error

    async def _transaction(self, producer: Any, batches: Batches) -> None:
        prefix, sent = self._settings.topic_prefix, []
        async with producer.transaction():
            for records in batches.values():
                for record in records:
                    for topic, key, value, headers in self._records(record):
                        partition = partition_of(key, self._partitions) if key else None
                        sent.append(
                            await producer.send(
                                prefix + topic, value, key, partition=partition, headers=headers
                            )
                        )
            await asyncio.gather(*sent)
            ends = {place: records[-1].offset + 1 for place, records in batches.items()}
            await producer.send_offsets_to_transaction(ends, self._group)
        self.processed += sum(map(len, batches.values()))

    def _records(self, record: Any) -> list[tuple[str, bytes | None, bytes | None, Any]]:
        def builder_for(tenant: str) -> EventBuilder:
            at = min(max(record.timestamp, FIRST_TIMESTAMP_MS), LAST_TIMESTAMP_MS)
            builder = EventBuilder(tenant, "debezium", timestamp(at))
            builder.begin(f"{record.topic}:{record.partition}:{record.offset}"[-100:])
            return builder

        try:
            results: list[Any] = [*events_of(record.value, self._mapping, builder_for)]
        except Exception as error:  # a bug costs one record, and is never silent
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            name = type(error).__name__
            log.error(log_events.PROCESSOR_SKIPPED, **place, error=name, exc_info=error)
            reason = f"processor_failed: {name}: an error of Seatflow"
            results = [Rejected(reason, "processor_failed")]
        found: list[tuple[str, bytes | None, bytes | None, Any]] = []
        for each in results:
            if isinstance(each, FeedItem):
                found.append((*each, []))
                continue
            self.rejected += 1
            why = each if isinstance(each, Rejected) else Rejected(each, "bad_source_record")
            letter = dead_letter(record, record.topic, record.partition, record.offset, why)
            found.append((DEAD_LETTERS, letter.key, letter.value, letter.headers))
        return found
