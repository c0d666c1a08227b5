"""CSV: Entra's bulk templates (``version:v1.0``) and exports, and plain tables of users.

A column is identified by the ``[property]`` in its header, which all versions of the templates
have, or by its name; unknown columns are ignored. A row that cannot be read is reported, and
reading continues. Accepted are comma, semicolon and tab, UTF-8 and UTF-16, Excel's line ``sep=;``
and PowerShell's line ``#TYPE``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from engine.domain.proxy_address import lower_ascii
from engine.membership_rules.properties import (
    EXTENSION_ATTRIBUTES,
    OBJECT_ID,
    SAME_PROPERTY,
    TEXT_PROPERTIES,
)
from streams.ingest.csv_rows import CsvRows, text_of
from streams.ingest.event_builder import EventBuilder, EventOrReason, group_id, user_id
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import FeedFile, FileFeed, in_utf8
from streams.runtime.csv_cells import text_cell
from streams.runtime.nearest import nearest

ROWS_PER_PROGRESS_UPDATE = 256

# Normalized column name (lower-case letters only) -> the property it holds.
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
    "mailnickname": "mailNickname",
    "alias": "mailNickname",
    "proxyaddresses": "proxyAddresses",
    "group": "groups",
    "groups": "groups",
    "groupid": "groups",
    "objecttype": "type",
    "membertype": "type",
}
_FACTS = ("userPrincipalName", "displayName", "usageLocation", "mail", "mailNickname")
_ATTRIBUTE = "attributes."
_REPORTED = ("costCenter", "costCentre", "division")
# Templates have "Block sign in" for accountEnabled, so it is not read.
_NO_TEXT = (OBJECT_ID, "onpremisessyncenabled")
# The same for attributes of text (R27), with digits. Their property: with the prefix.
_ATTRIBUTES = {
    name.lower(): _ATTRIBUTE + name
    for name in (*TEXT_PROPERTIES, *SAME_PROPERTY, *EXTENSION_ATTRIBUTES, *_REPORTED)
    if name.lower() not in _COLUMNS and name.lower() not in _NO_TEXT
}
_NAMES_A_USER = ("id", "userPrincipalName", "member")
_is_name = re.compile(r"[^\s,;@]+@[^\s,;@]+|[A-Za-z0-9_.:-]*\d[A-Za-z0-9_.:-]*").fullmatch


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
    """Returns the feed of a table of users, or of the members of ``group``.

    ``remove``: delete the users, or remove them from the group.
    ``ids``: an export with object ids and principal names, which translates names to ids.
    ``result``: a CSV file to write, with one line per row.
    ``run``: salt for the event ids; another value makes new events of the same file.
    Raises: FeedError, if it is no such table.
    """
    return CsvFeed(path, tenant, group, remove, ids, result, run)


class CsvFeed(FileFeed):
    """The events of a CSV table."""

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
        self._tenant, self._remove = tenant, remove
        self._group = group_id(group) if group else None
        self._ids = _principal_names(ids) if ids else {}
        self._result = ResultFile(Path(result)) if result else None
        self.warnings: list[str] = []

    def finish(self, published: bool) -> None:
        """Completes the result file. ``published``: the events are in Kafka."""
        if self._result:
            self._result.finish(published)

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        rows, columns = _table(text_of(source.file))
        if not any(rows.header):
            raise FeedError(f"{source.name} is empty")
        self._check(columns, source.name)
        self._note_misspelt(rows.header, columns, source.name)
        builder, before = (
            EventBuilder(self._tenant, source.fingerprint, source.time),
            self.done_bytes,
        )
        count = -1
        for count, (line, row) in enumerate(rows):
            if count % ROWS_PER_PROGRESS_UPDATE == 0:
                self.done_bytes = before + source.file.tell()
            if isinstance(row, str):
                yield self._bad(source, line, "", row)
            elif row and not row[0].startswith("Example:") and any(row):
                yield from self._row(source, line, row, columns, builder)

        if count < 0:
            self.warnings.append(f"{source.name} has a header and no rows")

    def _note_misspelt(self, header: list[str], columns: dict[str, int], name: str) -> None:
        """Warns of a column that is not read and whose name is nearly that of one that is."""
        for at, cell in enumerate(header):
            meant = nearest(_column(cell), _COLUMNS.keys() - {_column(each) for each in header})
            if at not in columns.values() and meant and _COLUMNS[meant] not in columns:
                self.warnings.append(
                    f"{name}: the column '{cell}' is ignored: did you mean {_COLUMNS[meant]}?"
                )

    def _check(self, columns: dict[str, int], name: str) -> None:
        if not any(each in columns for each in _NAMES_A_USER):
            raise FeedError(
                f"{name} does not identify users: its header must have one of the columns"
                " userPrincipalName, objectId, id or memberObjectIdOrUpn"
            )
        if "member" in columns and self._group is None and "groups" not in columns:
            raise FeedError(f"{name} lists members: name their group with --group")

    def _row(
        self,
        source: FeedFile,
        line: int,
        row: list[str],
        columns: dict[str, int],
        builder: EventBuilder,
    ) -> Iterator[FeedItem | FeedProblem]:
        cells = {}
        for name, at in columns.items():
            if at < len(row) and (cell := row[at]):
                if name.startswith(_ATTRIBUTE):
                    cells[name] = cell.strip()
                    continue
                if cell[0].isspace() or cell[-1].isspace():
                    reason = f"{name} is '{cell[:60]}': remove leading and trailing spaces"
                    yield self._bad(source, line, cell.strip(), reason)
                    return
                if '"' in cell and name in _NAMES_A_USER:  # of a cell opened on an earlier line
                    yield self._bad(source, line, cell, f"{name} has a quote: '{cell[:60]}'")
                    return
                cells[name] = cell
        if cells.get("type", "user").lower() not in ("user", "member", "guest"):
            self.skipped[f"{cells['type']} in the table"] += 1
            return
        named = self._user(cells)
        if named is None:
            yield self._bad(source, line, "", "the row does not identify a user")
            return
        builder.begin(line)
        items: list[FeedItem] = []
        for result in self._results(named, cells, builder):
            if isinstance(result, str):
                yield self._bad(source, line, named, result)
                return
            items.append(result)
        if self._result:
            self._result.add(line, named, "")
        yield from items

    def _user(self, cells: dict[str, str]) -> str | None:
        if id := cells.get("id"):
            return id
        name = cells.get("userPrincipalName") or cells.get("member")
        if name is None:
            return None
        return (self._ids.get(lower_ascii(name)) if self._ids else None) or user_id(name)

    def _results(
        self, user: str, cells: dict[str, str], builder: EventBuilder
    ) -> list[EventOrReason]:
        listed = map(group_id, _listed(cells.get("groups", "")))
        groups = [self._group] if self._group else list(listed)
        if self._remove and not groups:
            return [builder.user("user.deleted", user)]
        memberships = [builder.membership(not self._remove, user, group) for group in groups]
        if self._remove or self._group:
            return memberships
        members: dict[str, object] = {name: cells[name] for name in _FACTS if name in cells}
        if addresses := cells.get("proxyAddresses"):
            members["proxyAddresses"] = _listed(addresses)
        attributes = {
            name.removeprefix(_ATTRIBUTE): cell
            for name, cell in cells.items()
            if name.startswith(_ATTRIBUTE) and cell
        }
        if attributes:
            members["attributes"] = attributes
        return [builder.user("user.upserted", user, **members), *memberships]

    def _bad(self, source: FeedFile, line: int, named: str, reason: str) -> FeedProblem:
        if self._result:
            self._result.add(line, named, reason)
        return FeedProblem(source.name, line, reason)


class ResultFile:
    """The result of each row as CSV, like the one Entra offers after a bulk operation.

    A cell that a spreadsheet would take for a formula begins with an apostrophe. The
    file appears under its name when it is complete.
    """

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
        """Adds a row; an empty reason means success."""
        self._good, self._bad = self._good + (not reason), self._bad + bool(reason)
        shown = text_cell(user.encode(errors="replace").decode())
        reason = text_cell(reason.encode(errors="replace").decode())
        self._rows.writerow([line, shown, "Failure" if reason else "Success", reason])

    def finish(self, published: bool) -> None:
        """Adds the summary and puts the file in place. Safe to repeat."""
        if self._file.closed:
            return
        total = self._good + self._bad
        summary = f"# Success {self._good}, # Failure {self._bad}, Total Requests {total}"
        self._rows.writerow([summary if published else f"{summary} (nothing was published)"])
        self._file.close()
        self._part.replace(self._path)


def _table(text: TextIO) -> tuple[CsvRows, dict[str, int]]:
    """Returns the rows after the header, and the index of each known column."""
    rows = CsvRows(text)
    columns: dict[str, int] = {}
    for at, cell in enumerate(rows.header):
        if known := _COLUMNS.get(_column(cell)) or _ATTRIBUTES.get(_property(cell)):
            columns.setdefault(known, at)
    identifying = [columns[name] for name in _NAMES_A_USER if name in columns]

    def looks_like_row(cells: list[str]) -> bool:
        named = [cells[at] for at in identifying if at < len(cells) and cells[at]]
        return bool(named) and all(_is_name(name) for name in named)

    rows.looks_like_row = looks_like_row
    return rows, columns


def _property(cell: str) -> str:
    found = re.search(r"\[(\w+)\]", cell)
    return re.sub(r"[^a-z0-9]", "", (found[1] if found else cell).lower())


def _column(cell: str) -> str:
    return re.sub(r"[0-9]", "", _property(cell))


def _listed(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


def _principal_names(path: str | Path) -> dict[str, str]:
    """Returns the object id of each principal name (lower case) in an export of users."""
    try:
        with open(path, "rb") as file:
            rows, columns = _table(text_of(in_utf8(file, str(path))))
            if not {"id", "userPrincipalName"} <= columns.keys():
                raise FeedError(f"{path} must have the columns id and userPrincipalName")
            id, name = columns["id"], columns["userPrincipalName"]
            return {
                lower_ascii(row[name]): row[id]
                for _, row in rows
                if not isinstance(row, str) and len(row) > max(id, name)
            }
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {error.strerror}") from None
