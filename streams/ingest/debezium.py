"""Debezium's change events of a table of people, mapped to events by a TOML file.

    tenant = "contoso"                     # or from a column: "{company}"
    [user]
    id = "{employee_id}"
    userPrincipalName = "{login}"
    displayName = "{first_name} {last_name}"
    usageLocation = "{country}"
    gone = { column = "status", is = ["left", "retired"] }   # then the row is not a user
    [[groups]]
    id = "department-{department}"         # no group while the column is null

Supported are envelopes with and without their schema, rows flattened by ``ExtractNewRecordState``,
and tombstones, which are ignored. A row holds the complete user. Groups that a user leaves are in
``before``, so the table needs ``REPLICA IDENTITY FULL`` or its equivalent when groups are mapped.
Ids of users and groups are written in lower case. A row whose id changes is another user.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streams.ingest.event_builder import EventBuilder, EventOrReason, user_id
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import FeedFile, FileFeed
from streams.runtime.errors import SenderError

MEMBERS = (
    "userPrincipalName", "displayName", "usageLocation", "mail", "mailNickname", "proxyAddresses",
)  # fmt: skip
Row = dict[str, Any]
# Debezium's default ``unavailable.value.placeholder``, as text and as base64 of a binary column.
UNAVAILABLE = ("__debezium_unavailable_value", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==")
UNKNOWN: Any = object()
"""A value that a record does not contain, since it did not change."""
_column = re.compile(r"\{(\w+)\}")


class _UnreadableError(SenderError):
    """A change event from which no events can be built; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a row. ``before``: None for a new row, and if the table does not supply it."""

    op: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True, slots=True)
class Mapping:
    """The columns that users, their attributes and their groups come from.

    The values are templates with columns in braces. ``gone``: a column, and the values by which
    it marks a row that is no longer a user.
    """

    tenant: str
    user: str
    members: dict[str, str]
    groups: tuple[str, ...]
    gone: tuple[str, frozenset[str]] | None

    def events_of(
        self, change: Change, builder_for: Callable[[str], EventBuilder]
    ) -> Iterator[EventOrReason]:
        """Yields the events of a change. ``builder_for``: returns the builder for a tenant.

        A row whose id or tenant changes is another user: the old one is deleted.
        Raises: _UnreadableError.
        """
        if change.after is None and change.before is None:
            raise _UnreadableError("the change event has neither before nor after")
        before, after = _with_unknowns(change.before, None), _with_unknowns(change.after, change)
        was_user = before is not None and not self._gone(before)
        old = self._identity_before(before) if before is not None and was_user else None
        if after is None or self._gone(after):
            if change.op in "cr" or (before is not None and not was_user):
                return  # it was not a user before, either
            tenant, user = old or self._identity(after or before or {})
            yield builder_for(tenant).user("user.deleted", user)
            return
        tenant, user = self._identity(after)
        builder = builder_for(tenant)
        if old is not None and old != (tenant, user):
            other = builder if old[0] == tenant else builder_for(old[0])
            yield other.user("user.deleted", old[1])
            was_user = False
        yield builder.user("user.upserted", user, **self._facts(after))
        if self.groups and change.op == "u" and change.before is None:
            raise _UnreadableError(
                "the update has no before, so the groups that the user leaves are unknown"
                " (set REPLICA IDENTITY FULL)"
            )
        yield from self._memberships(user, before if was_user else None, after, builder)

    def _identity(self, row: Row) -> tuple[str, str]:
        """Returns the tenant and the user of a row."""
        for text in (self.user, self.tenant):
            if column := _unknown_column(text, row):
                raise _UnreadableError(
                    f"the record does not contain the value of {column}, which identifies the user"
                    " (set REPLICA IDENTITY FULL)"
                )
        user, tenant = user_id(_filled(self.user, row) or ""), _filled(self.tenant, row)
        if not user or not tenant:
            raise _UnreadableError(f"the row has no {'tenant' if user else 'id'}")
        return tenant, user

    def _identity_before(self, row: Row) -> tuple[str, str] | None:
        """Returns the identity before the change; None if the table does not supply all of it."""
        try:
            return self._identity(row)
        except _UnreadableError:
            return None

    def _memberships(
        self, user: str, before: Row | None, after: Row, builder: EventBuilder
    ) -> Iterator[EventOrReason]:
        was: dict[str, None] = {}
        now: dict[str, None] = {}
        for text in self.groups:
            if column := _unknown_column(text, after):
                if before is None:
                    raise _UnreadableError(
                        f"the record does not contain the value of {column}, so a group of the user"
                        " is unknown (set REPLICA IDENTITY FULL)"
                    )
                continue  # the value did not change, and neither did the group
            for row, groups in ((before, was), (after, now)):
                if row is not None and (group := _filled(text, row)):
                    groups[user_id(group)] = None
        yield from (builder.membership(True, user, group) for group in now if group not in was)
        yield from (builder.membership(False, user, group) for group in was if group not in now)

    def _facts(self, row: Row) -> Row:
        """Returns the attributes of a row; absent are those whose value the record lacks."""
        facts: Row = {
            name: _filled(text, row)
            for name, text in self.members.items()
            if not _unknown_column(text, row)
        }
        if addresses := facts.get("proxyAddresses"):
            facts["proxyAddresses"] = [each for each in addresses.split(";") if each]
        return facts

    def _gone(self, row: Row) -> bool:
        return self.gone is not None and str(row.get(self.gone[0])) in self.gone[1]


def _with_unknowns(row: Row | None, change: Change | None) -> Row | None:
    """Returns the row with UNKNOWN for values that the record lacks.

    PostgreSQL does not log large values that an update leaves unchanged; Debezium writes a
    placeholder. ``change``: if given, the value is taken from the row before, where it is known.
    """
    if row is None or not any(map(_is_unavailable, row.values())):
        return row
    before = (change.before if change is not None else None) or {}
    found = dict(row)
    for column, value in row.items():
        if _is_unavailable(value):
            old = before.get(column, UNAVAILABLE[0])
            found[column] = UNKNOWN if _is_unavailable(old) else old
    return found


def _is_unavailable(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_unavailable, value))
    return isinstance(value, str) and value in UNAVAILABLE


def _unknown_column(text: str, row: Row) -> str | None:
    """Returns a column of the template whose value is unknown, or None."""
    return next((name for name in _column.findall(text) if row.get(name) is UNKNOWN), None)


def _filled(text: str, row: Row) -> str | None:
    """Returns the template with its columns filled in; None if one of them is null or empty."""
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
    """Reads a mapping file. Raises: FeedError, with what is wrong."""
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
    """Returns the change of a row; None for a tombstone, a truncation or a message."""
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
        rows = value.get("before"), value.get("after")
        if any(row is not None and not isinstance(row, dict) for row in rows):
            raise _UnreadableError("before and after must be objects, or null")
        return Change(op, *rows)
    row = {name: one for name, one in value.items() if not name.startswith("__")}
    if str(value.get("__deleted", "")).lower() == "true":
        return Change("d", row, None)
    return Change(str(value.get("__op", "u")), None, row)


def events_of(
    value: bytes | None, mapping: Mapping, builder_for: Callable[[str], EventBuilder]
) -> list[EventOrReason]:
    """Returns the events of one record of Debezium's topic, or one reason why there are none."""
    try:
        change = change_of(None if value is None else orjson.loads(value))
        results = list(mapping.events_of(change, builder_for)) if change is not None else []
    except orjson.JSONDecodeError as error:
        return [f"not JSON: {error.msg}"]
    except _UnreadableError as error:
        return [str(error)]
    reasons: list[EventOrReason] = [each for each in results if isinstance(each, str)]
    return reasons[:1] or results


def events_from_debezium(path: str | Path, map_file: Path, *, run: str = "") -> DebeziumFeed:
    """Returns the feed of a file with one record value per line, as a console consumer prints."""
    return DebeziumFeed(path, load_mapping(map_file), run)


class DebeziumFeed(FileFeed):
    """The events of Debezium records in a file."""

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

            def builder_for(tenant: str, number: int = number) -> EventBuilder:
                builder = EventBuilder(tenant, source.fingerprint, source.time)
                builder.begin(number)
                return builder

            for result in events_of(
                None if value == b"null" else value, self._mapping, builder_for
            ):
                if isinstance(result, FeedItem):
                    yield result
                else:
                    yield FeedProblem(source.name, number, result)
