"""A change that a form asks for: its commands, in words, before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from streams.console.commands.definitions import Command
from streams.console.read_model import queries
from streams.console.read_model.queries import Connection
from streams.runtime.errors import SenderError

MOST_COMMANDS = 500
"""Of one change: they are one transaction, and their outcomes are awaited together."""

NAMED = 10
"""Users of a change that are named; the others are counted."""


class ChangeError(SenderError):
    """Raised for a form that no change can be made of. The message says what to do."""


class Given:
    """The values of a form: several of one name where it has checkboxes."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self.values = values

    def one(self, name: str) -> str:
        """Returns a field's value without spaces around it; empty if it is not given."""
        return next(iter(self.values.get(name, ())), "").strip()

    def all(self, name: str) -> list[str]:
        """Returns the values of a field, each once."""
        return list(dict.fromkeys(self.values.get(name, ())))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change before it is made.

    ``lines``: what would be done, a sentence each. ``notes``: what was asked for but is not part of
    it, with the reason. ``back``: the page that shows it afterwards, below the tenant's.
    """

    commands: tuple[Command, ...]
    lines: tuple[str, ...]
    back: str
    notes: tuple[str, ...] = ()

    def events(self) -> list[dict[str, Any]]:
        """Returns the events of the commands, for the what-if."""
        return [
            {
                "type": each.event_type.name,
                each.event_type.subject: each.subject,
                **each.members,
            }
            for each in self.commands
        ]

    @property
    def digest(self) -> str:
        """Identifies the events: what is confirmed is what was shown."""
        return hashlib.blake2b(orjson.dumps(self.events()), digest_size=16).hexdigest()


class Form(NamedTuple):
    """A form of the pages.

    ``subject``: the field that names the object to change, which is asked for first: ``group``,
    ``user``, or empty if the form has a field for it itself.
    ``facts``: what the form shows. ``propose``: the change that a filled form asks for.
    """

    name: str
    title: str
    about: str
    subject: str
    facts: Callable[[Connection, str, Given], dict[str, Any]]
    propose: Callable[[Connection, str, Given], Proposal]


def proposal(
    commands: Iterable[Command], lines: Iterable[str], back: str, notes: Iterable[str] = ()
) -> Proposal:
    """Returns a proposal. Raises: ChangeError, if it has no command or too many."""
    made = Proposal(tuple(commands), tuple(lines), back, tuple(notes))
    if not made.commands:
        raise ChangeError(" ".join(["Nothing would change.", *made.notes]))
    if len(made.commands) > MOST_COMMANDS:
        raise ChangeError(
            f"These are {len(made.commands):,} changes; at most {MOST_COMMANDS} can be made at a"
            " time. Select fewer, or use `seatflow feed`."
        )
    return made


# --- objects by id or name -----------------------------------------------------------------------


def find_group(db: Connection, tenant: str, given: str) -> dict[str, Any]:
    """Returns the live group with this id or, if it is the only one, name. Raises: ChangeError."""
    found = queries.group(db, tenant, given)
    if found is None:
        sql = "SELECT grp FROM groups WHERE tenant = ? AND name = ? AND NOT deleted LIMIT 2"
        ids = [row[0] for row in db.execute(sql, (tenant, given))]
        if len(ids) > 1:
            raise ChangeError(f"Several groups are called “{given}”: give the id of one.")
        found = queries.group(db, tenant, ids[0]) if ids else None
    if found is None or found["deleted"]:
        raise ChangeError(f"There is no group “{given}”: give its id or its whole name.")
    return found


def find_users(
    db: Connection, tenant: str, given: Iterable[str]
) -> tuple[dict[str, str], list[str]]:
    """Returns id -> name of the users with these ids or principal names, and what is unknown.

    A principal name that two users have is as good as unknown.
    """
    known: dict[str, str] = {}
    unknown = []
    by_id = "SELECT user, name FROM users WHERE tenant = ? AND user = ?"
    by_name = "SELECT user, name FROM users WHERE tenant = ? AND upn = ? COLLATE NOCASE LIMIT 2"
    for text in dict.fromkeys(given):
        rows = [db.execute(sql, (tenant, text)).fetchall() for sql in (by_id, by_name)]
        found = rows[0] or rows[1]
        if len(found) == 1:
            known[found[0]["user"]] = found[0]["name"] or found[0]["user"]
        else:
            unknown.append(text)
    return known, unknown


def find_user(db: Connection, tenant: str, given: str) -> dict[str, Any]:
    """Returns the user with this id or principal name. Raises: ChangeError."""
    known, _ = find_users(db, tenant, [given])
    found = queries.user(db, tenant, next(iter(known))) if len(known) == 1 else None
    if found is None:
        raise ChangeError(f"There is no user “{given}”: give the id or the principal name.")
    return found


def name_of(found: Mapping[str, Any]) -> str:
    """Returns a group's or user's name, or its id if it has none."""
    return str(found["displayName"] or found["id"])


def named(names: Sequence[str]) -> str:
    """Returns the first of the names, and the number of the others."""
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED:,} more" if len(names) > NAMED else shown


def counted(users: int) -> str:
    """Returns a number of users in words."""
    return f"{users:,} user{'' if users == 1 else 's'}"
