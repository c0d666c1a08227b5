"""The console's transactional producer: events and their audit records, all or none."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer, TopicPartition, errors

from streams.console.commands.definitions import EncodedRecord
from streams.kafka.closing import close_with_timeout
from streams.kafka.producers import transactional_producer
from streams.runtime.errors import TemporaryError
from streams.runtime.settings import Settings

Place = tuple[TopicPartition, int]
"""Partition and offset of a record."""
SEND_TIMEOUT_SECONDS = 10.0
"""For one transaction, the producer's start included."""
TRANSACTION_TIMEOUT_MS = 10_000
"""After a crash within a transaction, consumers wait this long for the broker to abort it."""


class NotAcceptedError(TemporaryError):
    """Raised if the broker did not take the records: nothing was written."""


class UnconfirmedError(TemporaryError):
    """Raised if the commit was not confirmed: either all records were written or none."""


class CommandProducer:
    """Writes the records of one or several commands in one transaction, one at a time.

    The transactional id is this process's own, so consoles do not fence each other. A producer
    that failed is dropped; the next one has the same id, which ends what the former left open.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transactional_id = f"{settings.app_id}-console-{uuid.uuid4().hex}"
        self._producer: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()

    async def send(self, records: Sequence[EncodedRecord]) -> list[Place]:
        """Commits the records; returns the partition and offset of each.

        Raises: NotAcceptedError, UnconfirmedError.
        """
        committing = False
        async with self._turn:
            try:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    producer = await self._started()
                    await producer.begin_transaction()
                    places = await self._write(producer, records)
                    committing = True
                    await producer.commit_transaction()
                    return places
            except (errors.KafkaError, OSError) as error:  # TimeoutError is an OSError
                await self._drop()
                reason = str(error) or type(error).__name__
                if committing:
                    raise UnconfirmedError(reason) from None
                raise NotAcceptedError(reason) from None
            except asyncio.CancelledError:
                await self._drop()
                raise

    async def _write(
        self, producer: AIOKafkaProducer, records: Sequence[EncodedRecord]
    ) -> list[Place]:
        prefix = self._settings.topic_prefix
        pending = [
            await producer.send(
                prefix + record.topic,
                record.value,
                record.key.encode(),
                headers=list(record.headers),
            )
            for record in records
        ]
        written = await asyncio.gather(*pending)
        return [(TopicPartition(each.topic, each.partition), each.offset) for each in written]

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = transactional_producer(
                self._settings,
                self._transactional_id,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                request_timeout_ms=8_000,
                max_request_size=4 << 20,
            )
            await self._producer.start()
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_with_timeout(producer.stop())

    async def close(self) -> None:
        """Ends the producer, if there is one."""
        await self._drop()
