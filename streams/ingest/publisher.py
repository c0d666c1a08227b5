"""Publishes a feed to Kafka in bounded memory; the events of each key keep their order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from engine.domain import partitioner
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.kafka.producers import COMPRESSION, idempotent_producer

BATCH_BYTES = 1 << 18
# After this many items the event loop runs the producer's tasks, and the progress is drawn.
ITEMS_PER_LOOP_YIELD = 2_000
# A change of topic waits until all earlier events are acknowledged, but only this many times: a
# file with the catalog first and the users last arrives in that order; one that mixes topics is
# not slowed down.
ORDERED_TOPIC_CHANGES = 100
MAX_PROBLEMS_KEPT = 100
MAX_BAD_ROWS_AT_START = 100
"""After which a file without a good row is given up: it is of another format."""


@dataclass(slots=True)
class FeedResult:
    """The result of a feed. ``problems`` holds the first ones; ``bad_rows`` counts all of them.

    ``acknowledged``: the events that Kafka has, also of a feed that was interrupted.
    ``gave_up``: the first rows were all bad.
    """

    events: int = 0
    bad_rows: int = 0
    seconds: float = 0.0
    topics: Counter[str] = field(default_factory=Counter)
    problems: list[FeedProblem] = field(default_factory=list)
    stopped_at: FeedProblem | None = None
    gave_up: bool = False
    acknowledged: int = 0

    @property
    def events_per_second(self) -> float:
        """The rate of publishing; 0 if nothing was published."""
        return self.events / self.seconds if self.seconds else 0.0


partition_of = lru_cache(maxsize=1 << 16)(partitioner.partition_of)


async def publish(
    items: Iterable[FeedItem | FeedProblem],
    brokers: str,
    prefix: str,
    *,
    kafka: Mapping[str, Any] | None = None,
    compression: str | None = COMPRESSION,
    dry_run: bool = False,
    strict: bool = False,
    console: Console | None = None,
    on_problem: Callable[[FeedProblem], None] | None = None,
    result: FeedResult | None = None,
) -> FeedResult:
    """Publishes a feed and waits until all of it is acknowledged.

    ``kafka``: further settings of the aiokafka client (TLS, SASL).
    ``dry_run``: print to ``console`` instead; needs no broker.
    ``strict``: stop at the first bad row; the events before it are published.
    ``result``: is filled in and returned; for a caller who needs it after an interruption.
    Raises: FeedError, if the broker or a topic is missing, or the broker rejected an event.
    """
    result = FeedResult() if result is None else result
    began = time.perf_counter()
    if dry_run:
        _print_items(_good(items, result, strict, on_problem), result, console or Console())
    else:
        with _progress(items, result, console) as draw:
            sender = _Sender(brokers, prefix, compression, dict(kafka or {}), result)
            await sender.run(_good(items, result, strict, on_problem), draw)
    result.seconds = time.perf_counter() - began
    return result


def write(
    items: Iterable[FeedItem | FeedProblem],
    path: Path,
    *,
    strict: bool = False,
    on_problem: Callable[[FeedProblem], None] | None = None,
) -> FeedResult:
    """Writes a feed as JSON Lines, for `feed jsonl` and `simulate`. Raises: FeedError."""
    result = FeedResult()
    began = time.perf_counter()
    try:
        with path.open("wb") as file:
            for topic, _, value in _good(items, result, strict, on_problem):
                file.write(value + b"\n")
                result.events += 1
                result.topics[topic] += 1
    except OSError as error:
        raise FeedError(f"{path} cannot be written: {error.strerror}") from None
    result.seconds = time.perf_counter() - began
    return result


def _good(
    items: Iterable[FeedItem | FeedProblem],
    result: FeedResult,
    strict: bool,
    on_problem: Callable[[FeedProblem], None] | None,
) -> Iterator[FeedItem]:
    only_bad = not getattr(items, "problems_come_first", False)
    for item in items:
        if type(item) is FeedItem:
            only_bad = False
            yield item
        elif isinstance(item, FeedProblem):
            result.bad_rows += 1
            if len(result.problems) < MAX_PROBLEMS_KEPT:
                result.problems.append(item)
            if on_problem is not None:
                on_problem(item)
            result.gave_up = only_bad and result.bad_rows == MAX_BAD_ROWS_AT_START
            if strict or result.gave_up:
                result.stopped_at = item
                return


def _print_items(items: Iterator[FeedItem], result: FeedResult, console: Console) -> None:
    for topic, key, value in items:
        line = f"{topic}\t{key.decode(errors='replace')}\t{value.decode(errors='replace')}"
        console.file.write(line + "\n")  # unchanged: no wrapping, tabs kept
        result.events += 1
        result.topics[topic] += 1


class _TopicBatches:
    """The open batches of one topic, by partition."""

    __slots__ = ("by_partition", "partitions", "topic")

    def __init__(self, topic: str, partitions: int) -> None:
        self.topic = topic
        self.partitions = partitions
        self.by_partition: dict[int, Any] = {}


class _Sender:
    """Sends records in batches it fills itself.

    ``producer.send`` would cost a future and a task switch per event.
    """

    def __init__(
        self,
        brokers: str,
        prefix: str,
        compression: str | None,
        kafka: dict[str, Any],
        result: FeedResult,
    ) -> None:
        self._brokers = brokers
        self._prefix = prefix
        self._result = result
        self._options = {
            "compression_type": compression,
            "max_batch_size": BATCH_BYTES,
            **kafka,
            "bootstrap_servers": brokers,
        }
        self._topics: dict[str, _TopicBatches] = {}
        self._unacknowledged: set[asyncio.Future[Any]] = set()

    async def run(self, items: Iterator[FeedItem], draw: Callable[[], None]) -> None:
        self._producer = idempotent_producer(self._options)
        try:
            await self._producer.start()
            await self._fill(items, draw)
            await self._flush()
            draw()
        except KafkaConnectionError as error:
            raise FeedError(
                f"no broker answers at {self._brokers} ({error}): start one with 'seatflow broker' "
                "or name another in SEATFLOW_BROKERS"
            ) from error
        except KafkaError as error:
            raise FeedError(
                f"the broker rejected an event: {error!r}. Feed the file again when this is solved:"
                " repeated events change nothing"
            ) from error
        finally:
            await self._producer.stop()

    async def _fill(self, items: Iterator[FeedItem], draw: Callable[[], None]) -> None:
        batches: _TopicBatches | None = None
        changes, count, counts = 0, 0, self._result.topics
        for topic, key, value in items:
            if batches is None or topic != batches.topic:
                if batches is not None and (changes := changes + 1) <= ORDERED_TOPIC_CHANGES:
                    await self._flush()
                batches = self._topics.get(topic) or await self._open(topic)
            partition = partition_of(key, batches.partitions)
            batch = batches.by_partition.get(partition)
            if batch is None or batch.append(timestamp=None, key=key, value=value) is None:
                await self._send(batches, partition)
                batch = batches.by_partition[partition] = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
            counts[topic] += 1
            count += 1
            if count % ITEMS_PER_LOOP_YIELD == 0:
                self._result.events = count
                draw()
                await asyncio.sleep(0)
        self._result.events = count

    async def _open(self, topic: str) -> _TopicBatches:
        name = self._prefix + topic
        # Metadata of all topics: a request for one by name may create it with defaults.
        metadata = await self._producer.client.fetch_all_metadata()
        partitions = metadata.partitions_for_topic(name)
        if not partitions:
            raise FeedError(f"the topic {name} does not exist: run 'seatflow topics create' first")
        batches = self._topics[topic] = _TopicBatches(topic, len(partitions))
        return batches

    async def _send(self, batches: _TopicBatches, partition: int) -> None:
        """Hands over the batch of a partition; waits until the previous one has been sent."""
        batch = batches.by_partition.pop(partition, None)
        if batch is None:
            return
        name = self._prefix + batches.topic
        future = await self._producer.send_batch(batch, name, partition=partition)
        future.add_done_callback(partial(self._count, batch.record_count()))
        for done in [each for each in self._unacknowledged if each.done()]:
            self._unacknowledged.discard(done)
            done.result()
        self._unacknowledged.add(future)

    def _count(self, records: int, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._result.acknowledged += records

    async def _flush(self) -> None:
        for batches in self._topics.values():
            for partition in list(batches.by_partition):
                await self._send(batches, partition)
        unacknowledged, self._unacknowledged = self._unacknowledged, set()
        await asyncio.gather(*unacknowledged)


@contextmanager
def _progress(
    items: object, result: FeedResult, console: Console | None
) -> Iterator[Callable[[], None]]:
    """Shows the progress of a feed, by the bytes of its file if it knows them (``Feed``)."""
    total = getattr(items, "total_bytes", None)
    began = time.perf_counter()
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task("Publishing", total=total, events=0, rate=0.0)

        def draw() -> None:
            seconds = time.perf_counter() - began
            progress.update(
                task,
                completed=getattr(items, "done_bytes", 0),
                events=result.events,
                rate=result.events / seconds if seconds else 0.0,
            )

        yield draw
