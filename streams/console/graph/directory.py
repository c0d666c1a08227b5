"""Users, groups and memberships: their creation, change and deletion.

Seatflow keeps of a user or group what licences depend on. Members that Graph obliges its clients to
send are accepted with the values that mean nothing here; any other one is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from streams.console.commands import definitions
from streams.console.commands.definitions import Command
from streams.console.graph import bodies, dynamic_groups
from streams.console.graph.calls import Answer, Call
from streams.console.graph.changes import pending, run, without_content
from streams.console.graph.errors import GraphError, bad_request, not_found
from streams.console.graph.listings import groups, users
from streams.console.graph.objects import entity, group_id, shown_group, user_id, users_named
from streams.console.graph.options import check_allowed
from streams.console.read_model import queries

KEPT_OF_USERS = ("displayName", "userPrincipalName", "usageLocation", "mail", "mailNickname")
USER = (*KEPT_OF_USERS, "proxyAddresses")
NEW_USER = (*USER, "accountEnabled", "passwordProfile")
GROUP = ("displayName", *dynamic_groups.MEMBERS, "members@odata.bind")
NEW_GROUP = (*GROUP, "mailNickname", "mailEnabled", "securityEnabled")
SECURITY_ONLY = "the groups of Seatflow are security groups"


# --- users ---------------------------------------------------------------------------------------


def _members_of_user(found: dict[str, Any]) -> dict[str, Any]:
    members: dict[str, Any] = {
        name: bodies.text(found, name) for name in KEPT_OF_USERS if name in found
    }
    if "proxyAddresses" in found:
        given = found["proxyAddresses"]
        members["proxyAddresses"] = None if given is None else bodies.texts(found, "proxyAddresses")
    return members


def refuse_taken_name(call: Call, members: dict[str, Any], id: str | None = None) -> None:
    """Refuses a principal name that another user has. Raises: GraphError."""
    name = members.get("userPrincipalName")
    if name is not None and "\0" not in name and set(users_named(call, name)) - {id}:
        raise bad_request(
            "Another object with the same value for property userPrincipalName already exists:"
            f" {name!r}."
        )


async def create_user(call: Call) -> Answer:
    """Creates a user with an id of its own, a GUID."""
    check_allowed(call.parameters, ())
    found = bodies.read(call.body, NEW_USER, "a new user")
    bodies.must_be(found, "accountEnabled", True, "Seatflow does not know disabled accounts")
    # A password is required by Graph. It is neither kept nor passed on.
    members = _members_of_user(found)
    for needed in ("displayName", "userPrincipalName"):
        if not members.get(needed):
            raise bad_request(f"A new user needs {needed}.")
    refuse_taken_name(call, members)
    id = str(uuid.uuid4())
    operation = await run(call, definitions.put_user(id, members))
    if operation.status != "applied":
        return pending(call, operation)
    answer = entity(call, users(call.tenant), id)
    return Answer(201, answer.body, {"location": call.link(f"users/{id}")})


async def change_user(call: Call, key: str) -> Answer:
    """Changes a user: absent members stay, null clears."""
    check_allowed(call.parameters, ())
    members = _members_of_user(bodies.read(call.body, USER, "a user"))
    id = user_id(call, key)
    if not members:
        raise bad_request(f"The body names nothing to change; there are {', '.join(USER)}.")
    refuse_taken_name(call, members, id)
    return without_content(call, await run(call, definitions.put_user(id, members)))


async def delete_user(call: Call, key: str) -> Answer:
    """Deletes a user into the recycle bin, as Graph does; its seats become free."""
    check_allowed(call.parameters, ())
    id = user_id(call, key)
    return without_content(call, await run(call, definitions.delete_user(id, restorable=True)))


# --- groups --------------------------------------------------------------------------------------


async def create_group(call: Call) -> Answer:
    """Creates a group with an id of its own, a GUID, and its first members."""
    check_allowed(call.parameters, ())
    found = bodies.read(call.body, NEW_GROUP, "a new group")
    bodies.must_be(found, "securityEnabled", True, SECURITY_ONLY)
    bodies.must_be(found, "mailEnabled", False, SECURITY_ONLY)
    # Graph requires mailNickname of every group; nothing depends on a security group's.
    bodies.text(found, "mailNickname")
    name = bodies.text(found, "displayName")
    if not name:
        raise bad_request("A new group needs displayName.")
    rule = dynamic_groups.rule_members(found, is_dynamic=False)
    if found.get(dynamic_groups.TYPES) and not rule.get(dynamic_groups.RULE):
        raise bad_request("A new group of the type DynamicMembership needs membershipRule.")
    members = _bound(call, found)
    if members and rule.get(dynamic_groups.RULE):
        raise bad_request("The members of a group with a rule follow from it: leave them out.")
    commands = [definitions.put_group(id := str(uuid.uuid4()), {"displayName": name, **rule})]
    commands += [definitions.put_member(id, user) for user in members]
    unfinished = await _run_all(call, commands)
    if unfinished is not None:
        return unfinished
    answer = entity(call, groups(call.tenant), id)
    return Answer(201, answer.body, {"location": call.link(f"groups/{id}")})


async def _run_all(call: Call, commands: Iterable[Command]) -> Answer | None:
    """Sends every command; returns the answer of the first whose outcome is not known in time."""
    operations = [await run(call, command) for command in commands]
    late = [operation for operation in operations if operation.status != "applied"]
    return pending(call, late[0]) if late else None


async def change_group(call: Call, key: str) -> Answer:
    """Changes a group's name and membership rule, and adds members."""
    check_allowed(call.parameters, ())
    found = bodies.read(call.body, GROUP, "a group")
    id = group_id(call, key)
    if not found:
        raise bad_request(f"The body names nothing to change; there are {', '.join(GROUP)}.")
    added = _bound(call, found)
    for user in added:
        _refuse_member(call, id, user)
    commands = [definitions.put_member(id, user) for user in added]
    members = dynamic_groups.rule_members(found, _has_rule(call, id))
    if "displayName" in found:
        members["displayName"] = bodies.text(found, "displayName")
    if members:
        commands.insert(0, definitions.put_group(id, members))
    return await _run_all(call, commands) or Answer(204)


