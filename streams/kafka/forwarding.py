"""Forwarded events (R29): records of input topics on their way to the partition of their key.

The record goes unchanged to ``internal.forwarded-events``: key, value, and the headers that the
decoder reads. One more header tells where it was found. Its timestamp there is in that header, too:
the record has the time of its forwarding, or retention could delete it before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from engine.domain.model import FIRST_TIMESTAMP_MS, LAST_TIMESTAMP_MS
from engine.state.formats import MESSAGE_FORMAT, check_message_format
from streams.contract.cloudevents import headers_of_event
from streams.contract.topics import FORWARDED_EVENTS, INPUT_NAMES

ORIGIN: Final = "seatflow-origin"
"""The header with the format, and where the record was found; field order is that of ``Origin``."""


class Origin(NamedTuple):
    """The place of a record in its input topic (short name), and its timestamp there."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Forward(NamedTuple):
    """A record for ``internal.forwarded-events``."""

    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class ForwardedRecord(NamedTuple):
    """A forwarded record as it was in its input topic, for the decoder of that topic."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int
    offset: int
    origin: Origin


def forward(
    record: Any, topic: str, partition: int, partition_of: Callable[[bytes], int]
) -> Forward:
    """Returns the record to send for one that was found on a wrong partition.

    Args:
        record: a well-formed event of an input topic.
        topic: its topic (short name).
        partition: where it was found.
        partition_of: the partition of a key.
    """
    found = (MESSAGE_FORMAT, topic, partition, record.offset, record.timestamp)
    headers = [(ORIGIN, orjson.dumps(found))]
    if record.headers:
        headers += headers_of_event(record.headers)
    return Forward(partition_of(record.key), record.key, record.value, headers)


def received(record: Any) -> ForwardedRecord | str:
    """Returns the record as it was in its input topic, or why no worker can have written this.

    Raises:
        NewerFormatError: a later release has written it.
    """
    origin: Origin | None = None
    others = []
    for name, value in record.headers or ():
        if name == ORIGIN and origin is None:
            decoded = _origin(value)
            if type(decoded) is str:
                return decoded
            origin = decoded
        else:
            others.append((name, value))
    if origin is None:
        return f"it has no header {ORIGIN}"
    return ForwardedRecord(
        record.key, record.value, others, origin.timestamp_ms, origin.offset, origin
    )


def _origin(value: bytes | None) -> Any:
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return f"the header {ORIGIN} is not JSON"
    if type(found) is not list or not found or type(found[0]) is not int or found[0] < 1:
        return f"the header {ORIGIN} has no format"
    check_message_format(found[0], FORWARDED_EVENTS)
    if [type(field) for field in found[1:]] != [str, int, int, int]:
        return f"the header {ORIGIN} is not topic, partition, offset and timestamp"
    origin = Origin(*found[1:])
    if origin.topic not in INPUT_NAMES:
        return f"the header {ORIGIN} names no input topic"
    if not FIRST_TIMESTAMP_MS <= origin.timestamp_ms <= LAST_TIMESTAMP_MS:
        return f"the header {ORIGIN} has a timestamp of no calendar"
    if origin.partition < 0 or not 0 <= origin.offset < 1 << 63:
        return f"the header {ORIGIN} has no place in a log"
    return origin
