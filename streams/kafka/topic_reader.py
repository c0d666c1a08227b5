"""Readers of topics: consumers without a group, read to the end or followed.

``read_to_end`` is the one loop that reads up to the present end of a log; ``follow`` is the one
that does not end. ``TopicReader`` keeps the records in dicts, for `seatflow status`, `read` and
`demo`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient

from streams.contract.decoder import REGISTRY_PREFIX_BYTES
from streams.kafka import lenient_records
from streams.kafka.closing import close_with_timeout
from streams.kafka.connect import closing
from streams.kafka.topic_admin import SECURE
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError
from streams.runtime.settings import Settings, client_options

ANSWERS_WITHIN_MS = 10_000
FETCH_BYTES = 8 << 20  # the longest record that a topic of ours takes
IDLE_TIMEOUT_SECONDS = 30.0
WAIT_MS = 200  # for the next records of a log

Batches = dict[TopicPartition, list[Any]]


class TopicRecord(NamedTuple):
    """``value`` is decoded JSON; bytes where it is none; None is a tombstone."""

    topic: str  # without the prefix
    timestamp: int  # milliseconds
    key: str
    value: Any
    headers: dict[str, str]


def no_broker(settings: Settings) -> WorkerError:
    """Returns the error that no broker answers, with the remedy."""
    secure = "" if settings.security_protocol == "PLAINTEXT" else SECURE
    return WorkerError(
        f"no broker answers at {settings.brokers}: start one with `seatflow broker`,"
        f" or name another with SEATFLOW_BROKERS or --brokers{secure}",
        TEMPORARY,
    )


@asynccontextmanager
async def connected(client: Any, settings: Settings) -> AsyncIterator[Any]:
    """Starts a client of aiokafka, yields it and closes it.

    Raises:
        WorkerError: no broker answers, or one answers with an error.
    """
    try:
        try:
            await client.start()
        except errors.KafkaConnectionError:
            raise no_broker(settings) from None
        yield client
    except (errors.KafkaError, TimeoutError) as error:
        raise WorkerError(
            f"the broker at {settings.brokers} did not answer as it should: {error!r}", TEMPORARY
        ) from None
    finally:
        await close_with_timeout(closing(client))


def admin_client(settings: Settings) -> AIOKafkaAdminClient:
    """Returns an admin client, not started yet."""
    return AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=ANSWERS_WITHIN_MS)


def consumer(
    settings: Settings, isolation: str = "read_committed", **options: Any
) -> AIOKafkaConsumer:
    """Returns a consumer, not started yet, that commits nothing.

    It belongs to no group and starts at the beginning of its partitions, unless the options of
    AIOKafkaConsumer say otherwise.
    """
    lenient_records.install()
    defaults = {
        "isolation_level": isolation,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "max_partition_fetch_bytes": FETCH_BYTES,
        "fetch_max_wait_ms": 100,
        "request_timeout_ms": ANSWERS_WITHIN_MS,
    }
    return AIOKafkaConsumer(**client_options(settings), **defaults | options)


async def topic_partitions(
    admin: Any, settings: Settings, names: Collection[str]
) -> list[TopicPartition]:
    """Returns all partitions of these topics (short names).

    Raises:
        WorkerError: one of the topics does not exist.
    """
    wanted = {settings.topic_prefix + name for name in names}
    counts = {
        found["topic"]: len(found["partitions"])
        for found in await admin.describe_topics()
        if found["topic"] in wanted and not found["error_code"]
    }
    if missing := sorted(wanted - counts.keys()):
        raise WorkerError(
            f"the topic {missing[0]} does not exist at {settings.brokers}: make the topics with"
            " `seatflow topics create`, or is SEATFLOW_TOPIC_PREFIX another?",
            CONFIGURATION,
        )
    return [TopicPartition(name, n) for name in sorted(wanted) for n in range(counts[name])]


async def read_to_end(
    client: Any,
    partitions: Sequence[TopicPartition],
    *,
    from_beginning: bool = False,
    idle_timeout_seconds: float | None = IDLE_TIMEOUT_SECONDS,
    timeout_seconds: float | None = None,
    max_records: int | None = None,
) -> AsyncIterator[Batches]:
    """Yields the records up to the end of each partition as of the call, batch by batch.

    The end is that of the client's isolation level: with ``read_committed`` the last stable
    offset. It is recognized by position: the markers of transactions take offsets, too, and are
    never delivered.

    Args:
        client: a started consumer to which the partitions are assigned.
        partitions: all partitions that are assigned to the client.
        from_beginning: start at the first offset of each log, not at the client's position.
        idle_timeout_seconds: the longest wait without any record; None waits without limit.
        timeout_seconds: the longest time for the whole log; None is without limit.
        max_records: the most records in a batch.

    Raises:
        TimeoutError: one of the two limits has passed.
    """
    ends = await client.end_offsets(partitions)
    if from_beginning:
        for partition, offset in (await client.beginning_offsets(partitions)).items():
            client.seek(partition, offset)
    idle, total = Deadline(idle_timeout_seconds), Deadline(timeout_seconds)
    left = list(partitions)
    while left := [p for p in left if await client.position(p) < ends[p]]:
        if batches := await client.getmany(timeout_ms=WAIT_MS, max_records=max_records):
            yield batches
            idle.extend()
        elif idle.has_passed:
            raise TimeoutError(f"no record of {left[0].topic} came within {idle.seconds:g} s")
        if total.has_passed:
            raise TimeoutError(f"{left[0].topic} was not read to its end in {total.seconds:g} s")
        await asyncio.sleep(0)  # batches that are buffered come without a turn of the loop


async def follow(client: Any, max_records: int | None = None) -> AsyncIterator[Batches]:
    """Yields the records from the client's position on, batch by batch, without an end."""
    while True:
        if batches := await client.getmany(timeout_ms=WAIT_MS, max_records=max_records):
            yield batches


