"""The Faust app: its transport, its boot strategy, and calls into the consumer's thread."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import faust
from aiokafka import TopicPartition
from faust.app.base import BootStrategy

from streams.kafka.faust_adapter.faust_consumer import Transport
from streams.kafka.faust_adapter.protocols import ConsumerHost
from streams.runtime.settings import Settings

T = TypeVar("T")


class Boot(BootStrategy):
    """Starts the consumer only. Each partition has a transactional producer of its own, and a
    producer of Faust's would bypass it."""

    enable_kafka_consumer = True
    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class App(faust.App):
    """A Faust app whose agents receive a :class:`Batch` for each partition and poll."""

    BootStrategy = Boot
    settings: Settings
    host: ConsumerHost

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Creates no directories: a worker keeps nothing on disk."""

    def batches(self, *topics: str) -> Any:
        """Returns the channel of several topics (short names) joined, with batches as values."""
        names = [self.settings.topic_prefix + topic for topic in topics]
        return self.topic(*names, key_serializer="raw", value_serializer="raw")

    async def read_from(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Reads each log from its offset on."""
        await self._in_thread(self.consumer.thread.read_from(offsets))

    async def commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits the offsets to the consumer group, for lag tools."""
        await self._in_thread(self.consumer.thread.commit_offsets(offsets))

    async def bounds(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Returns the first offset of each log and the end of its committed records."""
        return await self._in_thread(self.consumer.thread.bounds(tps))

    async def progress(self) -> dict[TopicPartition, tuple[int, int]]:
        """Returns, for each log being read, the position and the end of the committed records."""
        return await self._in_thread(self.consumer.thread.progress())

    @property
    def join_error(self) -> BaseException | None:
        """The error with which the consumer group refused this worker, or None."""
        return self._consumer.thread.join_error if self._consumer else None

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        done: T = await self.consumer.call(work)
        return done


def create_app(settings: Settings, host: ConsumerHost) -> App:
    """Creates the Faust app of a worker; its agents are added by ``streams/worker/agents.py``."""
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
    return app
