"""CSV: the bulk templates of Entra (``version:v1.0``), its exports, and plain tables of users.

A column is known by the ``[property]`` in its name, which all versions of the templates have, or by
its name; unknown columns are left alone. A row that cannot be read is told, and the next one read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from streams.ingest.event_builder import Made, Maker, user_id
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import FeedFile, FileFeed

LONGEST_CELL = 1 << 20
ROWS_A_LOOK = 256

# Names of columns, without case and signs, and what they are to us.
_COLUMNS = {
    "id": "id",
    "objectid": "id",
    "userid": "id",
    "userprincipalname": "userPrincipalName",
    "username": "userPrincipalName",
    "upn": "userPrincipalName",
    "memberobjectidorupn": "member",
    "displayname": "displayName",
    "usagelocation": "usageLocation",
    "mail": "mail",
    "proxyaddresses": "proxyAddresses",
    "group": "groups",
    "groups": "groups",
    "groupid": "groups",
    "objecttype": "type",
    "membertype": "type",
}
_ATTRIBUTES = ("userPrincipalName", "displayName", "usageLocation", "mail")
_NAMES_A_USER = ("id", "userPrincipalName", "member")


def events_from_csv(
    path: str | Path,
    tenant: str,
    *,
    group: str | None = None,
    remove: bool = False,
    ids: str | Path | None = None,
    result: str | Path | None = None,
    run: str = "",
) -> CsvFeed:
    """A table of users, or of the members of ``group``. FeedError: it is not such a table.

    ``remove`` takes them out instead. ``ids`` is an export with object ids and principal names,
    by which names become ids. ``result`` is a file to be written with a line for each row.
    ``run`` makes other events of the same file, to feed it again on purpose.
    """
    return CsvFeed(path, tenant, group, remove, ids, result, run)


class CsvFeed(FileFeed):
    format = "csv"
    suffixes = (".csv",)

    def __init__(
        self,
        path: str | Path,
        tenant: str,
        group: str | None,
        remove: bool,
        ids: str | Path | None,
        result: str | Path | None,
        run: str,
    ) -> None:
        super().__init__(path, (tenant, group or "", "remove" if remove else "", run))
        csv.field_size_limit(LONGEST_CELL)
        self._tenant, self._group, self._remove = tenant, group, remove
        self._ids = _principal_names(ids) if ids else {}
        self._result = ResultFile(Path(result)) if result else None

    def finish(self, published: bool) -> None:
        """Completes the result file; ``published``: whether the events are in Kafka."""
        if self._result:
            self._result.finish(published)

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        # Letters that are not UTF-8 become lone surrogates, which no event can hold: a bad row.
        text = io.TextIOWrapper(
            source.file, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        rows, columns = _table(text, source.name)
        self._check(columns, source.name)
        make, before = Maker(self._tenant, source.mark, source.time), self.done_bytes
        for count, (line, row) in enumerate(_numbered(rows)):
            if count % ROWS_A_LOOK == 0:
                self.done_bytes = before + source.file.tell()
            if isinstance(row, str):
                yield self._bad(source, line, "", row)
            elif row and not row[0].startswith("Example:") and any(row):
                yield from self._row(source, line, row, columns, make)

    def _check(self, columns: dict[str, int], name: str) -> None:
        if not any(each in columns for each in _NAMES_A_USER):
            raise FeedError(
                f"{name} names no user: its header must have one of the columns"
                " userPrincipalName, objectId, id or memberObjectIdOrUpn"
            )
        if "member" in columns and self._group is None and "groups" not in columns:
            raise FeedError(f"{name} lists members; say of which group with --group")

    def _row(
        self, source: FeedFile, line: int, row: list[str], columns: dict[str, int], make: Maker
    ) -> Iterator[FeedItem | FeedProblem]:
        cells = {}
        for name, at in columns.items():
            if at < len(row) and (cell := row[at]):
                if cell[0].isspace() or cell[-1].isspace():
                    reason = f"{name} is '{cell[:60]}': take the blanks around it away"
                    yield self._bad(source, line, cell.strip(), reason)
                    return
                cells[name] = cell
        if cells.get("type", "user").lower() not in ("user", "member", "guest"):
            self.skipped[f"{cells['type']} in the table"] += 1
            return
        named = self._user(cells)
        if named is None:
            yield self._bad(source, line, "", "the row names no user")
            return
        make.begin(line)
        items: list[FeedItem] = []
        for made in self._made(named, cells, make):
            if isinstance(made, str):
                yield self._bad(source, line, named, made)
                return
            items.append(made)
        if self._result:
            self._result.add(line, named, "")
        yield from items

    def _user(self, cells: dict[str, str]) -> str | None:
        if id := cells.get("id"):
            return id
        name = cells.get("userPrincipalName") or cells.get("member")
        if name is None:
            return None
        return (self._ids.get(name.lower()) if self._ids else None) or user_id(name)

    def _made(self, user: str, cells: dict[str, str], make: Maker) -> list[Made]:
        groups = [self._group] if self._group else _listed(cells.get("groups", ""))
        if self._remove and not groups:
            return [make.user("user.deleted", user)]
        made = [make.membership(not self._remove, user, group) for group in groups]
        if self._remove or self._group:
            return made
        members: dict[str, object] = {name: cells[name] for name in _ATTRIBUTES if name in cells}
        if addresses := cells.get("proxyAddresses"):
            members["proxyAddresses"] = _listed(addresses)
        return [make.user("user.upserted", user, **members), *made]

    def _bad(self, source: FeedFile, line: int, named: str, reason: str) -> FeedProblem:
        if self._result:
            self._result.add(line, named, reason)
        return FeedProblem(source.name, line, reason)


class ResultFile:
    """A line for each row, as Entra gives after a bulk operation; in place when all is done."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        try:
            self._file: TextIO = self._part.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise FeedError(f"{self._part} cannot be written: {error.strerror}") from None
        self._rows = csv.writer(self._file)
        self._rows.writerow(["line", "user", "status", "reason"])
        self._good = self._bad = 0

    def add(self, line: int, user: str, reason: str) -> None:
        self._good, self._bad = self._good + (not reason), self._bad + bool(reason)
        shown = user.encode(errors="replace").decode()
        reason = reason.encode(errors="replace").decode()
        self._rows.writerow([line, shown, "Failure" if reason else "Success", reason])

    def finish(self, published: bool) -> None:
        if self._file.closed:
            return
        total = self._good + self._bad
        summary = f"# Success {self._good}, # Failure {self._bad}, Total Requests {total}"
        self._rows.writerow([summary if published else f"{summary} (nothing was published)"])
        self._file.close()
        self._part.replace(self._path)


