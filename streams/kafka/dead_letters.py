"""Dead letters: records that cannot be applied, with their origin and the reason as headers."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NamedTuple

MAX_BYTES: Final = 5 << 20
"""Key and value of a dead letter, at most. The broker takes 8 MiB, an input topic 4 MiB."""
CUT_VALUE_BYTES: Final = 64 << 10
CUT_KEY_BYTES: Final = 1 << 10


class DeadLetter(NamedTuple):
    """The record's bytes as they came; ``headers`` state topic, partition, offset and reason."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter(record: Any, topic: str, partition: int, reason: str) -> DeadLetter:
    """Returns the dead letter of a record; ``topic``: full name, ``reason``: a sentence.

    A record that no topic would take is cut: ``dlq.truncated`` names what was cut, ``dlq.size`` and
    ``dlq.sha256`` are of the whole value.
    """
    headers = {
        "dlq.topic": topic,
        "dlq.partition": str(partition),
        "dlq.offset": str(record.offset),
        "dlq.reason": " ".join(reason.split()),
    }
    key, value = record.key, record.value
    if len(key or b"") + len(value or b"") > MAX_BYTES:
        key, value, cut = _cut(key, value)
        headers |= {
            "dlq.size": str(len(record.value or b"")),
            "dlq.sha256": sha256(record.value or b"").hexdigest(),
            "dlq.truncated": cut,
        }
    return DeadLetter(key, value, [(name, text.encode()) for name, text in headers.items()])


def _cut(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None, str]:
    if len(key or b"") <= CUT_KEY_BYTES:
        return key, (value or b"")[:CUT_VALUE_BYTES], "value"
    return (key or b"")[:CUT_KEY_BYTES], value and value[:CUT_VALUE_BYTES], "key and value"
