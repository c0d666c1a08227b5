"""Record intake: from delivered batches to queues in the order of each log, without gaps."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from streams.contract.topics import CONSUMED
from streams.kafka.faust_adapter import Batch
from streams.worker.record_queues import RecordQueues

# Per topic; above either no more is fetched. A fetched batch has at most the bytes of one fetch (1
# MiB), or one batch of the log (4 MiB of an input): large records are bounded by the second.
QUEUE_RECORDS = 5_000
QUEUE_BATCHES = 16


class RecordIntake:
    """The positions of a partition in its logs, and the records that wait for the machine.

    Topics are named without the prefix throughout.
    """

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}  # offset of the next record to be delivered
        self.taken: dict[str, int] = {}  # offset after the last record that `take` returned
        self._queues = RecordQueues(CONSUMED)

    def start(self, positions: Mapping[str, int]) -> None:
        """Sets the position in each log, after a restore."""
        self.positions = dict(positions)

    def deliver(self, topic: str, batch: Batch) -> bool:
        """Queues the new records of a batch; False if the batch starts past the position.

        Skips records that were read already (a rebalance may deliver them again) by offset. A batch
        that starts past the position leaves a gap: the log must be read again from the position.
        """
        position = self.positions[topic]
        if batch.start > position:
            return False
        if batch.next > position:
            records = batch.records
            if records[0].offset < position:
                records = [record for record in records if record.offset >= position]
            self.positions[topic] = batch.next
            self._queues.put(topic, records, batch.next)
        return True

    def can_accept(self, topic: str) -> bool:
        """Returns whether the topic's queue has room for another batch."""
        queues = self._queues
        return queues.count(topic) < QUEUE_RECORDS and queues.batches(topic) < QUEUE_BATCHES

    def take(self, limit: int, without: Container[str] = ()) -> list[tuple[str, list[Any], int]]:
        """Removes up to ``limit`` records, none of the topics ``without``.

        Returns topic, records and the offset after them, internal topics first.
        """
        slices = list(self._queues.take(limit, without))
        for topic, _, end in slices:
            self.taken[topic] = end
        return slices

    def has_backlog(self, records: int) -> bool:
        """Returns whether at least so many events of one topic are waiting."""
        return self._queues.has_backlog(records)

    def __bool__(self) -> bool:
        """Returns True if any record is waiting."""
        return bool(self._queues)

    def snapshot(self) -> Iterator[tuple[str, int, float]]:
        """Yields topic, records queued, and the oldest one's timestamp in seconds (0.0: none)."""
        return self._queues.snapshot()