def _bound(call: Call, found: dict[str, Any]) -> list[str]:
    """Returns the ids of the users in ``members@odata.bind``, each once."""
    given = bodies.items(found, "members@odata.bind", bodies.MOST_REFERENCES)
    return list(dict.fromkeys(_user_of(call, each) for each in given))


async def delete_group(call: Call, key: str) -> Answer:
    """Deletes a group that has no licences."""
    check_allowed(call.parameters, ())
    id = group_id(call, key)
    held = len(shown_group(call, id)["assignedLicenses"])
    if held:
        raise bad_request(
            f"The group {id!r} has {held} licence{'s' if held > 1 else ''}: remove"
            f" {'them' if held > 1 else 'it'} by assignLicense first."
        )
    return without_content(call, await run(call, definitions.delete_group(id)))


# --- memberships ---------------------------------------------------------------------------------


def _is_member(call: Call, group: str, user: str) -> bool:
    sql = "SELECT 1 FROM members WHERE tenant = ? AND grp = ? AND user = ?"
    return call.db.execute(sql, (call.tenant, group, user)).fetchone() is not None


def _has_rule(call: Call, group: str) -> bool:
    return (queries.group_status(call.db, call.tenant, group) or {}).get(
        "membershipRule"
    ) is not None


def _refuse_members_of_rule(call: Call, group: str) -> None:
    """Refuses a change that would not count (R27). Raises: GraphError."""
    if _has_rule(call, group):
        raise bad_request(f"The members of {group!r} follow from its membership rule.")


def _refuse_member(call: Call, group: str, user: str) -> None:
    _refuse_members_of_rule(call, group)
    if _is_member(call, group, user):
        raise bad_request(
            "One or more added object references already exist for the following modified"
            f" properties: 'members'. The user {user!r} is a member of {group!r}."
        )


def _user_of(call: Call, reference: Any) -> str:
    """Returns the user that an address names. Raises: GraphError."""
    key = bodies.referenced(reference)
    sql = "SELECT 1 FROM groups WHERE tenant = ? AND grp = ? AND NOT deleted"
    nested = "\0" not in key and call.db.execute(sql, (call.tenant, key)).fetchone() is not None
    try:
        return user_id(call, key)
    except GraphError:
        if nested:
            raise bad_request(
                f"{key!r} is a group: only users are members, licences do not pass through nested"
                " groups (R22)."
            ) from None
        raise


async def add_member(call: Call, key: str) -> Answer:
    """Makes a user a member of a group, by its address."""
    check_allowed(call.parameters, ())
    found = bodies.read(call.body, ("@odata.id",), "a reference")
    id = group_id(call, key)
    user = _user_of(call, found.get("@odata.id"))
    _refuse_member(call, id, user)
    return without_content(call, await run(call, definitions.put_member(id, user)))


async def remove_member(call: Call, key: str, user: str) -> Answer:
    """Ends a user's membership of a group."""
    check_allowed(call.parameters, ())
    id, member = group_id(call, key), user_id(call, user)
    _refuse_members_of_rule(call, id)
    if not _is_member(call, id, member):
        raise not_found(f"The user {member!r} is no member of the group {id!r}.")
    return without_content(call, await run(call, definitions.delete_member(id, member)))
