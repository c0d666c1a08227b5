"""Opening a partition: fence its previous owner, then restore its state from the changelog."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.contract.topics import CONSUMED, PRODUCED
from streams.kafka import changelog
from streams.kafka.producers import start_transactional_producer
from streams.runtime import fault_injection, log_events
from streams.runtime.errors import log
from streams.worker.protocols import Machine, PartitionContext

FENCE_TIMEOUT_SECONDS = 60.0


class Restored(NamedTuple):
    """Offsets by short topic name: ``applied`` in the state, ``positions`` to read from.

    ``backlog``: topic -> end of its log, where it holds records to apply. ``was_attempted``: the
    last owner went on from the same offsets, and ended before it had applied anything.
    """

    applied: Mapping[str, int]
    positions: dict[str, int]
    backlog: dict[str, int]
    was_attempted: bool


async def fence(partition: int, context: PartitionContext) -> Any:
    """Returns the partition's producer; every earlier one can write no more.

    Raises:
        KafkaConnectionError: if no broker answers within the timeout.
    """
    return await start_transactional_producer(
        context.settings,
        f"{context.settings.app_id}-{partition}",
        timeout_seconds=FENCE_TIMEOUT_SECONDS,
    )


async def prepare(producer: Any, partition: int, context: PartitionContext) -> None:
    """Fetches what the producer needs to know of its topics, and tells that it owns the partition.

    It takes a while, and a rebalance need not wait for it.
    """
    prefix = context.settings.topic_prefix
    await asyncio.gather(*[producer.partitions_for(prefix + name) for name in PRODUCED])
    context.metrics.add("partitions_fenced")
    log.info(log_events.PARTITION_FENCED, partition=partition)
    fault_injection.trigger("after-fence")


async def restore(machine: Machine, partition: int, context: PartitionContext) -> Restored:
    """Loads the changelog of a fenced partition into its machine.

    Raises:
        WorkerError: a later release has written the changelog, or a topic was recreated.
    """
    started = time.monotonic()
    async with context.restore_slots, changelog.reader(context.settings) as reader:
        restored = await changelog.read(reader, context.settings, partition)
        applied, attempted = restored.applied(), restored.attempted()
        rows = len(restored.values)
        await restored.load_into(machine)
    prefix = context.settings.topic_prefix
    bounds = await context.bounds(full_names(prefix, partition, dict.fromkeys(CONSUMED, 0)))
    machine.start()
    starts = changelog.starts(full_names(prefix, partition, applied), bounds)
    positions = {tp.topic.removeprefix(prefix): offset for tp, offset in starts.items()}
    _count_expired(partition, context, applied, positions)
    seconds = time.monotonic() - started
    context.metrics.add("restored_rows", None, rows)
    context.metrics.restore.add(seconds)
    log.info(
        log_events.PARTITION_RESTORED,
        partition=partition,
        rows=rows,
        records=restored.read,
        seconds=round(seconds, 2),
    )
    ends = {tp.topic.removeprefix(prefix): end for tp, (_, end) in bounds.items()}
    backlog = {topic: ends[topic] for topic, at in positions.items() if ends[topic] > at}
    return Restored(applied, positions, backlog, attempted == applied)


def _count_expired(
    partition: int,
    context: PartitionContext,
    applied: Mapping[str, int],
    positions: Mapping[str, int],
) -> None:
    """Counts records that retention deleted before a worker read them, control records included."""
    for topic, offset in applied.items():
        if count := positions[topic] - offset:
            context.metrics.add("expired_records", topic, count)
            log.error(log_events.INPUT_EXPIRED, partition=partition, topic=topic, records=count)


def full_names(
    prefix: str, partition: int, offsets: Mapping[str, int] | Iterable[tuple[str, int]]
) -> dict[TopicPartition, int]:
    """Returns offsets by short topic name as offsets by topic partition."""
    return {TopicPartition(prefix + t, partition): offset for t, offset in dict(offsets).items()}
