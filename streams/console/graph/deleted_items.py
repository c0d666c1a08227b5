"""Graph's deleted items: the users in the recycle bin (R22), until they come back or are erased."""

from __future__ import annotations

from streams.console.commands import definitions
from streams.console.graph import bodies
from streams.console.graph.calls import Answer, Call
from streams.console.graph.changes import pending, run, without_content
from streams.console.graph.directory import refuse_taken_name
from streams.console.graph.errors import not_found
from streams.console.graph.listings import Source, users
from streams.console.graph.objects import entity, spellings
from streams.console.graph.options import check_allowed
from streams.console.graph.properties import DELETED_USERS

PATH = "directory/deletedItems"


def deleted_users(tenant: str) -> Source:
    """Returns the users in the recycle bin of a tenant."""
    query = (
        "r.user, r.name, r.upn, r.location, r.mail, r.nickname FROM recycle_bin r"
        " WHERE r.tenant = ?"
    )
    return Source(DELETED_USERS, f"{PATH}/microsoft.graph.user", query, (tenant,))


def _deleted_id(call: Call, key: str) -> str:
    """Returns the id of a user in the recycle bin. Raises: GraphError."""
    if "\0" not in key:
        sql = "SELECT user FROM recycle_bin WHERE tenant = ? AND user IN (?, ?) LIMIT 1"
        row = call.db.execute(sql, (call.tenant, *spellings(key))).fetchone()
        if row:
            return str(row[0])
    raise not_found(f"There is no deleted user {key!r} in {call.tenant!r}.")


def deleted_user(call: Call, key: str) -> Answer:
    """Returns a user in the recycle bin."""
    return entity(call, deleted_users(call.tenant), _deleted_id(call, key))


async def restore(call: Call, key: str) -> Answer:
    """Takes a user out of the recycle bin, with memberships and direct licences."""
    check_allowed(call.parameters, ())
    if call.body is not None:
        bodies.read(call.body, (), "this request")
    id = _deleted_id(call, key)
    sql = "SELECT upn FROM recycle_bin WHERE tenant = ? AND user = ?"
    (name,) = call.db.execute(sql, (call.tenant, id)).fetchone()
    refuse_taken_name(call, {"userPrincipalName": name}, id)
    operation = await run(call, definitions.put_user(id, {}))
    if operation.status != "applied":
        return pending(call, operation)
    return entity(call, users(call.tenant), id)


async def erase(call: Call, key: str) -> Answer:
    """Deletes a user in the recycle bin for good."""
    check_allowed(call.parameters, ())
    id = _deleted_id(call, key)
    return without_content(call, await run(call, definitions.delete_user(id)))
