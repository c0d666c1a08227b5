"""Records of a partition become events and messages; what cannot be applied, a dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from engine.domain.events import Delivered
from engine.domain.model import FIRST_TIMESTAMP_MS, LAST_TIMESTAMP_MS
from engine.domain.partitioner import partition_of
from engine.state.message_checks import problem_of
from streams.contract.decoder import Rejected
from streams.contract.topics import FORWARDED_EVENTS, INPUT_NAMES
from streams.kafka.dead_letters import dead_letter
from streams.kafka.forwarding import ForwardedRecord, Origin, forward, received
from streams.runtime import log_events
from streams.runtime.errors import log
from streams.worker.commit_loop import CommitLoop
from streams.worker.protocols import PartitionContext

NO_CALENDAR = "its timestamp, {} ms since 1970, is in no year from 1 to 9999"
NOT_OURS = "no worker wrote it: {}"
MISPLACED = Rejected(
    "it was forwarded to a partition that its key does not belong to, and nothing is forwarded"
    " twice: no worker of this installation wrote it",
    "wrong_partition",
)
Refusals = Sequence[tuple[Any, Rejected]]


class Part(NamedTuple):
    """Input for one call of a machine: events of an input topic, or messages of an internal one.

    ``records``: those of the events, in the order of their offsets; empty for messages.
    """

    topic: str
    batch: list[Delivered]
    records: Sequence[Any] = ()
    forwarded: bool = False


class RecordReader:
    """Reads the records of one partition; topics by their short names.

    Dead letters and forwarded events go to the transaction that commits the records' offsets.
    """

    def __init__(self, partition: int, context: PartitionContext, commits: CommitLoop) -> None:
        self._partition, self._context, self._commits = partition, context, commits
        self._prefix = context.settings.topic_prefix

    def read(self, topic: str, records: list[Any]) -> list[Part]:
        """Returns the events of input records, or the messages of internal ones, if any.

        Raises:
            NewerFormatError: a later release has written one of the messages.
        """
        records = self._with_possible_times(topic, records)
        if not records:
            return []
        if topic == FORWARDED_EVENTS:
            return self._forwarded(records)
        if topic in INPUT_NAMES:
            part = self._events(topic, records)
        else:
            part = Part(topic, self._messages(topic, records))
        return [part] if part.batch else []

    def _with_possible_times(self, topic: str, records: list[Any]) -> list[Any]:
        timestamps = [record.timestamp for record in records]
        if not records or (
            min(timestamps) >= FIRST_TIMESTAMP_MS and max(timestamps) <= LAST_TIMESTAMP_MS
        ):
            return records
        good, refused = [], []
        for record in records:
            if FIRST_TIMESTAMP_MS <= record.timestamp <= LAST_TIMESTAMP_MS:
                good.append(record)
            else:
                why = NO_CALENDAR.format(record.timestamp)
                refused.append((record, Rejected(why, "invalid_timestamp")))
        self.refuse(topic, refused)
        return good

    def _events(self, topic: str, records: list[Any], forwarded: bool = False) -> Part:
        batch, rejected = self._context.decoders[topic].decode_all(records)
        if rejected:
            self.refuse(FORWARDED_EVENTS if forwarded else topic, rejected)
            if not batch:
                self._commits.add_input_timestamps([record.timestamp for record in records])
        return Part(topic, batch, records, forwarded)

    def _forwarded(self, records: Iterable[Any]) -> list[Part]:
        """Returns the events of a slice, those of each input topic in the order of their coming."""
        found: dict[str, list[Any]] = {}
        refused: list[tuple[Any, Rejected]] = []
        partitions = self._context.settings.partitions
        for record in records:
            event = received(record)
            if isinstance(event, str):
                refused.append((record, Rejected(NOT_OURS.format(event), "bad_message")))
            elif partition_of(event.key or b"", partitions) != self._partition:
                refused.append((event, MISPLACED))
            else:
                found.setdefault(event.origin.topic, []).append(event)
        if refused:
            self.refuse(FORWARDED_EVENTS, refused)
        parts = [self._events(topic, events, forwarded=True) for topic, events in found.items()]
        return [part for part in parts if part.batch]

    def _messages(self, topic: str, records: list[Any]) -> list[Delivered]:
        batch, refused = [], []
        for record in records:
            try:
                message = orjson.loads(record.value or b"")
            except orjson.JSONDecodeError:
                refused.append((record, Rejected("the message is not JSON", "not_json")))
                continue
            if problem := problem_of(topic, message, self._context.settings.partitions):
                refused.append((record, Rejected(NOT_OURS.format(problem), "bad_message")))
            else:
                batch.append(Delivered(message, record.timestamp, record.offset))
        if refused:
            self.refuse(topic, refused)
        return batch

    def handled(self, part: Part, misrouted: Sequence[int]) -> None:
        """Counts the events of a part, and forwards those that the machine did not apply.

        Args:
            part: what the machine was given.
            misrouted: the offsets of events that belong to another partition.
        """
        if not part.records:
            return
        batch, records = part.batch, part.records
        if misrouted:
            lost = set(misrouted)
            if part.forwarded:  # a partition's machine and partition_of would disagree
                raise AssertionError(f"partition {self._partition} does not apply its events")
            self._forward(part.topic, [r for r in records if r.offset in lost])
            batch = [event for event in batch if event.offset not in lost]
            records = [record for record in records if record.offset not in lost]
        self._context.metrics.counts["events"].update([type(event[0]) for event in batch])
        self._commits.add_input_timestamps([record.timestamp for record in records])

    def _forward(self, topic: str, records: Sequence[Any]) -> None:
        partitions = self._context.settings.partitions
        self._commits.add_forwarded(
            [
                forward(record, topic, self._partition, lambda key: partition_of(key, partitions))
                for record in records
            ]
        )
        self._context.metrics.add("events_forwarded", topic, len(records))

    def refuse(self, topic: str, refused: Refusals) -> None:
        """Makes dead letters of records, with a metric and a line in the log."""
        self._commits.add_dead_letters(
            [
                dead_letter(record, self._prefix + place.topic, place.partition, place.offset, why)
                for record, why in refused
                for place in (self._place(topic, record),)
            ]
        )
        for _, why in refused:
            self._context.metrics.add("dead_letters", (topic, why.kind))
        record, why = refused[0]
        log.warning(
            log_events.DEAD_LETTER,
            topic=topic,
            partition=self._partition,
            offset=record.offset,
            reason=why.kind,  # the full reason quotes input: only in the dead letter
            more=len(refused) - 1,
        )

    def _place(self, topic: str, record: Any) -> Origin:
        """Returns where a record was found first: a forwarded one in its input topic."""
        if isinstance(record, ForwardedRecord):
            return record.origin
        if topic == FORWARDED_EVENTS and not isinstance(event := received(record), str):
            return event.origin
        return Origin(topic, self._partition, record.offset, record.timestamp)
