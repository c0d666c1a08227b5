"""Recognizes a file that is of another format than its command reads, and names the right one.

Looks at the first bytes only, and judges only what cannot be of the wanted format: a file with a
single bad row is read, and its row is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from streams.contract.event_types import topics_of
from streams.ingest.items import FeedError

HEAD_BYTES = 8192
JSONL, CSV, CATALOG = "jsonl", "csv", "catalog"
TABLES = (CSV, CATALOG)

_EXCEL = 'an Excel workbook: save it as "CSV UTF-8" in Excel, then `seatflow feed csv`'
_UNPACK = "unpack it first, say with `{tool} FILE | seatflow feed {format} … -`"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0", _EXCEL),
    (b"\x1f\x8b", "compressed with gzip: " + _UNPACK.replace("{tool}", "gunzip -c")),
    (b"BZh", "compressed with bzip2: " + _UNPACK.replace("{tool}", "bunzip2 -c")),
    (b"\xfd7zXZ\x00", "compressed with xz: " + _UNPACK.replace("{tool}", "xz -dc")),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: " + _UNPACK.replace("{tool}", "zstd -dc")),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"PAR1", "a Parquet file: export it as JSON Lines or CSV"),
    (b"Obj\x01", "an Avro file: export it as JSON Lines or CSV"),
    (b"%PDF", "a PDF: export the table as CSV"),
    (b"SQLite format 3\x00", "an SQLite database: export its table as CSV"),
)
_ARRAY = (
    "one JSON array; this command reads JSON Lines, one event on each line: convert it with"
    " `jq -c '.[]' FILE`"
)
_SPREAD = (
    "JSON that goes on over several lines; this command reads JSON Lines, one event on each line:"
    " convert it with `jq -c . FILE`"
)
_TABLE = "a CSV table: use `seatflow feed csv FILE --tenant ID`"
_PRODUCTS = "Microsoft's table of products: use `seatflow feed catalog FILE`"
_EVENTS = "JSON Lines of events: use `seatflow feed jsonl FILE`"
_GRAPH = "a response of Microsoft Graph: use `seatflow feed graph FILE --tenant ID`"
_SCIM = "SCIM: use `seatflow feed scim FILE --tenant ID`"
_DEBEZIUM = "Debezium's change events: use `seatflow feed debezium FILE --map TOML`"


def check_format(head: bytes, wanted: str, name: str) -> None:
    """Raises FeedError if a file that begins with ``head`` is of another format than ``wanted``.

    ``wanted``: the subcommand of `seatflow feed` that reads it. ``head``: in UTF-8, if it is text.
    """
    if found := other_format(head, wanted):
        raise FeedError(f"{name} is {found}")


def other_format(head: bytes, wanted: str) -> str | None:
    """Returns what a file is instead of ``wanted``, with the remedy; None if it may be that."""
    return _binary(head, wanted) or _text(head.decode(errors="replace"), wanted)


def _binary(head: bytes, wanted: str) -> str | None:
    if head.startswith(b"PK\x03\x04"):
        is_workbook = b"xl/" in head or b"[Content_Types].xml" in head or b"spreadsheet" in head
        return _EXCEL if is_workbook else "a ZIP archive: unpack it first"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what.replace("{format}", wanted)
    if b"\x00" in head and not head.lstrip().startswith((b"{", b"[")):
        return "a binary file, not text"
    return None


def _text(text: str, wanted: str) -> str | None:
    text = text.removeprefix("\ufeff").lstrip()
    start = text[:64].lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page, perhaps the login page of the site that it was downloaded from"
    if start.startswith("<"):
        return "XML; export it as JSON or CSV"
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    if start.startswith(("{", "[")):
        found = _json(text, lines, wanted)
        return found or ("JSON, not a CSV table" if wanted in TABLES else None)
    return _table(lines, wanted)


def _json(text: str, lines: Sequence[str], wanted: str) -> str | None:
    """Returns what JSON is that the command does not read."""
    if wanted not in (JSONL, *TABLES):
        return None
    document = _loaded(lines[0])
    known = _known(document, lines[0] if isinstance(document, dict) else text)
    if known not in (None, _EVENTS):
        return known
    if text.startswith("["):
        return _ARRAY if wanted == JSONL and text[1:].lstrip().startswith("{") else None
    if wanted == JSONL:
        return _SPREAD if document is None and lines[0].strip() == "{" else None
    return known


def _known(document: Any, text: str) -> str | None:
    """Returns the format of a JSON object by its members, or by its first characters."""
    members = document if isinstance(document, dict) else {}
    if isinstance(members.get("type"), str) and topics_of(members["type"]):
        return _EVENTS
    if "specversion" in members:
        return _EVENTS
    if '"@odata.context"' in text or '"@odata.type"' in text:
        return _GRAPH
    if "urn:ietf:params:scim:" in text:
        return _SCIM
    if "op" in members and ("before" in members or "after" in members):
        return _DEBEZIUM
    payload = members.get("payload")
    return _DEBEZIUM if isinstance(payload, dict) and "op" in payload else None


def _table(lines: Sequence[str], wanted: str) -> str | None:
    """Returns what a table is that the command does not read."""
    header = lines[0].lower()
    is_products = "service_plan_id" in header or "product_display_name" in header
    if is_products:
        return None if wanted == CATALOG else _PRODUCTS
    if wanted in TABLES or len(lines) < 2:
        return None
    # A single bad line is no table: the first two lines have the same cells.
    cells = [[line.count(each) for each in ",;\t"] for line in lines[:2]]
    is_table = any(cells[0]) and cells[0] == cells[1]
    return _TABLE if is_table and not lines[1].lstrip().startswith(("{", "[")) else None


def _loaded(line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
