"""Lists of the read model: filters, order and pages by cursor; the same for API, pages and CSV.

A page begins after the last row of the one before, by the sorted value and the row's key (never by
counting), so rows that come and go meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import orjson

from streams.runtime.csv_cells import text_cell
from streams.runtime.errors import SenderError

Row = sqlite3.Row
GraphObject = dict[str, Any]
MOST = 999
CSV_PAGE = 2_000
CSV_PART_LINES = 500


class BadRequestError(SenderError):
    """Raised for a parameter that cannot be used. The message says which and what is allowed."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: its SQL condition, with a ? for each use of the value, and the value's parser.

    ``?1`` in it is the first of the list's fixed arguments, the tenant.
    """

    where: str
    value: Callable[[str], Any] = str

    @property
    def uses(self) -> int:
        """The number of uses of the value."""
        return self.where.replace("?1", "").count("?")


@dataclass(frozen=True, slots=True)
class Listing:
    """A list. ``query`` ends in a WHERE that takes the fixed arguments; ``key`` makes a row unique.

    ``sorts``: name in ``$orderby`` -> SQL that is never NULL. The first one is the default.
    """

    query: str
    key: tuple[str, ...]
    sorts: Mapping[str, str]
    filters: Mapping[str, Filter]
    show: Callable[[Row], GraphObject]
    columns: tuple[str, ...]
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the cursor of the next page; None after the last one."""

    rows: list[GraphObject]
    next: str | None


def yes_or_no(text: str) -> bool:
    """Returns a boolean parameter. Raises: BadRequestError."""
    if text not in ("true", "false"):
        raise BadRequestError(f"{text!r} is neither true nor false")
    return text == "true"


def contains(text: str) -> str:
    """Returns the LIKE pattern for text that contains this one, in any case. Raises: ValueError."""
    if "\0" in text:
        raise ValueError("it must not contain the character NUL")
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text.lower()}%"


def page(
    db: sqlite3.Connection,
    listing: Listing,
    fixed: tuple[Any, ...],
    given: Mapping[str, str],
    top: int,
    cursor: str | None = None,
    order: str | None = None,
) -> Page:
    """Returns ``top`` rows after the cursor. Raises: BadRequestError."""
    if not 1 <= top <= MOST:
        raise BadRequestError(f"$top is {top}; it must be from 1 to {MOST}")
    return _page(db, listing, fixed, given, top, cursor, order)


def _page(
    db: sqlite3.Connection,
    listing: Listing,
    fixed: tuple[Any, ...],
    given: Mapping[str, str],
    top: int,
    cursor: str | None,
    order: str | None,
) -> Page:
    name, descending = _order(listing, order)
    where, arguments = conditions(listing, given)
    places = [listing.sorts[name], *listing.key]
    direction = "DESC" if descending else "ASC"
    if cursor:
        after = _decode(cursor, name, descending, len(places))
        sign = "<" if descending else ">"
        where += f" AND ({', '.join(places)}) {sign} ({', '.join('?' * len(places))})"
        arguments += after
    sql = (
        f"SELECT {listing.sorts[name]} AS _sort, {listing.query}{where}"
        f" ORDER BY {', '.join(f'{place} {direction}' for place in places)} LIMIT ?"
    )
    found = db.execute(sql, (*fixed, *arguments, top + 1)).fetchall()
    following = None
    if len(found) > top:
        last = found[top - 1]
        keys = [last["_sort"], *(last[_column(k)] for k in listing.key)]
        following = _encode([name, descending, *keys])
    return Page([listing.show(row) for row in found[:top]], following)


def _column(key: str) -> str:
    return key.rpartition(".")[2]


def _order(listing: Listing, order: str | None) -> tuple[str, bool]:
    if not order:
        return next(iter(listing.sorts)), listing.descending
    name, _, direction = order.strip().partition(" ")
    if name not in listing.sorts or direction not in ("", "asc", "desc"):
        allowed = ", ".join(listing.sorts)
        raise BadRequestError(
            f"$orderby is {order!r}; it must be one of {allowed}, then asc or desc"
        )
    return name, direction == "desc"


def conditions(listing: Listing, given: Mapping[str, str]) -> tuple[str, list[Any]]:
    """Returns the filters as SQL and its arguments. Raises: BadRequestError."""
    where, arguments = "", []
    for name, text in given.items():
        found = listing.filters[name]
        try:
            value = found.value(text)
        except (ValueError, BadRequestError) as error:
            raise BadRequestError(f"{name}: {error}") from None
        where += f" AND {found.where}"
        arguments += [value] * found.uses
    return where, arguments


def count(
    db: sqlite3.Connection, listing: Listing, fixed: tuple[Any, ...], given: Mapping[str, str]
) -> int:
    """Returns the number of rows of a list."""
    where, arguments = conditions(listing, given)
    tables = listing.query[listing.query.index(" FROM ") :]
    row = db.execute(f"SELECT count(*){tables}{where}", (*fixed, *arguments)).fetchone()
    return int(row[0])


def _encode(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _decode(cursor: str, name: str, descending: bool, places: int) -> list[Any]:
    try:
        place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        ours = place[:2] == [name, descending] and len(place) == places + 2
        if ours and all(map(_is_place, place[2:])):
            return list(place[2:])
    except (ValueError, TypeError, KeyError, binascii.Error):
        pass
    raise BadRequestError("$skiptoken is not one that this list gave for this order")


def _is_place(value: Any) -> bool:
    """Returns True for a value that SQLite compares; its whole numbers have 64 bits."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return isinstance(value, (str, float))


def every(
    reading: Callable[[], sqlite3.Connection],
    listing: Listing,
    fixed: tuple[Any, ...],
    given: Mapping[str, str],
    order: str | None = None,
) -> Iterator[GraphObject]:
    """Yields all rows, page by page; each page may be read in another thread."""
    cursor: str | None = None
    while True:
        found = _page(reading(), listing, fixed, given, CSV_PAGE, cursor, order)
        yield from found.rows
        cursor = found.next
        if cursor is None:
            return


def csv_lines(columns: Sequence[str], rows: Iterator[GraphObject]) -> Iterator[str]:
    """Yields rows as RFC 4180 lines, with a header.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    line = io.StringIO()
    writer = csv.writer(line)
    for cells in chain([columns], ([_cell(row.get(c)) for c in columns] for row in rows)):
        writer.writerow(cells)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def csv_parts(columns: Sequence[str], rows: Iterator[GraphObject]) -> Iterator[str]:
    """Yields the lines of a CSV file in parts: a response takes a thread for each of them."""
    lines = csv_lines(columns, rows)
    while part := "".join(islice(lines, CSV_PART_LINES)):
        yield part


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, int)):
        return orjson.dumps(value).decode()
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text_cell(text)
