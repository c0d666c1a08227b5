"""Faust's worker with our delivery: the one module that leans on private names of the libraries.

Stock Faust hands agents one event at a time, keeps its own account of what was acknowledged, and
commits it. Here a ``Transport`` hands them one ``Batch`` per partition and poll, the account is the
applied offsets in each partition's state, and the group's offsets are only noted for lag tools.
What Faust still does: the app, the group membership in its own thread, rebalances, agents.
``tests/streams/kafka/test_faust_adapter_guard.py`` fails when a name used here changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, NoOffsetForPartitionError
from aiokafka.producer import message_accumulator
from aiokafka.structs import OffsetAndMetadata
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.kafka.assignor import Claim, Copartitioned
from streams.runtime.settings import Settings, client_options

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

POLL_RECORDS = 5_000
FETCH_BYTES = 1 << 20
# A partition that was full when a fetch was sent is not in it: it waits at most this long.
FETCH_WAIT_MS = 100
POLL_WAIT = 0.2
COMMIT_TIMEOUT = 5.0
REBALANCE_TIMEOUT = 30.0

T = TypeVar("T")


class Batch(NamedTuple):
    """Consecutive records of one topic partition: all there are from ``start`` up to ``next``.

    Between them only control records and aborted or compacted ones are missing. So a batch whose
    ``start`` is not past what the partition has read fits on, and nothing can be lost between.
    """

    topic: str  # full name
    partition: int
    start: int
    records: list[Any]
    next: int


class Host(Protocol):
    """What the layer needs of the worker; ``owned`` and ``failed`` in whatever thread."""

    def wanted(self) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """The topic partitions that have room: those to be asked first, and the others."""

    def deliver(self, batch: Batch) -> None: ...

    async def hold(self) -> None:
        """A rebalance begins: finish what is open and compute nothing more until ``assigned``."""

    def assigned(self, partitions: set[int], generation: int) -> None: ...

    def owned(self) -> Claim: ...

    def failed(self, error: BaseException) -> NoReturn: ...


class LeanRecords(fetcher.PartitionRecords):
    """Records as aiokafka's parser makes them, not copied one by one into another class.

    They have ``offset``, ``timestamp``, ``timestamp_type``, ``key``, ``value`` and ``headers``. The
    copies were a tenth of a worker's time.
    """

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return record

    def __iter__(self) -> Any:
        return self._records_iterator


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The Kafka consumer in its own thread, so that heartbeats do not wait for the machines."""

    async def on_start(self) -> None:
        # How far what was handed on reaches; a topic partition is in it once it may be read.
        self.reach: dict[TopicPartition, int] = {}
        self._noted: dict[TopicPartition, int] = {}
        self._rebalancing = False
        self._noting = asyncio.Lock()
        await super().on_start()

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        settings, host = self.app.settings, self.app.host
        fetcher.PartitionRecords = LeanRecords
        return AIOKafkaConsumer(
            **client_options(settings),
            group_id=settings.app_id,
            group_instance_id=settings.worker_id,
            partition_assignment_strategy=[Copartitioned(host.owned)],
            enable_auto_commit=False,
            isolation_level="read_committed",
            # Every position is set by us. One that the log does not have is an error, not a reset.
            auto_offset_reset="none",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 5),
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT * 1000),
            # Full partitions are not polled; the watchdog is what ends a worker that hangs.
            max_poll_interval_ms=24 * 3600 * 1000,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=16 * FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            check_crcs=False,
        )

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # A commit that is sent behind the request to join is answered, with an error, only when
        # that is: aiokafka takes it for a reason to join again, and so on for ever.
        self._rebalancing = True
        try:
            await super().on_partitions_revoked(revoked)
            async with self._noting:
                pass
        except Exception as error:
            self.app.host.failed(error)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # A partition is read only when it is restored. This returns soon: aiokafka does not send
        # heartbeats while it waits for it.
        try:
            self.reach.clear()
            self._noted.clear()
            consumer = self._ensure_consumer()
            consumer.pause(*consumer.assignment())
            await super().on_partitions_assigned(assigned, generation_id)
            self._rebalancing = False
        except Exception as error:
            # aiokafka only logs what a callback raises, and waits for ever for what it did not do.
            self.app.host.failed(error)

    async def read_from(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Reads these from there on; those that a rebalance has just taken are left out."""
        consumer = self._ensure_consumer()
        for tp in consumer.assignment() & offsets.keys():
            consumer.seek(tp, offsets[tp])
            consumer.resume(tp)
            self.reach[tp] = offsets[tp]

    async def poll(self, first: list[TopicPartition], others: list[TopicPartition]) -> list[Batch]:
        """What has come, of ``first`` all there is; waits a little if there is nothing."""
        first = [tp for tp in first if tp in self.reach]
        others = [tp for tp in others if tp in self.reach]
        if not (first or others):
            await asyncio.sleep(POLL_WAIT / 10)
            return []
        batches = await self._take(first, 0)
        if batches:
            return batches + await self._take(others, 0)
        return await self._take(first + others, POLL_WAIT)

    async def _take(self, tps: list[TopicPartition], wait: float) -> list[Batch]:
        if not tps:
            return []
        try:
            got = await self._ensure_consumer().getmany(
                *tps, timeout_ms=int(wait * 1000), max_records=POLL_RECORDS
            )
        except NoOffsetForPartitionError:
            return []  # aiokafka looked for a start of its own, before we set ours
        # Nothing may wait from here on: a rebalance between would change the positions.
        return [await self._batch(tp, records) for tp, records in got.items() if tp in self.reach]

    async def _batch(self, tp: TopicPartition, records: list[Any]) -> Batch:
        start = self.reach[tp]
        end = await self._ensure_consumer().position(tp)  # does not wait where there is one
        if not start <= records[0].offset <= records[-1].offset < end:
            raise AssertionError(f"{tp}: records outside of {start} to {end}")
        self.reach[tp] = end
        return Batch(tp.topic, tp.partition, start, records, end)

    async def note(self, applied: Mapping[TopicPartition, int]) -> None:
        """Commits the group's offsets of what is ours and not noted yet, for the lag tools.

        A topic partition of which all is applied is noted by position: past trailing control
        records, so that tools that compare with the end of the log see a lag of 0.
        """
        async with self._noting:
            if not self._rebalancing:
                await self._commit_to_group(applied)

    async def _commit_to_group(self, applied: Mapping[TopicPartition, int]) -> None:
        consumer = self._ensure_consumer()
        offsets = {}
        for tp in consumer.assignment() & applied.keys() & self.reach.keys():
            done = applied[tp] == self.reach[tp]
            offset = await consumer.position(tp) if done else applied[tp]
            if self._noted.get(tp) != offset:
                offsets[tp] = offset
        if offsets:
            await asyncio.wait_for(
                consumer.commit({tp: OffsetAndMetadata(o, "") for tp, o in offsets.items()}),
                COMMIT_TIMEOUT,
            )
            self._noted.update(offsets)

    async def bounds(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """The first offset of each log and the end of its committed records."""
        consumer = self._ensure_consumer()
        first, end = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        return {tp: (first[tp], end[tp]) for tp in tps}

    async def unread(self) -> dict[TopicPartition, tuple[int, int]]:
        """For what is being read: the position, and the end of the committed records."""
        consumer = self._ensure_consumer()
        return {
            tp: (await consumer.position(tp), consumer.last_stable_offset(tp) or 0)
            for tp in consumer.assignment() & self.reach.keys()
        }


class Consumer(driver.Consumer):
    """Hands batches to the agents, and keeps no account of what they acknowledge."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` in the consumer's thread."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop)
        )

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.app.host.hold()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # First, so that Faust's resuming finds the worker's partitions settled.
        self.app.host.assigned({tp.partition for tp in assigned}, generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _drain_messages(self, fetcher: Any) -> None:
        ended = (self._stopped.is_set, fetcher._stopped.is_set)
        try:
            while not any(is_set() for is_set in ended):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                for batch in await self.call(self._thread.poll(*self.app.host.wanted())):
                    # What a rebalance drops on this way is read again: the next batch does not
                    # fit on, and the partition asks for what is missing.
                    await self.callback(_message(batch, self.app.consumer_generation_id))
        except (ConsumerStoppedError, IllegalStateError) as error:
            if not self.app.should_stop:
                self.app.host.failed(error)
        except Exception as error:
            self.app.host.failed(error)

    async def perform_seek(self) -> None:
        """Faust seeks to the group's offsets here; ours are set when a partition is restored."""

    async def commit(self, *_: Any, **__: Any) -> bool:
        return False

    force_commit = commit

    def track_message(self, message: Any) -> None:
        pass

    def ack(self, message: Any) -> bool:
        message.acked = True
        return True

    async def verify_all_partitions_active(self) -> None:
        """Faust's suspicion of idle partitions; the watchdog measures progress instead."""


def _message(batch: Batch, generation: int) -> ConsumerMessage:
    last = batch.records[-1]
    return ConsumerMessage(
        batch.topic,
        batch.partition,
        last.offset,
        last.timestamp / 1000,
        last.timestamp_type,
        (),
        b"",
        batch,
        None,
        0,
        0,
        TP(batch.topic, batch.partition),
        generation_id=generation,
    )


class Transport(driver.Transport):
    Consumer = Consumer


class Boot(BootStrategy):
    """Each partition has a transactional producer of its own; Faust's would be a way around it."""

    enable_kafka_consumer = True
    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class App(faust.App):
    BootStrategy = Boot
    settings: Settings
    host: Host

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """A worker keeps nothing on disk."""

    async def read_from(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self._in_thread(self.consumer._thread.read_from(offsets))

    async def note(self, applied: Mapping[TopicPartition, int]) -> None:
        await self._in_thread(self.consumer._thread.note(applied))

    async def bounds(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return await self._in_thread(self.consumer._thread.bounds(tps))

    async def unread(self) -> dict[TopicPartition, tuple[int, int]]:
        return await self._in_thread(self.consumer._thread.unread())

    @property
    def refused(self) -> BaseException | None:
        """Why the group does not let us in; aiokafka keeps it for a read that never comes."""
        thread = getattr(self._consumer, "_thread", None)
        coordinator = getattr(getattr(thread, "_consumer", None), "_coordinator", None)
        refusal: BaseException | None = getattr(coordinator, "_pending_exception", None)
        return refusal

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        done: T = await self.consumer.call(work)
        return done


def build_app(settings: Settings, host: Host, topics: Iterable[str]) -> App:
    """The Faust app with one agent that passes the batches of all ``topics`` (full names) on."""
    app = App(
        settings.app_id,
        broker="kafka://" + settings.brokers.split(",")[0],
        store="memory://",
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=256,
        broker_commit_interval=3600,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.settings, app.host = settings, host
    channel = app.topic(*topics, key_serializer="raw", value_serializer="raw")

    async def pass_on(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            try:
                host.deliver(batch)
            except Exception as error:
                host.failed(error)  # Faust would log it, and start the agent again

    app.agent(channel, name="seatflow")(pass_on)
    return app


def root_cause(producer: Any, error: BaseException) -> BaseException:
    """Why a transaction failed: what ended aiokafka's sender, not what stumbled over its end.

    A producer that is fenced while it is called may fail an assertion about its state instead.
    """
    task = producer._sender.sender_task
    if task is None or not task.done() or task.cancelled():
        return error
    return task.exception() or error


class RecordBatch:
    """A batch of a producer, filled without the layer that aiokafka puts around each record.

    ``append(offset, timestamp, key, value, headers)`` with offsets from 0 on returns None if the
    batch is full; then it is to be sealed.
    """

    __slots__ = ("append", "builder")

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.append: Callable[..., Any] = builder._builder.append

    def seal(self, records: int) -> Any:
        """The batch to send, with the number of records that were appended."""
        self.builder._relative_offset = records
        self.builder.close()
        return self.builder


# What is used above and is not documented, for the guard test: owner, name.
PRIVATE: tuple[tuple[Any, str], ...] = (
    (fetcher, "PartitionRecords"),
    (message_accumulator.BatchBuilder(1, 0), "_builder"),
    (message_accumulator.BatchBuilder(1, 0), "_relative_offset"),
    (fetcher.PartitionRecords, "_consumer_record"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
    (driver.AIOKafkaConsumerThread, "on_partitions_assigned"),
    (driver.Consumer, "_new_consumer_thread"),
    (driver.Consumer, "_drain_messages"),
    (driver.Consumer, "on_partitions_revoked"),
    (driver.Consumer, "on_partitions_assigned"),
    (driver.Consumer, "perform_seek"),
    (driver.Consumer, "commit"),
    (driver.Consumer, "force_commit"),
    (driver.Consumer, "track_message"),
    (driver.Consumer, "ack"),
    (driver.Consumer, "verify_all_partitions_active"),
    (driver.Transport, "Consumer"),
    (faust.App, "_new_transport"),
    (faust.App, "_create_directories"),
    (faust.App, "BootStrategy"),
)
