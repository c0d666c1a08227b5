"""Dead letters in the console: one is read from its topic, mended, and sent again as a command.

What can be sent again is decided by ``streams.ingest.dead_letters``, as for the command line. The
event keeps its id, so the workers recognize it if it has been sent before (R24).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from aiokafka import TopicPartition, errors

from engine.domain.events import MembershipAdded
from streams.console.commands.definitions import (
    DIRECTORY_MANAGEMENT,
    EVENT_TYPE_OF,
    TARGET_TYPES,
    WITH_RESULT,
    Command,
    EncodedRecord,
    encode_audit,
    utc_now,
)
from streams.contract.decoder import DECODERS
from streams.contract.rejection import Rejected
from streams.contract.topics import DEAD_LETTERS
from streams.ingest.dead_letters import InputRecord, Letter, input_record, letter_of
from streams.kafka.topic_reader import connected, consumer
from streams.runtime.errors import TEMPORARY, WorkerError
from streams.runtime.settings import Settings

ACTIVITY = "Request resending of a dead letter"
FETCH_MS = 5_000


@dataclass(slots=True)
class LetterReader:
    """Reads single letters from the topic of dead letters."""

    settings: Settings

    async def read(self, place: str) -> Letter | None:
        """Returns the letter at ``partition@offset``; None if the topic does not keep it any more.

        Raises: WorkerError, if the broker does not answer.
        """
        number, _, offset = place.partition("@")
        at = TopicPartition(self.settings.topic_prefix + DEAD_LETTERS, int(number))
        try:
            async with connected(consumer(self.settings), self.settings) as reader:
                reader.assign([at])
                begins = (await reader.beginning_offsets([at]))[at]
                ends = (await reader.end_offsets([at]))[at]
                if not begins <= int(offset) < ends:
                    return None
                reader.seek(at, int(offset))
                found = await reader.getmany(at, timeout_ms=FETCH_MS, max_records=1)
        except (errors.KafkaError, OSError) as error:
            raise WorkerError(f"the broker did not answer: {error!r}", TEMPORARY) from None
        for record in found.get(at, ()):
            if record.offset == int(offset):
                return letter_of(record, self.settings.topic_prefix)
        return None


class Resending(NamedTuple):
    """An event that is to be sent again. ``tenant``: empty for a product's definition."""

    id: str
    tenant: str
    subject: str
    type: str
    has_result: bool
    record: InputRecord
    command: Command

    def event(self) -> EncodedRecord:
        """Returns the record to be sent."""
        topic, key, value, headers = self.record
        return EncodedRecord(topic, key.decode(), value, tuple(headers))

    def audit(self, initiated_by: str) -> list[EncodedRecord]:
        """Returns its audit record; none for what the audit has no target for."""
        if not self.tenant or self.command.event_type.subject not in TARGET_TYPES:
            return []
        return [encode_audit(self.command, self.tenant, self.id, utc_now(), initiated_by)]


def resending(letter: Letter, value: str, key: str) -> Resending | str:
    """Returns the mended letter as an event to be sent, or the reason why it cannot be.

    ``key``: empty for the key that follows from the value.
    """
    mended = replace(
        letter, value=value.encode(), key=key.encode() if key else None, truncated=None
    )
    record = input_record(mended, mended=True)
    if isinstance(record, Rejected):
        return record.reason
    decoded = DECODERS[record.topic](record.key, record.value, record.headers)
    assert isinstance(decoded, tuple)
    fact: Any = decoded[0]
    kind = EVENT_TYPE_OF.get(type(fact), EVENT_TYPE_OF[MembershipAdded])
    subject = fact.sku if kind.subject == "skuId" else getattr(fact, kind.subject)
    change = {"name": "deadLetter", "oldValue": letter.place, "newValue": None}
    command = Command(kind, subject, ACTIVITY, DIRECTORY_MANAGEMENT, {}, (change,))
    tenant = getattr(fact, "tenant", "")
    return Resending(fact.id, tenant, subject, kind.name, kind.fact in WITH_RESULT, record, command)