def _table(text: TextIO, name: str) -> tuple[Iterator[list[str]], dict[str, int]]:
    """The rows after the header, and what is in which column."""
    first = text.readline()
    if "\x00" in first or first.startswith("\udcff\udcfe"):
        raise FeedError(f"{name} is in UTF-16: save it as 'CSV UTF-8'")
    skipped = 0
    if first.lower().startswith(("version:", '"version:')):
        first, skipped = text.readline(), 1
    delimiter = max(",;\t", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter), [])
    columns: dict[str, int] = {}
    for at, cell in enumerate(header):
        if known := _COLUMNS.get(_column(cell)):
            columns.setdefault(known, at)
    rows = _Rows(csv.reader(text, delimiter=delimiter), skipped + 1)
    return rows, columns


def _column(cell: str) -> str:
    found = re.search(r"\[(\w+)\]", cell)
    return re.sub(r"[^a-z]", "", (found[1] if found else cell).lower())


class _Rows(Iterator[list[str]]):
    """A csv.reader whose ``line`` is that on which the row begins."""

    def __init__(self, rows: object, before: int) -> None:
        self._rows, self._before = rows, before
        self.line = before

    def __next__(self) -> list[str]:
        self.line = self._before + self._rows.line_num + 1  # type: ignore[attr-defined]
        return next(self._rows)  # type: ignore[call-overload, no-any-return]


def _numbered(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | str]]:
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield rows.line, f"not CSV: {error}"  # type: ignore[attr-defined]
        else:
            yield rows.line, row  # type: ignore[attr-defined]


def _listed(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


def _principal_names(path: str | Path) -> dict[str, str]:
    """Principal name in small letters -> object id, of a whole export of users."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as text:
            rows, columns = _table(text, str(path))
            if not {"id", "userPrincipalName"} <= columns.keys():
                raise FeedError(f"{path} must have the columns id and userPrincipalName")
            id, name = columns["id"], columns["userPrincipalName"]
            return {row[name].lower(): row[id] for row in rows if len(row) > max(id, name)}
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {error.strerror}") from None
