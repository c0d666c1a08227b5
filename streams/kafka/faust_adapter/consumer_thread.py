"""The Kafka consumer in its own thread: group membership, fetching in batches, offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import NoOffsetForPartitionError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.contract.topics import UNANNOUNCED
from streams.kafka import lenient_records
from streams.kafka.assignor import CopartitionedStickyAssignor
from streams.kafka.faust_adapter.protocols import Batch
from streams.runtime.settings import client_options

POLL_RECORDS = 5_000
FETCH_BYTES = 1 << 20
# A partition whose queue was full when a fetch was sent is not in it: it waits at most this long.
FETCH_WAIT_MS = 100
POLL_WAIT_SECONDS = 0.2
COMMIT_TIMEOUT_SECONDS = 5.0
# The broker forgets offsets of topics that no member names (offsets.retention.minutes, 7 days): all
# are committed again before that, changed or not.
COMMIT_ALL_SECONDS = 3600.0
REBALANCE_TIMEOUT_SECONDS = 30.0


class ZeroCopyRecords(fetcher.PartitionRecords):
    """Hands out the records of aiokafka's parser without copying each into a ConsumerRecord.

    They have ``offset``, ``timestamp``, ``timestamp_type``, ``key``, ``value`` and ``headers``. The
    copies took a tenth of a worker's time.
    """

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return record

    def __iter__(self) -> Any:
        return self._records_iterator


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The Kafka consumer in its own thread, so that heartbeats do not wait for the machines."""

    async def on_start(self) -> None:
        """Starts the thread; no topic partition is read before ``read_from`` names it."""
        # Next offset after the delivered records; holds only topic partitions that may be read.
        self.delivered_up_to: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._commit_all_at = 0.0
        self._rebalancing = False
        self._committing = asyncio.Lock()
        await super().on_start()

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        settings, host = self.app.settings, self.app.host
        fetcher.PartitionRecords = ZeroCopyRecords
        lenient_records.install()
        unannounced = [settings.topic_prefix + topic for topic in UNANNOUNCED]

        def extend(assignment: list[TopicPartition]) -> None:
            consumer._subscription.assign_from_subscribed(assignment)
            for topic in unannounced:  # the group's leader follows the topics that members name
                consumer._client.add_topic(topic)

        consumer = AIOKafkaConsumer(
            **client_options(settings),
            group_id=settings.app_id,
            group_instance_id=settings.worker_id,
            partition_assignment_strategy=[
                CopartitionedStickyAssignor(host.owned, unannounced, extend)
            ],
            enable_auto_commit=False,
            isolation_level="read_committed",
            # We set every position. One outside of the log is an error, not a reason to reset.
            auto_offset_reset="none",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 5),
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT_SECONDS * 1000),
            # Partitions with full queues are not polled; the watchdog ends a worker that hangs.
            max_poll_interval_ms=24 * 3600 * 1000,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=16 * FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            check_crcs=False,
        )
        return consumer

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Lets the main loop finish its work, and a commit that is under way, before the join."""
        # The broker answers a commit sent behind the join request only after the join, with an
        # error, and aiokafka joins again because of that error: an endless loop.
        self._rebalancing = True
        try:
            await super().on_partitions_revoked(revoked)
            async with self._committing:
                pass
        except Exception as error:
            self.app.host.failed(error)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pauses everything; a partition is read only when it is restored.

        Returns soon: aiokafka sends no heartbeats while it waits for this method.
        """
        try:
            self.delivered_up_to.clear()
            self._committed.clear()
            consumer = self._ensure_consumer()
            consumer.pause(*consumer.assignment())
            await super().on_partitions_assigned(assigned, generation_id)
            self._rebalancing = False
        except Exception as error:
            # aiokafka only logs an exception of a callback, and then waits forever.
            self.app.host.failed(error)

    async def read_from(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Seeks to the offsets and reads on; skips partitions that a rebalance just took away."""
        consumer = self._ensure_consumer()
        for tp in consumer.assignment() & offsets.keys():
            consumer.seek(tp, offsets[tp])
            consumer.resume(tp)
            self.delivered_up_to[tp] = offsets[tp]

    async def poll(self, first: list[TopicPartition], others: list[TopicPartition]) -> list[Batch]:
        """Returns the fetched batches, ``first`` before others; may wait a little for them."""
        first = [tp for tp in first if tp in self.delivered_up_to]
        others = [tp for tp in others if tp in self.delivered_up_to]
        if not (first or others):
            await asyncio.sleep(POLL_WAIT_SECONDS / 10)
            return []
        batches = await self._take(first, 0)
        if batches:
            return batches + await self._take(others, 0)
        return await self._take(first + others, POLL_WAIT_SECONDS)

    async def _take(self, tps: list[TopicPartition], wait: float) -> list[Batch]:
        if not tps:
            return []
        try:
            got = await self._ensure_consumer().getmany(
                *tps, timeout_ms=int(wait * 1000), max_records=POLL_RECORDS
            )
        except NoOffsetForPartitionError:
            return []  # aiokafka looked for a start offset before we set ours
        # No await may suspend from here on: a rebalance in between would change the positions.
        return [
            await self._batch(tp, records)
            for tp, records in got.items()
            if tp in self.delivered_up_to
        ]

    async def _batch(self, tp: TopicPartition, records: list[Any]) -> Batch:
        start = self.delivered_up_to[tp]
        end = await self._ensure_consumer().position(tp)  # does not wait where there is one
        if not start <= records[0].offset <= records[-1].offset < end:
            raise AssertionError(f"{tp}: records outside of {start} to {end}")
        self.delivered_up_to[tp] = end
        return Batch(tp.topic, tp.partition, start, records, end)

    async def commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits changed offsets to the group, for lag tools; does nothing during a rebalance.

        A topic partition that is applied in full is committed by its position, past trailing
        control records: tools that compare with the end of the log see a lag of 0.
        """
        async with self._committing:
            if not self._rebalancing:
                await self._commit_to_group(offsets)

    async def _commit_to_group(self, offsets: Mapping[TopicPartition, int]) -> None:
        consumer = self._ensure_consumer()
        now = asyncio.get_running_loop().time()
        if now >= self._commit_all_at:
            self._commit_all_at = now + COMMIT_ALL_SECONDS
            self._committed.clear()
        changed = {}
        for tp in consumer.assignment() & offsets.keys() & self.delivered_up_to.keys():
            done = offsets[tp] == self.delivered_up_to[tp]
            offset = await consumer.position(tp) if done else offsets[tp]
            if self._committed.get(tp) != offset:
                changed[tp] = offset
        if changed:
            await asyncio.wait_for(
                consumer.commit({tp: OffsetAndMetadata(o, "") for tp, o in changed.items()}),
                COMMIT_TIMEOUT_SECONDS,
            )
            self._committed.update(changed)

    async def bounds(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Returns the first offset of each log and the end of its committed records."""
        consumer = self._ensure_consumer()
        first, end = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        return {tp: (first[tp], end[tp]) for tp in tps}

    @property
    def join_error(self) -> BaseException | None:
        """The error with which the group refused this member, or None.

        aiokafka keeps it to raise it from the next read, which a refused member never makes.
        """
        coordinator = self._consumer._coordinator if self._consumer else None
        if coordinator is None:  # not started yet
            return None
        error: BaseException | None = coordinator._pending_exception
        return error

    async def progress(self) -> dict[TopicPartition, tuple[int, int]]:
        """Returns, for each log being read, the position and the end of the committed records."""
        consumer = self._ensure_consumer()
        return {
            tp: (await consumer.position(tp), consumer.last_stable_offset(tp) or 0)
            for tp in consumer.assignment() & self.delivered_up_to.keys()
        }
