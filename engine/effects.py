"""What a machine wants done: rows to keep and records to publish, in one transaction."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

Row = Any
"""A JSON-able value; machines read back what they wrote, with tuples as lists."""


Record = tuple[str, int | None, str, Any]
"""A record to publish: short topic name, partition (None: the machine's own), key, value.

The value is JSON-able, or bytes that are already JSON, or None for a tombstone.
"""


class Effects:
    """Changed rows, (table, key) -> row or None, and records in the order of their making."""

    __slots__ = ("records", "rows")

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row | None] = {}
        self.records: list[Record] = []

    def emit(self, topic: str, key: str, value: Any, partition: int | None = None) -> None:
        self.records.append((topic, partition, key, value))


REMEMBERED: Final = 64
WIDTH: Final = 8


def fingerprint(kind: str, event_id: str, source: str) -> bytes:
    """Eight bytes that stand for one event of one source; equal in every process."""
    text = f"{kind}\n{event_id}\n{source}"
    return blake2b(text.encode(), digest_size=WIDTH).digest()


def remembers(seen: bytes, mark: bytes) -> bool:
    """R24: whether the event of ``mark`` is among the last ones applied to this object."""
    if mark not in seen:
        return False
    at = seen.find(mark)
    while at >= 0 and at % WIDTH:
        at = seen.find(mark, at + 1)
    return at >= 0


def remember(seen: bytes, mark: bytes) -> bytes:
    """``seen`` with ``mark``; the last 64 events of an object are known."""
    return seen[-(REMEMBERED - 1) * WIDTH :] + mark
