"""Dead letters: records that cannot be applied, with their origin and the reason as headers."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NamedTuple

from streams.contract.cloudevents import headers_of_event
from streams.contract.rejection import Rejected

MAX_BYTES: Final = 5 << 20
"""Key and value of a dead letter, at most. The broker takes 8 MiB, an input topic 4 MiB."""
CUT_VALUE_BYTES: Final = 64 << 10
CUT_KEY_BYTES: Final = 1 << 10
MAX_HEADER_BYTES: Final = 64 << 10
"""The headers of a CloudEvent, at most; together they are left out."""


class DeadLetter(NamedTuple):
    """The record's bytes as they came; ``headers`` state where it was found, code and reason.

    The headers of a CloudEvent in binary mode follow: without them the value alone is no event.
    """

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter(record: Any, topic: str, partition: int, offset: int, why: Rejected) -> DeadLetter:
    """Returns the dead letter of a record that was found at this place; ``topic``: full name.

    A record that no topic would take is cut: ``dlq.truncated`` names what was cut, ``dlq.size`` and
    ``dlq.sha256`` are of the whole value.
    """
    headers = {
        "dlq.topic": topic,
        "dlq.partition": str(partition),
        "dlq.offset": str(offset),
        "dlq.code": why.kind,
        "dlq.reason": " ".join(why.reason.split()),
    }
    key, value, cut = record.key, record.value, list[str]()
    if len(key or b"") + len(value or b"") > MAX_BYTES:
        key, value, cut = _cut(key, value)
    of_event = headers_of_event(record.headers or ())
    if sum(len(name) + len(text) for name, text in of_event) > MAX_HEADER_BYTES:
        of_event, cut = [], [*cut, "headers"]
    if cut:
        headers |= {
            "dlq.size": str(len(record.value or b"")),
            "dlq.sha256": sha256(record.value or b"").hexdigest(),
            "dlq.truncated": " and ".join(cut),
        }
    ours = [(name, text.encode()) for name, text in headers.items()]
    return DeadLetter(key, value, ours + of_event)


def _cut(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None, list[str]]:
    if len(key or b"") <= CUT_KEY_BYTES:
        return key, (value or b"")[:CUT_VALUE_BYTES], ["value"]
    return (key or b"")[:CUT_KEY_BYTES], value and value[:CUT_VALUE_BYTES], ["key", "value"]
