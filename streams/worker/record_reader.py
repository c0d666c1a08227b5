"""Records of a partition become events and messages; what cannot be applied, a dead letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from engine.domain.events import Delivered
from engine.domain.model import FIRST_TIMESTAMP_MS, LAST_TIMESTAMP_MS
from engine.state.message_checks import problem_of
from streams.contract.decoder import Rejected
from streams.contract.topics import INPUT_NAMES
from streams.kafka.dead_letters import dead_letter
from streams.runtime import log_events
from streams.runtime.errors import log
from streams.worker.commit_loop import CommitLoop
from streams.worker.protocols import PartitionContext
from streams.worker.transaction import MISPLACED

NO_CALENDAR = "its timestamp, {} ms since 1970, is in no year from 1 to 9999"
Refusals = Sequence[tuple[Any, Rejected]]


class RecordReader:
    """Reads the records of one partition; topics by their short names.

    Dead letters go to the transaction that commits the records' offsets.
    """

    def __init__(self, partition: int, context: PartitionContext, commits: CommitLoop) -> None:
        self._partition, self._context, self._commits = partition, context, commits
        self._prefix = context.settings.topic_prefix

    def read(self, topic: str, records: list[Any]) -> list[Delivered]:
        """Returns the events of input records, or the messages of internal ones.

        Raises:
            NewerFormatError: a later release has written one of the messages.
        """
        if not records:
            return []
        timestamps = [record.timestamp for record in records]
        if min(timestamps) < FIRST_TIMESTAMP_MS or max(timestamps) > LAST_TIMESTAMP_MS:
            records, timestamps = self._without_impossible_times(topic, records)
            if not records:
                return []
        if topic not in INPUT_NAMES:
            return self._messages(topic, records)
        batch, rejected = self._context.decoders[topic].decode_all(records)
        if rejected:
            self.refuse(topic, rejected)
        self._context.metrics.counts["events"].update([type(event[0]) for event in batch])
        self._commits.add_input_timestamps(timestamps)
        return batch

    def _without_impossible_times(
        self, topic: str, records: list[Any]
    ) -> tuple[list[Any], list[int]]:
        good, refused = [], []
        for record in records:
            if FIRST_TIMESTAMP_MS <= record.timestamp <= LAST_TIMESTAMP_MS:
                good.append(record)
            else:
                why = NO_CALENDAR.format(record.timestamp)
                refused.append((record, Rejected(why, "invalid_timestamp")))
        self.refuse(topic, refused)
        return good, [record.timestamp for record in good]

    def _messages(self, topic: str, records: list[Any]) -> list[Delivered]:
        batch, refused = [], []
        for record in records:
            try:
                message = orjson.loads(record.value or b"")
            except orjson.JSONDecodeError:
                refused.append((record, Rejected("the message is not JSON", "not_json")))
                continue
            if problem := problem_of(topic, message, self._context.settings.partitions):
                refused.append((record, Rejected(f"no worker wrote it: {problem}", "bad_message")))
            else:
                batch.append(Delivered(message, record.timestamp, record.offset))
        if refused:
            self.refuse(topic, refused)
        return batch

    def refuse_misplaced(
        self, topic: str, records: Sequence[Any], batch: Sequence[Delivered], misplaced: set[int]
    ) -> None:
        """Makes dead letters of the events at the offsets ``misplaced``; they were not applied."""
        self.refuse(topic, [(r, MISPLACED) for r in records if r.offset in misplaced])
        lost = [type(event[0]) for event in batch if event.offset in misplaced]
        self._context.metrics.counts["events"].subtract(lost)

    def refuse(self, topic: str, refused: Refusals) -> None:
        """Makes dead letters of records, with a metric and a line in the log."""
        name = self._prefix + topic
        self._commits.add_dead_letters(
            [dead_letter(record, name, self._partition, why.reason) for record, why in refused]
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
