"""Forms for new groups, members, and users to reprocess."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

from streams.console.changes.proposal import (
    NAMED,
    ChangeError,
    Given,
    Proposal,
    counted,
    find_group,
    find_users,
    name_of,
    named,
    proposal,
)
from streams.console.commands import definitions
from streams.console.commands.definitions import Command
from streams.console.read_model import queries
from streams.console.read_model.queries import Connection


def no_facts(_db: Connection, _tenant: str, _given: Given) -> dict[str, Any]:
    """Returns nothing: the form shows no state."""
    return {}


def group_facts(db: Connection, tenant: str, given: Given) -> dict[str, Any]:
    """Returns the group."""
    return {"group": find_group(db, tenant, given.one("group"))}


def new_group_facts(_db: Connection, _tenant: str, _given: Given) -> dict[str, Any]:
    """Returns an id for the group, the same until it is created."""
    return {"id": str(uuid.uuid4())}


def propose_new_group(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the creation of a group. Raises: ChangeError."""
    id, name = given.one("id"), given.one("name")
    if not name:
        raise ChangeError("Give the group a name.")
    if not id:
        raise ChangeError("Give the group an id.")
    found = queries.group(db, tenant, id)
    if found is not None and not found["deleted"]:
        raise ChangeError(f"There is a group with the id “{id}” already: {name_of(found)}.")
    command = definitions.put_group(id, {"displayName": name})
    return proposal([command], [f"Create the group {name}, without members and licences."],
                    f"/groups/{quote(id)}")  # fmt: skip


# --- members -------------------------------------------------------------------------------------


def _users(db: Connection, tenant: str, given: Given) -> dict[str, str]:
    """Returns id -> name of the users in the form: one in a line, or checkboxes.

    Raises: ChangeError.
    """
    lines = [line.strip() for line in given.one("users").splitlines()]
    wanted = [*given.all("user"), *(line for line in lines if line)]
    if not wanted:
        raise ChangeError("Select users, or name them: one id or principal name in a line.")
    known, unknown = find_users(db, tenant, wanted)
    if unknown:
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        raise ChangeError(f"There are no such users: {', '.join(unknown[:NAMED])}{more}.")
    return known


def _is_member(db: Connection, tenant: str, user: str, group: str) -> bool:
    sql = "SELECT 1 FROM members WHERE tenant = ? AND user = ? AND grp = ?"
    return db.execute(sql, (tenant, user, group)).fetchone() is not None


def propose_members(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the addition of members to a group. Raises: ChangeError."""
    group = find_group(db, tenant, given.one("group"))
    users = _users(db, tenant, given)
    there = {user for user in users if _is_member(db, tenant, user, group["id"])}
    new = [user for user in users if user not in there]
    notes = [f"Members already: {named([users[user] for user in there])}."] if there else []
    if group["membershipRule"] is not None:
        notes.append("They do not count while the group has a membership rule (R27).")
    commands: list[Command] = [definitions.put_member(group["id"], user) for user in new]
    lines = [f"Add {counted(len(new))} to {name_of(group)}: {named([users[u] for u in new])}."]
    return proposal(commands, lines, f"/groups/{quote(group['id'])}", notes)


def propose_removal(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the removal of members from a group. Raises: ChangeError."""
    group = find_group(db, tenant, given.one("group"))
    users = _users(db, tenant, given)
    gone = [user for user in users if _is_member(db, tenant, user, group["id"])]
    absent = [users[user] for user in users if user not in gone]
    notes = [f"Not direct members: {named(absent)}."] if absent else []
    commands: list[Command] = [definitions.delete_member(group["id"], user) for user in gone]
    names = named([users[user] for user in gone])
    lines = [f"Remove {counted(len(gone))} from {name_of(group)}: {names}."]
    return proposal(commands, lines, f"/groups/{quote(group['id'])}", notes)


# --- reprocess -----------------------------------------------------------------------------------


def propose_reprocess(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the reprocessing of users. Raises: ChangeError."""
    users = _users(db, tenant, given)
    commands: list[Command] = [definitions.reprocess_user(user) for user in users]
    lines = [f"Retry what is in error for {counted(len(users))}: {named(list(users.values()))}."]
    back = f"/users/{quote(next(iter(users)))}" if len(users) == 1 else "/users"
    return proposal(commands, lines, back)


def propose_group_reprocess(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the reprocessing of a group. Raises: ChangeError."""
    group = find_group(db, tenant, given.one("group"))
    lines = [f"Retry what is in error for the members of {name_of(group)}."]
    commands: list[Command] = [definitions.reprocess_group(group["id"])]
    return proposal(commands, lines, f"/groups/{quote(group['id'])}")
