"""Microsoft's CSV of products and service plans ("Product names and service plan identifiers").

One row per product and plan, and one line per row. The published files vary, and spreadsheets vary
them further: with and without a byte order mark, in UTF-8, UTF-16 or a Windows code page, separated
by commas, semicolons or tabs, with a line ``sep=;``, with ``???`` before the first column's name,
stray spaces (also no-break spaces), and plans listed twice. All of these are accepted.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import orjson

from streams.catalog import DEFAULT_EDITION, product_defined
from streams.contract.decoder import DECODERS, Rejected
from streams.ingest.file_formats import CATALOG, HEAD_BYTES, check_format
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import wide_encoding

_COLUMNS = ("productdisplayname", "stringid", "guid", "serviceplanname", "serviceplanid")
_COLUMN_NAMES = "Product_Display_Name, String_Id, GUID, Service_Plan_Name, Service_Plan_Id"
_OPEN_QUOTE = "unexpected end of data"


@dataclass(slots=True)
class _Product:
    line: int
    part_number: str
    display_name: str
    plans: dict[str, str] = field(default_factory=dict)


def events_from_catalog(path: str | Path, facts: str = DEFAULT_EDITION) -> CatalogFeed:
    """Returns a feed of one ``product.defined`` per product, ordered by part number.

    ``facts``: the edition of the facts about plans.
    Raises: FeedError, if the file is not Microsoft's table.
    """
    return CatalogFeed(path, facts)


class CatalogFeed:
    """The events of the table, which is read whole (about 1 MB): a product's rows may be apart.

    ``warnings``: what is accepted, and yet is probably wrong.
    """

    problems_come_first = True

    def __init__(self, path: str | Path, facts: str = DEFAULT_EDITION) -> None:
        self._facts = facts
        self.name = "standard input" if str(path) == "-" else str(path)
        try:
            data = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        except OSError as error:
            raise FeedError(f"{self.name} cannot be read: {error.strerror}") from None
        self.total_bytes: int | None = len(data)
        self.done_bytes = 0
        self._problems: list[FeedProblem] = []
        self._products = self._parse(_text(data, self.name))
        self.warnings = _fill_series(self._products)
        self._items = self._read()

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]:
        return self

    def __next__(self) -> FeedItem | FeedProblem:
        return next(self._items)

    def _parse(self, text: str) -> dict[str, _Product]:
        lines = list(enumerate(re.split(r"\r\n|\r|\n", text), start=1))
        delimiter, lines = _delimiter(lines)
        columns = _header(_cells(lines[0][1], delimiter) if lines else [], self.name)
        products: dict[str, _Product] = {}
        for line, row in lines[1:]:
            cells = _cells(row, delimiter)
            if isinstance(cells, str):
                self._problems.append(FeedProblem(self.name, line, cells))
                # The cells before the open quote are complete: the product keeps the plan.
                cells = _cells(row + '"', delimiter)
                if isinstance(cells, str) or len(cells) - 1 <= max(columns.values()):
                    continue
            if any(cells):
                self._add(products, line, cells, columns)
        return products

    def _add(
        self,
        products: dict[str, _Product],
        line: int,
        cells: list[str],
        columns: dict[str, int],
    ) -> None:
        if len(cells) <= max(columns.values()):
            reason = f"the row has {len(cells)} cells, fewer than the header"
            self._problems.append(FeedProblem(self.name, line, reason))
            return
        get = {column: cells[at] for column, at in columns.items()}
        # Graph writes ids in lower case; upper case in the table must not define a second product.
        sku, plan = get["guid"].lower(), get["serviceplanid"].lower()
        if not sku or not plan:
            reason = f"{'GUID' if not sku else 'Service_Plan_Id'} is empty"
            self._problems.append(FeedProblem(self.name, line, reason))
            return
        product = products.setdefault(
            sku, _Product(line, get["stringid"] or sku, get["productdisplayname"])
        )
        # A plan that is listed twice keeps its position and takes the later name.
        product.plans[plan] = get["serviceplanname"] or plan

    def _read(self) -> Iterator[FeedItem | FeedProblem]:
        yield from self._problems
        in_order = sorted(self._products.items(), key=lambda each: (each[1].part_number, each[0]))
        for count, (sku, product) in enumerate(in_order, start=1):
            yield self._item(sku, product)
            self.done_bytes = (self.total_bytes or 0) * count // len(in_order)

    def _item(self, sku: str, product: _Product) -> FeedItem | FeedProblem:
        name = product.display_name or product.part_number
        event = product_defined(
            sku, product.part_number, name, product.plans.items(), edition=self._facts
        )
        item = FeedItem("catalog", sku.encode(), orjson.dumps(event))
        decoded = DECODERS[item.topic](item.key, item.value, None)
        if isinstance(decoded, Rejected):
            return FeedProblem(self.name, product.line, decoded.reason)
        return item


def _text(data: bytes, name: str) -> str:
    encoding = wide_encoding(data[:4])
    if not data.strip():
        raise FeedError(f"{name} is empty")
    if not encoding:
        check_format(data[:HEAD_BYTES], CATALOG, name)
    try:
        return data.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError:
        if encoding:
            raise FeedError(f"{name} looks like {encoding.upper()} but is not") from None
        # Older tables were saved by Excel; cp1252 leaves five bytes undefined, which are replaced.
        return data.decode("cp1252", errors="replace")


def _delimiter(lines: list[tuple[int, str]]) -> tuple[str, list[tuple[int, str]]]:
    """Returns the separator of cells, and the lines from the header on.

    A spreadsheet writes the separator of its country, and may name it in a first line ``sep=;``.
    """
    while lines and not lines[0][1].strip("\ufeff\u200b \t,;"):
        lines = lines[1:]
    if not lines:
        return ",", []
    first = lines[0][1].strip("\ufeff ")
    if named := re.fullmatch(r'"?sep=(.)"?[,;\t]*', first, re.IGNORECASE):
        return named[1], lines[1:]
    return max(",;\t", key=first.count), lines


def _cells(row: str, delimiter: str) -> list[str] | str:
    """Returns the cells of one line, or the reason why it is no row.

    Each line is read by itself, so that an open quote does not swallow the lines after it.
    """
    try:
        found = next(csv.reader([row], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        if str(error) == _OPEN_QUOTE:
            return "a quotation mark is not closed on this line: close or remove it"
        try:
            found = next(csv.reader([row], delimiter=delimiter), [])
        except csv.Error as other:
            return f"not CSV: {other}"
    return [_clean(cell) for cell in found]


def _fill_series(products: dict[str, _Product]) -> list[str]:
    """Returns a warning for each product whose GUID a spreadsheet counted up, row by row."""
    found: dict[str, list[str]] = {}
    for sku, product in products.items():
        if _number(sku) is not None:
            found.setdefault(product.part_number, []).append(sku)
    warnings = []
    for part_number, skus in found.items():
        numbers = sorted(number for sku in skus if (number := _number(sku)) is not None)
        counted = sum(after - before == 1 for before, after in pairwise(numbers))
        if counted:
            lines = ", ".join(str(products[sku].line) for sku in skus[:4])
            warnings.append(
                f"{part_number} has {len(skus)} GUIDs that count up by one (lines {lines}), as if"
                " a cell had been dragged in a spreadsheet: each became a product of its own"
            )
    return warnings


def _number(sku: str) -> int | None:
    digits = sku.replace("-", "")
    return int(digits, 16) if re.fullmatch(r"[0-9a-f]{32}", digits) else None


def _clean(cell: str) -> str:
    """Returns the cell without surrounding white space, no-break spaces or zero-width marks."""
    return cell.strip().strip("\ufeff\u200b").strip()


def _header(row: list[str] | str, file: str) -> dict[str, int]:
    cells = [] if isinstance(row, str) else row
    columns = {re.sub(r"[^a-z]", "", cell.lower()): at for at, cell in enumerate(cells)}
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise FeedError(
            f"{file} is not Microsoft's product table: its first line must name the columns "
            f"{_COLUMN_NAMES}"
        )
    return {column: columns[column] for column in _COLUMNS}
