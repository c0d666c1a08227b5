"""Dead letters: records that cannot be read, with their origin and the reason as headers."""

from __future__ import annotations

from typing import Any, NamedTuple


class DeadLetter(NamedTuple):
    """The record's bytes as they came; ``headers`` state topic, partition, offset and reason."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def dead_letter(record: Any, topic: str, partition: int, reason: str) -> DeadLetter:
    """Returns the dead letter of a record; ``topic``: full name, ``reason``: a sentence."""
    headers = {
        "dlq.topic": topic,
        "dlq.partition": str(partition),
        "dlq.offset": str(record.offset),
        "dlq.reason": " ".join(reason.split()),
    }
    return DeadLetter(
        record.key, record.value, [(name, text.encode()) for name, text in headers.items()]
    )
