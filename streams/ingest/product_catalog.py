"""Microsoft's CSV of products and service plans ("Product names and service plan identifiers").

One row per product and plan. The published files vary: with and without a byte order mark, in UTF-8
or a Windows code page, with ``???`` before the first column's name, stray spaces (also no-break
spaces), and plans listed twice. All of these are accepted.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from streams.catalog import product_defined
from streams.contract.decoder import DECODERS, Rejected
from streams.ingest.items import FeedError, FeedItem, FeedProblem

_COLUMNS = ("productdisplayname", "stringid", "guid", "serviceplanname", "serviceplanid")
_COLUMN_NAMES = "Product_Display_Name, String_Id, GUID, Service_Plan_Name, Service_Plan_Id"


@dataclass(slots=True)
class _Product:
    line: int
    part_number: str
    display_name: str
    plans: dict[str, str] = field(default_factory=dict)


def events_from_catalog(path: str | Path) -> CatalogFeed:
    """Returns a feed of one ``product.defined`` per product, ordered by part number.

    Raises: FeedError, if the file is not Microsoft's table.
    """
    return CatalogFeed(path)


class CatalogFeed:
    """The events of the table, which is read whole (about 1 MB): a product's rows may be apart."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise FeedError(f"{self.name} cannot be read: {error.strerror}") from None
        self.total_bytes: int | None = len(data)
        self.done_bytes = 0
        self._problems: list[FeedProblem] = []
        self._products = self._parse(_text(data))
        self._items = self._read()

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]:
        return self

    def __next__(self) -> FeedItem | FeedProblem:
        return next(self._items)

    def _parse(self, text: str) -> dict[str, _Product]:
        rows = csv.reader(io.StringIO(text, newline=""))
        columns = _header(next(rows, []), self.name)
        products: dict[str, _Product] = {}
        for row in rows:
            cells = [_clean(cell) for cell in row]
            if any(cells):
                self._add(products, rows.line_num, cells, columns)
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
        event = product_defined(sku, product.part_number, name, product.plans.items())
        item = FeedItem("catalog", sku.encode(), orjson.dumps(event))
        decoded = DECODERS[item.topic](item.key, item.value, None)
        if isinstance(decoded, Rejected):
            return FeedProblem(self.name, product.line, decoded.reason)
        return item


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older tables were saved by Excel; cp1252 leaves five bytes undefined, which are replaced.
        return data.decode("cp1252", errors="replace")


def _clean(cell: str) -> str:
    """Returns the cell without surrounding white space, no-break spaces or zero-width marks."""
    return cell.strip().strip("\ufeff\u200b").strip()


def _header(row: list[str], file: str) -> dict[str, int]:
    columns = {re.sub(r"[^a-z]", "", cell.lower()): at for at, cell in enumerate(row)}
    missing = [column for column in _COLUMNS if column not in columns]
    if missing:
        raise FeedError(
            f"{file} is not Microsoft's product table: its first line must name the columns "
            f"{_COLUMN_NAMES}"
        )
    return {column: columns[column] for column in _COLUMNS}
