"""Single objects by their ids, and users by their principal names."""

from __future__ import annotations

from streams.console.api.dependencies import NO_GROUP, NO_USER
from streams.console.graph.calls import Answer, Call
from streams.console.graph.errors import bad_request, not_found
from streams.console.graph.filter_syntax import GUID
from streams.console.graph.listings import Source, groups, present, skus, users
from streams.console.graph.options import ENTITY, check_allowed, read_options
from streams.console.graph.properties import LICENSE_DETAILS, ORGANIZATION
from streams.console.graph.views import license_details, organization, selected, view
from streams.console.read_model.pagination import GraphObject


def spellings(id: str) -> tuple[str, str]:
    """Returns an id as it was given, and in the other case that a GUID is written in."""
    return id, id.lower() if GUID.fullmatch(id) else id


def user_id(call: Call, key: str) -> str:
    """Returns the id of the user that an id or a principal name stands for. Raises: GraphError."""
    if "\0" not in key:
        sql = "SELECT user FROM users WHERE tenant = ? AND user IN (?, ?) LIMIT 1"
        row = call.db.execute(sql, (call.tenant, *spellings(key))).fetchone()
        if row:
            return str(row[0])
        found = users_named(call, key)
        if len(found) > 1:
            raise bad_request(f"More than one user has the principal name {key!r}; use the id.")
        if found:
            return found[0]
    raise not_found(NO_USER.format(key, call.tenant))


def users_named(call: Call, name: str) -> list[str]:
    """Returns the ids of up to two users with a principal name, in any case."""
    sql = "SELECT user FROM users WHERE tenant = ? AND upn = ? COLLATE NOCASE LIMIT 2"
    return [row[0] for row in call.db.execute(sql, (call.tenant, name))]


def group_id(call: Call, key: str) -> str:
    """Returns the id of a group that exists. Raises: GraphError."""
    if "\0" not in key:
        sql = "SELECT grp FROM groups WHERE tenant = ? AND grp IN (?, ?) AND NOT deleted LIMIT 1"
        row = call.db.execute(sql, (call.tenant, *spellings(key))).fetchone()
        if row:
            return str(row[0])
    raise not_found(NO_GROUP.format(key, call.tenant))


def entity(call: Call, source: Source, id: str) -> Answer:
    """Returns one object of a source, by its id."""
    options = read_options(source.kind, call.tenant, call.parameters, ENTITY)
    sql = f"SELECT {source.query} AND {source.kind.key} = ?"
    row = call.db.execute(sql, (*source.fixed, id)).fetchone()
    if row is None:
        raise not_found(f"There is no {id!r} in {source.path}.")
    chosen = "" if options.select is None else f"({','.join(options.select)})"
    context = call.context(f"{source.kind.name}{chosen}/$entity")
    return Answer(200, {"@odata.context": context, **present(call, source, row, options)})


def shown_user(call: Call, id: str) -> GraphObject:
    """Returns a user with all properties. Raises: GraphError."""
    return _shown(call, users(call.tenant), id)


def shown_group(call: Call, id: str) -> GraphObject:
    """Returns a group with all properties. Raises: GraphError."""
    return _shown(call, groups(call.tenant), id)


def _shown(call: Call, source: Source, id: str) -> GraphObject:
    sql = f"SELECT {source.query} AND {source.kind.key} = ?"
    row = call.db.execute(sql, (*source.fixed, id)).fetchone()
    if row is None:
        raise not_found(f"There is no {id!r} in {source.path}.")
    return view(source.kind, row)


# --- answers -------------------------------------------------------------------------------------


def sku(call: Call, id: str) -> Answer:
    """Returns a subscribed product by its own id: the tenant's, ``_``, and the product's."""
    prefix = f"{call.tenant}_"
    if not id.startswith(prefix):
        message = f"There is no {id!r} in subscribedSkus: an id is {prefix!r} and the skuId."
        raise not_found(message)
    source = skus(call.tenant)
    for each in spellings(id.removeprefix(prefix)):
        if call.db.execute(f"SELECT {source.query} AND k.sku = ?", (call.tenant, each)).fetchone():
            return entity(call, source, each)
    raise not_found(f"There is no {id!r} in subscribedSkus.")


def details(call: Call, user: str, detail: str | None = None) -> Answer:
    """Returns the details of a user's licences, or one of them."""
    options = read_options(LICENSE_DETAILS, call.tenant, call.parameters, ("$select",))
    id = user_id(call, user)
    found = license_details(call.db, shown_user(call, id))
    name = f"users('{id}')/licenseDetails"
    if detail is None:
        value = [selected(each, options.select) for each in found]
        return Answer(200, {"@odata.context": call.context(name), "value": value})
    for each in found:
        if each["id"] == detail:
            shown = selected(each, options.select)
            return Answer(200, {"@odata.context": call.context(f"{name}/$entity"), **shown})
    raise not_found(f"The user {id!r} has no licence with the id {detail!r}.")


def organizations(call: Call, id: str | None = None) -> Answer:
    """Returns the tenant as the one organization that there is."""
    options = read_options(ORGANIZATION, call.tenant, call.parameters, ("$select",))
    shown = selected(organization(call.db, call.tenant), options.select)
    if id is None:
        return Answer(200, {"@odata.context": call.context("organization"), "value": [shown]})
    if id != call.tenant:
        raise not_found(f"There is no organization {id!r}.")
    return Answer(200, {"@odata.context": call.context("organization/$entity"), **shown})


def directory_object(call: Call, id: str) -> Answer:
    """Returns a user or group by its id, with its type."""
    check_allowed(call.parameters, ("$select",))
    for source in (users(call.tenant), groups(call.tenant)):
        sql = f"SELECT {source.query} AND {source.kind.key} = ?"
        row = call.db.execute(sql, (*source.fixed, id)).fetchone()
        if row is not None:
            options = read_options(source.kind, call.tenant, call.parameters, ("$select",))
            context = call.context("directoryObjects/$entity")
            typed = {"@odata.context": context, "@odata.type": source.kind.type}
            return Answer(200, {**typed, **present(call, source, row, options)})
    raise not_found(f"There is no user or group {id!r} in {call.tenant!r}.")
