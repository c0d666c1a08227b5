"""Debezium's change events of a table of people, by a small mapping file.

    tenant = "contoso"                     # or of a column: "{company}"
    [user]
    id = "{employee_id}"
    userPrincipalName = "{login}"
    displayName = "{first_name} {last_name}"
    usageLocation = "{country}"
    gone = { column = "status", is = ["left", "retired"] }   # such a row is no user
    [[groups]]
    id = "department-{department}"         # none while the column is null

Read are envelopes with and without their schema, rows flattened by ``ExtractNewRecordState``, and
tombstones, which say nothing new. A row is all that is known of its user. Who leaves which group is
in ``before``: the table needs ``REPLICA IDENTITY FULL`` or its like when groups are mapped.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streams.ingest.event_builder import Made, Maker, user_id
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import FeedFile, FileFeed

MEMBERS = ("userPrincipalName", "displayName", "usageLocation", "mail", "proxyAddresses")
Row = dict[str, Any]
_column = re.compile(r"\{(\w+)\}")


class _UnreadableError(Exception):
    """Why a change event makes no events."""


@dataclass(frozen=True, slots=True)
class Change:
    """``before`` is None where it is not told, and for a row that is new."""

    op: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class Mapping:
    tenant: str
    user: str
    members: dict[str, str]
    groups: tuple[str, ...]
    gone: tuple[str, frozenset[str]] | None

    def made(self, change: Change, maker: Callable[[str], Maker]) -> Iterator[Made]:
        """The events of a change; ``maker`` gives those of a tenant."""
        row = change.after if change.after is not None else change.before
        if row is None:
            raise _UnreadableError("the change event has neither before nor after")
        user = user_id(_filled(self.user, row) or "")
        tenant = _filled(self.tenant, row)
        if not user or not tenant:
            raise _UnreadableError(f"the row has no {'tenant' if user else 'id'}")
        make = maker(tenant)
        before = change.before if change.before and not self._gone(change.before) else None
        if change.after is None or self._gone(change.after):
            if change.op in "cr" or (change.before is not None and before is None):
                return  # it was no user before, either
            yield make.user("user.deleted", user)
            return
        yield make.user("user.upserted", user, **self._facts(change.after))
        yield from self._memberships(user, change, before, make)

    def _memberships(
        self, user: str, change: Change, before: Row | None, make: Maker
    ) -> Iterator[Made]:
        now = self._groups_of(change.after or {})
        if self.groups and change.op == "u" and change.before is None:
            raise _UnreadableError(
                "an update without before: nobody can tell which groups the user leaves"
                " (set REPLICA IDENTITY FULL)"
            )
        was = self._groups_of(before) if before else {}
        yield from (make.membership(True, user, group) for group in now if group not in was)
        yield from (make.membership(False, user, group) for group in was if group not in now)

    def _facts(self, row: Row) -> Row:
        facts: Row = {name: _filled(text, row) for name, text in self.members.items()}
        if addresses := facts.get("proxyAddresses"):
            facts["proxyAddresses"] = [each for each in addresses.split(";") if each]
        return facts

    def _groups_of(self, row: Row) -> dict[str, None]:
        filled = (_filled(text, row) for text in self.groups)
        return {user_id(group): None for group in filled if group}

    def _gone(self, row: Row) -> bool:
        return self.gone is not None and str(row.get(self.gone[0])) in self.gone[1]


def _filled(text: str, row: Row) -> str | None:
    """The text with its columns; None where one of them is null or empty."""
    parts = []
    for column in _column.findall(text):
        if column not in row:
            raise _UnreadableError(f"the row has no column {column}")
        if row[column] in (None, ""):
            return None
        parts.append(str(row[column]))
    values = iter(parts)
    return _column.sub(lambda _: next(values), text)


def load_mapping(path: Path) -> Mapping:
    """FeedError: the file is no mapping; the message says what is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FeedError(f"{path} is not TOML: {error}") from None
    user = table.get("user")
    if not isinstance(table.get("tenant"), str) or not isinstance(user, dict):
        raise FeedError(f'{path} must have tenant = "…" and a table [user]')
    if not isinstance(user.get("id"), str):
        raise FeedError(f'{path}: [user] must have id = "{{column}}"')
    if unknown := sorted(user.keys() - {*MEMBERS, "id", "gone"}):
        raise FeedError(
            f"{path}: [user] has {unknown[0]}; known are id, gone, {', '.join(MEMBERS)}"
        )
    gone = user.get("gone")
    if gone is not None:
        if not isinstance(gone, dict) or not {"column", "is"} == gone.keys():
            raise FeedError(f'{path}: gone must be {{ column = "…", is = ["…"] }}')
        gone = (str(gone["column"]), frozenset(map(str, gone["is"])))
    groups = table.get("groups", [])
    if not all(isinstance(group, dict) and isinstance(group.get("id"), str) for group in groups):
        raise FeedError(f'{path}: each [[groups]] must have id = "…"')
    members = {name: str(user[name]) for name in MEMBERS if name in user}
    ids = tuple(group["id"] for group in groups)
    return Mapping(table["tenant"], user["id"], members, ids, gone)


def change_of(value: Any) -> Change | None:
    """What a record's value says of a row; None where it says nothing of one."""
    if value is None:
        return None
    if isinstance(value, dict) and isinstance(value.get("payload"), dict) and "schema" in value:
        value = value["payload"]
    if not isinstance(value, dict):
        raise _UnreadableError("not an object")
    if "op" in value and ("before" in value or "after" in value):
        op = str(value["op"])
        if op not in ("c", "r", "u", "d"):
            return None  # a truncation or a message
        return Change(op, value.get("before"), value.get("after"))
    row = {name: one for name, one in value.items() if not name.startswith("__")}
    if str(value.get("__deleted", "")).lower() == "true":
        return Change("d", row, None)
    return Change(str(value.get("__op", "u")), None, row)


def made_of(value: bytes | None, mapping: Mapping, maker: Callable[[str], Maker]) -> list[Made]:
    """The events of one record of Debezium's topic, or the one reason why there are none."""
    try:
        change = change_of(None if value is None else orjson.loads(value))
        made = list(mapping.made(change, maker)) if change is not None else []
    except orjson.JSONDecodeError as error:
        return [f"not JSON: {error.msg}"]
    except _UnreadableError as unreadable:
        return [str(unreadable)]
    reasons: list[Made] = [each for each in made if isinstance(each, str)]
    return reasons[:1] or made


def events_from_debezium(path: str | Path, map_file: Path, *, run: str = "") -> DebeziumFeed:
    """A file with the value of one record per line, as a console consumer prints them."""
    return DebeziumFeed(path, load_mapping(map_file), run)


class DebeziumFeed(FileFeed):
    format = "debezium"
    suffixes = (".json", ".jsonl")

    def __init__(self, path: str | Path, mapping: Mapping, run: str) -> None:
        super().__init__(path, (repr(mapping), run))
        self._mapping = mapping

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        before = self.done_bytes
        for number, line in enumerate(source.file, start=1):
            if not (value := line.strip()):
                continue
            self.done_bytes = before + source.file.tell()

            def maker(tenant: str, number: int = number) -> Maker:
                make = Maker(tenant, source.mark, source.time)
                make.begin(number)
                return make

            for made in made_of(None if value == b"null" else value, self._mapping, maker):
                if isinstance(made, FeedItem):
                    yield made
                else:
                    yield FeedProblem(source.name, number, made)
