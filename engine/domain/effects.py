"""The effects of handling events: rows to write and records to publish, in one transaction."""

from __future__ import annotations

import json
from typing import Any

Row = Any
"""A JSON-able value, or bytes that are already JSON; machines read it back with tuples as lists."""


def as_json(row: Row) -> str:
    """Returns the row as JSON text."""
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
        """Appends a record; ``partition`` None is the partition of the machine."""
        self.records.append((topic, partition, key, value))
