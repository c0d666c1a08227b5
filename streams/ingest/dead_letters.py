"""Dead letters read back, mended and sent again.

A letter's JSON (``seatflow dead-letters list --json``) is what ``resend`` reads: a value that is a
JSON object stands there as one, so that it can be edited.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from engine.domain.model import timestamp
from streams.contract.cloudevents import headers_of_event
from streams.contract.decoder import DECODERS, Rejected
from streams.contract.event_reader import event_of
from streams.contract.rejection import escape_line
from streams.contract.topics import DEAD_LETTERS, INPUT_NAMES
from streams.ingest.items import FeedError
from streams.ingest.publisher import partition_of
from streams.kafka.producers import idempotent_producer
from streams.kafka.topic_reader import (
    admin_client,
    connected,
    consumer,
    read_to_end,
    topic_partitions,
)
from streams.runtime.settings import Settings

NO_INPUT: Final = "it is of the topic {}, which is no input topic: its source sends it again"
Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter; ``topic``: where it was found, without the prefix if it is one of ours."""

    topic: str
    key: bytes | None
    value: bytes | None
    code: str | None = None  # None: from a release without codes
    reason: str = ""
    headers: Headers = field(default_factory=list)  # of a CloudEvent
    found: str = ""  # partition@offset in its topic
    place: str = ""  # partition@offset in the topic of dead letters
    at_ms: int = 0
    truncated: str | None = None

    @property
    def tenants(self) -> set[str]:
        """The tenants that the key and the value name."""
        key = (self.key or b"").decode(errors="replace").partition("/")[0]
        named = _object(self.value).get("tenant")
        return {key, named} if isinstance(named, str) else {key}


class Filter(NamedTuple):
    """The letters that are asked for; empty and 0: all of them."""

    codes: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    tenant: str = ""
    since_ms: int = 0

    def matches(self, letter: Letter) -> bool:
        """Returns True if the letter is asked for."""
        return (
            (not self.codes or letter.code in self.codes)
            and (not self.topics or letter.topic in self.topics)
            and (not self.tenant or self.tenant in letter.tenants)
            and letter.at_ms >= self.since_ms
        )


class InputRecord(NamedTuple):
    """A record to be sent; ``topic``: without the prefix."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


# --- reading


def letter_of(record: Any, prefix: str) -> Letter:
    """Returns the letter of a record of the topic of dead letters."""
    told = {name: (text or b"").decode(errors="replace") for name, text in record.headers}
    return Letter(
        topic=told.get("dlq.topic", "").removeprefix(prefix),
        key=record.key,
        value=record.value,
        code=told.get("dlq.code"),
        reason=told.get("dlq.reason", ""),
        headers=headers_of_event(record.headers),
        found=f"{told.get('dlq.partition')}@{told.get('dlq.offset')}",
        place=f"{record.partition}@{record.offset}",
        at_ms=record.timestamp,
        truncated=told.get("dlq.truncated"),
    )


async def read_letters(settings: Settings, wanted: Filter) -> AsyncIterator[Letter]:
    """Yields the letters that there are now, those of each partition in their order.

    Raises:
        WorkerError: no broker answers, or there are no topics.
    """
    async with connected(admin_client(settings), settings) as admin:
        places = await topic_partitions(admin, settings, [DEAD_LETTERS])
    async with connected(consumer(settings), settings) as reader:
        reader.assign(places)
        async for batches in read_to_end(reader, places, from_beginning=True):
            for records in batches.values():
                for record in records:
                    letter = letter_of(record, settings.topic_prefix)
                    if wanted.matches(letter):
                        yield letter


# --- as JSON


def as_json(letter: Letter) -> dict[str, Any]:
    """Returns the letter as a JSON object."""
    document: dict[str, Any] = {
        "place": letter.place,
        "at": timestamp(letter.at_ms),
        "code": letter.code,
        "reason": letter.reason,
        "topic": letter.topic,
        "found": letter.found,
        **_text("key", letter.key),
    }
    document |= {"value": body} if (body := _object(letter.value)) else _text("value", letter.value)
    if letter.headers:
        document["headers"] = {n: text.decode(errors="replace") for n, text in letter.headers}
    if letter.truncated:
        document["truncated"] = letter.truncated
    return document


def letter_from_json(line: bytes) -> Letter | str:
    """Returns the letter that a line of JSON describes, or what is wrong with the line."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"it is not JSON: {escape_line(error.msg, 200)}"
    if type(document) is not dict:
        return "it is not an object as `seatflow dead-letters list --json` prints it"
    headers = document.get("headers", {})
    if type(headers) is not dict or any(type(text) is not str for text in headers.values()):
        return "headers is not an object of texts"
    topic, truncated = document.get("topic", ""), document.get("truncated")
    if type(topic) is not str or not isinstance(truncated, str | None):
        return "topic or truncated is not a text"
    try:
        return Letter(
            topic=topic,
            key=_bytes(document, "key"),
            value=_bytes(document, "value"),
            headers=[(name, text.encode()) for name, text in headers.items()],
            truncated=truncated,
        )
    except ValueError as error:
        return str(error)


def _text(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": base64.b64encode(content).decode()}


def _bytes(document: Mapping[str, Any], name: str) -> bytes | None:
    content = document.get(name)
    if type(content) is dict:
        return orjson.dumps(content)
    if content is not None and type(content) is not str:
        raise ValueError(f"{name} is neither a text nor an object")
    encoded = document.get(f"{name}Base64")
    if content is not None or encoded is None:
        return content if content is None else content.encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError(f"{name}Base64 is not base64") from None


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return body if type(body) is dict else {}


# --- sending again


def input_record(letter: Letter, mended: bool = False) -> InputRecord | Rejected:
    """Returns the record to send for a letter, or why it would be a dead letter again.

    ``mended``: topic and key may be absent, since they follow from the event.
    """
    if letter.truncated:
        return Rejected(f"its {letter.truncated} is not here in full", letter.code or "too_large")
    if letter.topic and letter.topic not in INPUT_NAMES:
        return Rejected(NO_INPUT.format(letter.topic))
    topic, key = letter.topic, letter.key
    if mended and letter.value is not None and (not topic or key is None):
        derived = event_of(letter.value)
        if isinstance(derived, str):
            return Rejected(derived)
        topic, key = topic or derived.topic, key if key is not None else derived.key
    if not topic:
        return Rejected("nothing says of which topic it is")
    decoded = DECODERS[topic](key, letter.value, letter.headers)
    if isinstance(decoded, Rejected):
        return decoded
    assert key is not None
    assert letter.value is not None
    return InputRecord(topic, key, letter.value, letter.headers)


async def send(settings: Settings, records: Iterable[InputRecord]) -> int:
    """Sends the records in their order to their input topics; returns how many the broker has.

    Raises:
        FeedError: a topic is missing.
        WorkerError: no broker answers, or it refuses a record.
    """
    sent = []
    async with connected(idempotent_producer(settings), settings) as producer:
        metadata = await producer.client.fetch_all_metadata()
        for topic, key, value, headers in records:
            name = settings.topic_prefix + topic
            if not (partitions := metadata.partitions_for_topic(name)):
                raise FeedError(f"the topic {name} does not exist: run 'seatflow topics create'")
            where = partition_of(key, len(partitions))
            sent.append(await producer.send(name, value, key, where, headers=headers))
        await asyncio.gather(*sent)
    return len(sent)
