"""From a machine's effects to one Kafka transaction: encoded, batched per topic partition, sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from aiokafka.errors import KafkaError

from streams.contract.topics import DEAD_LETTERS, FORWARDED_EVENTS, SEAT_REQUESTS
from streams.kafka.dead_letters import DeadLetter
from streams.kafka.faust_adapter import RecordBatch, transaction_failure
from streams.kafka.forwarding import Forward
from streams.runtime import fault_injection
from streams.worker.record_batches import TransactionBatches


class Transaction:
    """The records of one transaction, encoded when they are added: the machine may go on."""

    def __init__(self, producer: Any, prefix: str, partition: int) -> None:
        self._producer, self._prefix = producer, prefix
        # Not a method of this object: in a reference cycle the batches would wait for the garbage
        # collector.
        self._batches = TransactionBatches(
            partition, int(time.time() * 1000), lambda: RecordBatch(producer.create_batch())
        )
        self.add_applied = self._batches.add_applied
        self.counts = self._batches.counts

    def add_effects(self, effects: Any) -> None:
        """Adds the rows and records that were just computed."""
        self._update_time()
        self._batches.add_effects(effects)

    def _update_time(self) -> None:
        """Updates the timestamp of new records: a transaction may be filled for a long time."""
        self._batches.now = int(time.time() * 1000)

    def add_dead_letters(self, letters: Iterable[DeadLetter]) -> None:
        """Adds input records that could not be read."""
        self._update_time()
        for letter in letters:
            self._batches.add(DEAD_LETTERS, *letter)

    def add_forwarded(self, events: Iterable[Forward]) -> None:
        """Adds events that belong to other partitions."""
        self._update_time()
        for partition, key, value, headers in events:
            self._batches.add(FORWARDED_EVENTS, key, value, headers, partition)

    async def commit(self) -> None:
        """Writes everything atomically.

        1. Begin: the coordinator learns of the transaction with its first partition.
        2. Send every batch: changelog rows, outputs, internal messages, dead letters, and the
           applied offsets as a row of the changelog. The group's offsets are not part of it.
        3. Await every batch: aiokafka commits even if one of them failed.
        4. Commit: readers of committed records see all of it or nothing.

        After any exception the outcome is unknown: the worker must end, and its successor restores
        the last transaction that was committed.

        Raises:
            KafkaError: why the transaction failed; among them the fencing by another worker.
        """
        fault_injection.trigger("before-send")
        producer, batches = self._producer, self._batches.partition_batches
        # Step 1
        await producer.begin_transaction()
        # Step 2
        sent = [
            await producer.send_batch(batch, self._prefix + each.topic, partition=each.partition)
            for each in batches
            for batch in each.sealed()
        ]
        # Step 3
        try:
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise transaction_failure(producer) or error from None
        fault_injection.trigger("after-send")
        # Step 4
        await producer.commit_transaction()
        fault_injection.trigger("after-commit")
        if any(each.topic == SEAT_REQUESTS for each in batches):
            fault_injection.trigger("seats-asked")
