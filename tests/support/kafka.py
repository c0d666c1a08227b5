"""The broker of the Kafka tests, and the few things that most of them do with it.

The broker is, in this order: the one that SEATFLOW_TEST_BROKERS names; a container, where a Docker
engine has Kafka's image; a child process run from Kafka's jars. It is shared by the whole session:
a test takes a `topic_prefix` of its own, and a broker of its own (`streams.local.broker.Broker`)
when it wants to kill or pause it.
"""

import functools
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.kafka.topic_reader import read_to_end
from streams.local.broker import BASE_CONFIG, Broker, free_port, kafka_answers
from streams.local.kafka_jars import KAFKA_VERSION
from streams.runtime.deadline import Deadline

RUNNING = os.environ.get("SEATFLOW_TEST_BROKERS")
IMAGE = f"apache/kafka:{KAFKA_VERSION}"


@dataclass(frozen=True, slots=True)
class Kafka:
    """The shared broker: its address, and the origin of its software."""

    bootstrap: str
    origin: str


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read back; key and value None mean null, times are epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@functools.cache
def origin() -> str:
    if RUNNING:
        return f"the running one at {RUNNING} (SEATFLOW_TEST_BROKERS)"
    if (reason := _no_container()) is None:
        return f"Testcontainers, {IMAGE}"
    return f"its jars, Apache Kafka {KAFKA_VERSION} ({reason})"


@functools.cache
def _no_container() -> str | None:
    """Returns why the broker cannot be a container; None if it can. Fetches no image."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        client = docker.from_env(timeout=3)
    except (DockerException, OSError):
        return "no Docker engine answers"
    try:
        client.images.get(IMAGE)
        return None
    except ImageNotFound:
        return f"the Docker engine has no image {IMAGE}"
    except (DockerException, OSError):
        return "no Docker engine answers"
    finally:
        client.close()


def pytest_report_header(config: pytest.Config) -> str | None:
    if config.option.markexpr == "not kafka":
        return None
    return f"kafka: broker from {origin()}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Adds the marker ``kafka`` to every test that uses the fixture, so that none can forget it."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Provides the broker of the session; pytest's header names its origin."""
    if RUNNING:
        yield Kafka(RUNNING, origin())
        return
    if _no_container() is None:
        yield from _from_container()
        return
    broker = Broker(0, tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        yield Kafka(broker.bootstrap, origin())
    finally:
        broker.kill()
        shutil.rmtree(broker.data_dir / "kafka", ignore_errors=True)


def _from_container() -> Iterator[Kafka]:
    # The reaper is another image, to be fetched; this fixture removes its container itself.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer

    # The address that Kafka advertises must be known before it starts, so the port is not Docker's
    # to choose.
    port = free_port()
    container = DockerContainer(IMAGE).with_bind_ports(port, port)
    # Ports are published where the engine is. Testcontainers' own answer needs the started
    # container, where the tests run in a container themselves.
    host = urlsplit(os.environ.get("DOCKER_HOST", "")).hostname or "127.0.0.1"
    config = {
        **BASE_CONFIG,
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.quorum.voters": "1@127.0.0.1:9093",
    }
    for name, value in config.items():
        container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        deadline = Deadline(120)
        while not kafka_answers(host, port):
            if deadline.has_passed:
                out, error = container.get_logs()
                pytest.fail(f"Kafka in its container does not answer:\n{(out + error).decode()}")
            time.sleep(0.1)
        yield Kafka(f"{host}:{port}", origin())


@pytest.fixture
def topic_prefix() -> str:
    """Names of the test's own on the shared broker, for topics, groups and transactional ids."""
    return f"test-{uuid.uuid4().hex[:12]}."


async def create_topics(
    bootstrap: str,
    *names: str,
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
) -> None:
    """Creates the topics and waits until each of their partitions has a leader."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        settings = dict(config or {})
        await admin.create_topics(
            [NewTopic(name, partitions, 1, topic_configs=settings) for name in names]
        )
    finally:
        await admin.close()
    for name in names:
        await end_offsets(bootstrap, name)


@asynccontextmanager
async def reading(bootstrap: str, isolation: str) -> AsyncIterator[Any]:
    """Yields a consumer without a group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # A record over 1 MiB is one of the things to test.
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def end_offsets(
    bootstrap: str, topic: str, isolation: str = "read_uncommitted"
) -> dict[int, int]:
    """Returns the end offset of each partition of the topic.

    It is the high watermark, or with ``read_committed`` the last stable offset.
    """
    async with reading(bootstrap, isolation) as consumer:
        partitions = await _assign(consumer, topic)
        ends = await consumer.end_offsets(partitions)
        return {partition.partition: end for partition, end in ends.items()}


async def _assign(consumer: Any, topic: str) -> list[Any]:
    # Kafka answers with no partitions while the metadata of a new topic is on its way.
    deadline = Deadline(15)
    while not (numbers := consumer.partitions_for_topic(topic)):
        if deadline.has_passed:
            raise LookupError(f"There is no topic {topic!r}.")
        consumer.subscribe([topic])
        await consumer._client.force_metadata_update()
        consumer.unsubscribe()
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    return partitions


async def read_topic(
    bootstrap: str, topic: str, *, isolation: str = "read_committed", timeout: float = 30.0
) -> list[Record]:
    """Returns the present records of the topic, by partition and in the order of each.

    With ``read_committed`` it reads up to the first open transaction. It stops when the position
    reaches the end as of the call; counting records would not do, since the markers of
    transactions take offsets too.

    Raises:
        TimeoutError: the end is not reached within ``timeout`` seconds.
    """
    async with reading(bootstrap, isolation) as consumer:
        partitions = await _assign(consumer, topic)
        records: list[Record] = []
        async for batches in read_to_end(
            consumer,
            partitions,
            from_beginning=True,
            idle_timeout_seconds=None,
            timeout_seconds=timeout,
        ):
            records += map(_record, chain.from_iterable(batches.values()))
        return sorted(records, key=lambda record: (record.partition, record.offset))


def _record(message: Any) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
        tuple(message.headers),
    )


def latest(records: Iterable[Record]) -> dict[bytes | None, bytes]:
    """Returns the content of a compacted topic: the last value of each key, without tombstones."""
    values = {record.key: record.value for record in records}
    return {key: value for key, value in values.items() if value is not None}


async def produce(
    bootstrap: str,
    topic: str,
    records: Iterable[tuple[bytes | None, bytes | None]],
    *,
    partition: int | None = None,
    timestamp: int | None = None,
    headers: Iterable[tuple[str, bytes]] = (),
) -> None:
    """Publishes (key, value) pairs in order by Kafka's default partitioner, and awaits the acks."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        linger_ms=5,
        max_request_size=4 * 1024 * 1024,
    )
    await producer.start()
    try:
        sent = [
            await producer.send(
                topic,
                value,
                key,
                partition=partition,
                timestamp_ms=timestamp,
                headers=list(headers),
            )
            for key, value in records
        ]
        for delivery in sent:
            await delivery
    finally:
        await producer.stop()
