"""The rows of a changelog as bytes: their keys, the last value of each, and back into a machine.

A row's key is ``table|key``; the table's name has no ``|``. A restore goes through all of them, so
this is on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from orjson import loads

APPLIED: Final = b"applied|offsets"
"""The key of the delivery layer's row: the applied offset of each topic."""
ATTEMPTED: Final = ("attempted", "offsets")
"""Table and key of its other row: the applied offsets at the last opening that found a backlog."""

Values = dict[bytes, bytes]
"""Row key -> its last value."""


def row_key(table: str, key: str) -> bytes:
    """Returns the key of a row's record."""
    return f"{table}|{key}".encode()


def fold_records(values: Values, records: Iterable[Any]) -> int:
    """Applies the records of the log to the rows; returns the number of records."""
    count = 0
    for record in records:
        count += 1
        key, value = record.key, record.value
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    return count


def load_rows(
    into: Callable[[str, str, Any], None], names: Sequence[bytes], values: Values
) -> None:
    """Passes the rows of these names to ``into`` and removes them from ``values``."""
    for name in names:
        table, _, key = name.decode().partition("|")
        into(table, key, loads(values.pop(name)))
