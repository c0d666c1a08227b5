"""What a machine wants done: rows to keep and records to publish, in one transaction."""

from __future__ import annotations

import json
from typing import Any, Final

from engine.native import short_cut

Row = Any
"""A JSON-able value, or bytes that are already JSON; machines read it back with tuples as lists."""


def as_json(row: Row) -> str:
    return row.decode() if isinstance(row, bytes) else json.dumps(row)


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
# A prime of 64 bits without a pattern: the first digits of pi, and on to the next prime.
PRIME: Final = 0xC90FDAA22168C241

_marks: Final = short_cut("engine.native.deduplication")
if _marks is not None:
    _marks.configure(PRIME, WIDTH, REMEMBERED)


def mark_of(kind: str, event_id: str, source: str) -> bytes:
    """Eight bytes that stand for one event of one source, equal in every process: what is left of
    its text, as a number, when divided by a prime (Karp and Rabin)."""
    text = f"{kind}\n{event_id}\n{source}"
    return (int.from_bytes(text.encode(), "big") % PRIME).to_bytes(WIDTH, "big")


def remember(seen: bytes, kind: str, event_id: str, source: str) -> bytes | None:
    """R24: ``seen`` with the event, or None if it is among the last 64 applied to this object."""
    if _marks is not None:
        remembered = _marks.remember(seen, kind, event_id, source)
        if remembered is not NotImplemented:
            return remembered  # type: ignore[no-any-return]
    mark = mark_of(kind, event_id, source)
    at = seen.find(mark)
    while at >= 0 and at % WIDTH:
        at = seen.find(mark, at + 1)
    return None if at >= 0 else seen[-(REMEMBERED - 1) * WIDTH :] + mark
