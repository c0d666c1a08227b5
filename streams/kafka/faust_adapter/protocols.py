"""The unit of delivery, and what the adapter needs of the worker that hosts it."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn, Protocol

from aiokafka import TopicPartition

from streams.kafka.assignor import OwnedPartitions


class Batch(NamedTuple):
    """Consecutive records of one topic partition: all that exist from ``start`` up to ``next``.

    Only control records and aborted or compacted records are missing between them. So a batch is
    contiguous with the position p of a partition if ``start`` ≤ p.
    """

    topic: str  # full name
    partition: int
    start: int
    records: list[Any]
    next: int


class ConsumerHost(Protocol):
    """The worker, as the adapter sees it; ``owned`` and ``failed`` are called from any thread."""

    def pollable_partitions(self) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """Returns the topic partitions with room in their queues: urgent ones, then the others."""

    def deliver(self, batch: Batch) -> None:
        """Queues a batch at its partition."""

    async def hold(self) -> None:
        """Begins a rebalance: commits what is computed, computes no more until ``assigned``."""

    def assigned(self, partitions: set[int], generation: int) -> None:
        """Ends a rebalance: these are all partitions that the worker owns now."""

    def owned(self) -> OwnedPartitions:
        """Returns the last assignment, for the group's next one."""

    def failed(self, error: BaseException) -> NoReturn:
        """Ends the process."""