class TopicReader:
    """The latest value of each key, and all records of the topics in ``logged``, oldest first.

    Reads only while it is asked to: ``read`` what has come, ``catch_up`` to what is there now.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Iterable[str],
        logged: Collection[str] = (),
        on_record: Callable[[TopicRecord], None] | None = None,
    ) -> None:
        self._settings, self._logged, self._on_record = settings, logged, on_record
        self.latest: dict[str, dict[str, Any]] = {topic: {} for topic in topics}
        self.log: dict[str, list[TopicRecord]] = {topic: [] for topic in logged}
        self.records = 0
        self.last_arrival = 0.0  # time.monotonic() of the last record
        self._short = {settings.topic_prefix + topic: topic for topic in self.latest}

    async def __aenter__(self) -> Self:
        async with connected(admin_client(self._settings), self._settings) as admin:
            self._places = await topic_partitions(admin, self._settings, self.latest)
        self._connection = connected(consumer(self._settings), self._settings)
        self._consumer = await self._connection.__aenter__()
        self._consumer.assign(self._places)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._connection.__aexit__(*exception)

    async def read(self, wait: float) -> int:
        """Takes what comes within ``wait`` seconds, and returns how many records that were."""
        return self._take_all(await self._consumer.getmany(timeout_ms=int(wait * 1000)))

    async def catch_up(self) -> None:
        """Reads all that is committed now."""
        async for batches in read_to_end(self._consumer, self._places):
            self._take_all(batches)

    def _take_all(self, batches: Batches) -> int:
        count = 0
        for place, records in batches.items():
            topic = self._short[place.topic]
            for record in records:
                self._take(topic, record)
            count += len(records)
        if count:
            self.records += count
            self.last_arrival = time.monotonic()
        return count

    def _take(self, topic: str, record: Any) -> None:
        followed = TopicRecord(
            topic,
            record.timestamp,
            (record.key or b"").decode(errors="replace"),
            _decoded(record.value),
            {name: (text or b"").decode(errors="replace") for name, text in record.headers},
        )
        if followed.value is None:
            self.latest[topic].pop(followed.key, None)
        else:
            self.latest[topic][followed.key] = followed.value
        if topic in self._logged:
            self.log[topic].append(followed)
        if self._on_record:
            self._on_record(followed)


def _decoded(value: bytes | None) -> Any:
    """Returns the JSON of a value, read as workers read it; the bytes, if it is none."""
    if value is None:
        return None
    try:
        return orjson.loads(value[REGISTRY_PREFIX_BYTES:] if value[:1] == b"\0" else value)
    except orjson.JSONDecodeError:
        return value
