"""Lists: the rows of a source that pass a filter, in order, page by page.

A page begins after the sorted values of the last row before it, so rows that come and go neither
repeat nor hide others. A token is bound to the list, filter and order that it was made for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Any

import orjson

from streams.console.graph.calls import Answer, Call
from streams.console.graph.conditions import Sql
from streams.console.graph.errors import bad_request
from streams.console.graph.options import (
    COUNT,
    LIST,
    REFERENCES,
    Expansion,
    Options,
    Order,
    read_options,
)
from streams.console.graph.properties import GROUPS, SKUS, USERS, Kind
from streams.console.graph.views import license_details, selected, view
from streams.console.read_model import queries
from streams.console.read_model.pagination import GraphObject
from streams.console.read_model.rule_matches import HAS_RULE, IS_RULE_MEMBER, WITH_ATTRIBUTES

BOUND_TO = ("$filter", "$search", "$orderby")
Row = sqlite3.Row


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one kind. ``query``: ``columns FROM … WHERE …``, which takes ``fixed``."""

    kind: Kind
    path: str
    query: str
    fixed: tuple[str, ...]
    mixed: bool = False
    """Graph's type of the list is ``directoryObject``, so that each object carries its own."""


def users(tenant: str) -> Source:
    """Returns the users of a tenant."""
    return Source(USERS, "users", queries.USERS.query, (tenant,))


def groups(tenant: str) -> Source:
    """Returns the groups of a tenant, without deleted ones."""
    return Source(GROUPS, "groups", f"{queries.GROUPS.query} AND NOT g.deleted", (tenant,))


def skus(tenant: str) -> Source:
    """Returns the products that a tenant has subscribed."""
    return Source(SKUS, "subscribedSkus", queries.SKUS.query, (tenant,))


def members(
    db: sqlite3.Connection, tenant: str, group: str, name: str = "members", mixed: bool = True
) -> Source:
    """Returns the direct members of a group."""
    path, listing = f"groups/{group}/{name}", queries.members_of(db, tenant, group)
    return Source(USERS, path, listing.query, (tenant, group), mixed)


def members_in_error(tenant: str, group: str) -> Source:
    """Returns the members of a group who have errors from its licences."""
    path = f"groups/{group}/membersWithLicenseErrors"
    return Source(USERS, path, queries.MEMBERS_IN_ERROR.query, (tenant, group), True)


_MEMBER_OF = (
    "g.grp, g.body FROM groups g WHERE g.tenant = ?1 AND NOT g.deleted AND g.grp IN ("
    "SELECT m.grp FROM members m JOIN groups g ON g.tenant = m.tenant AND g.grp = m.grp"
    f" WHERE m.tenant = ?1 AND m.user = ?2 AND NOT {HAS_RULE} UNION ALL"
    f" SELECT g.grp FROM groups g JOIN users u ON u.tenant = g.tenant {WITH_ATTRIBUTES}"
    f" WHERE g.tenant = ?1 AND u.user = ?2 AND {HAS_RULE} AND {IS_RULE_MEMBER})"
)


def member_of(tenant: str, user: str, name: str = "memberOf", mixed: bool = True) -> Source:
    """Returns the groups that a user is a direct member of."""
    return Source(GROUPS, f"users/{user}/{name}", _MEMBER_OF, (tenant, user), mixed)


# --- pages ---------------------------------------------------------------------------------------


def page(db: sqlite3.Connection, source: Source, options: Options) -> tuple[list[Row], str | None]:
    """Returns the rows of a page and the token of the next one. Raises: GraphError."""
    orders = [*options.orders, Order(source.kind.key, False)]
    where, values = _where(options.where)
    if options.token is not None:
        after = _after(orders, _decode(options.token, _digest(source, options), len(orders)))
        where, values = f"{where} AND ({after.text})", values + after.values
    sorts = ", ".join(f"{order.sql} AS _sort{i}" for i, order in enumerate(orders))
    order = ", ".join(f"{each.sql} {'DESC' if each.descending else 'ASC'}" for each in orders)
    sql = f"SELECT {sorts}, {source.query}{where} ORDER BY {order} LIMIT ?"
    found = db.execute(sql, (*source.fixed, *values, options.top + 1)).fetchall()
    if len(found) <= options.top:
        return found, None
    last = found[options.top - 1]
    place = [_digest(source, options), *(last[f"_sort{i}"] for i in range(len(orders)))]
    return found[: options.top], _encode(place)


def _where(condition: Sql | None) -> tuple[str, tuple[Any, ...]]:
    return ("", ()) if condition is None else (f" AND ({condition.text})", condition.values)


def _after(orders: list[Order], place: list[Any]) -> Sql:
    """Returns the condition of rows after a place, where each order has a direction of its own."""
    first, value = orders[0], place[0]
    beyond = f"{first.sql} {'<' if first.descending else '>'} ?"
    if len(orders) == 1:
        return Sql(beyond, (value,))
    rest = _after(orders[1:], place[1:])
    return Sql(f"{beyond} OR ({first.sql} = ? AND ({rest.text}))", (value, value, *rest.values))


def count(db: sqlite3.Connection, source: Source, condition: Sql | None) -> int:
    """Returns the number of rows."""
    tables = source.query[source.query.index(" FROM ") :]
    where, values = _where(condition)
    row = db.execute(f"SELECT count(*){tables}{where}", (*source.fixed, *values)).fetchone()
    return int(row[0])


def _digest(source: Source, options: Options) -> str:
    bound = [source.path, source.fixed[0], *(options.given.get(name) for name in BOUND_TO)]
    return hashlib.blake2b(orjson.dumps(bound), digest_size=6).hexdigest()


def _encode(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _decode(token: str, digest: str, places: int) -> list[Any]:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if found[0] == digest and len(found) == places + 1 and all(map(_is_place, found[1:])):
            return list(found[1:])
    except (ValueError, TypeError, KeyError, IndexError, binascii.Error):
        pass
    raise bad_request("$skiptoken is not one that this list gave for this filter and order.")


def _is_place(value: Any) -> bool:
    """Returns True for a value that SQLite compares; its whole numbers have 64 bits."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return isinstance(value, str)


# --- answers -------------------------------------------------------------------------------------


def collection(call: Call, source: Source) -> Answer:
    """Returns a page of a list."""
    options = read_options(source.kind, call.tenant, call.parameters, LIST)
    rows, following = page(call.db, source, options)
    body: dict[str, Any] = {"@odata.context": call.context(_described(source, options.select))}
    if options.count:
        body["@odata.count"] = count(call.db, source, options.where)
    if following is not None:
        body["@odata.nextLink"] = _next(call, following)
    body["value"] = [present(call, source, row, options) for row in rows]
    return Answer(200, body)


def _described(source: Source, select: tuple[str, ...] | None) -> str:
    name = "directoryObjects" if source.mixed else source.kind.name
    return name if select is None else f"{name}({','.join(select)})"


def _next(call: Call, token: str) -> str:
    kept = {name[1:]: value for name, value in call.parameters.items()}
    return call.link("/".join(call.path), **{**kept, "skiptoken": token})


def present(call: Call, source: Source, row: Row, options: Options) -> GraphObject:
    """Returns a row as it is shown: typed, selected and expanded."""
    shown = view(source.kind, row)
    more: GraphObject = {}
    for expansion in options.expand:
        more |= expand(call, shown, expansion)
    typed = {"@odata.type": source.kind.type} if source.mixed else {}
    return {**typed, **selected(shown, options.select), **more}


def expand(call: Call, shown: GraphObject, expansion: Expansion) -> GraphObject:
    """Returns an expanded navigation property of an object, and the link to the rest of it."""
    name = expansion.name
    if name == "licenseDetails":
        found = license_details(call.db, shown)[: expansion.top]
        return {name: [selected(each, expansion.select) for each in found]}
    if name in ("memberOf", "transitiveMemberOf"):
        source = member_of(call.tenant, shown["id"], name)
    else:
        source = members(call.db, call.tenant, shown["id"], name)
    options = Options({}, expansion.select, top=expansion.top)
    rows, following = page(call.db, source, options)
    found = [present(call, source, row, options) for row in rows]
    if following is None:
        return {name: found}
    select = {"select": ",".join(expansion.select)} if expansion.select else {}
    link = call.link(source.path, **select, skiptoken=following)
    return {name: found, f"{name}@odata.nextLink": link}


def counted(call: Call, source: Source) -> Answer:
    """Returns the number of objects, as text."""
    options = read_options(source.kind, call.tenant, call.parameters, COUNT)
    return Answer(200, str(count(call.db, source, options.where)))


def references(call: Call, source: Source) -> Answer:
    """Returns the objects' addresses only."""
    options = read_options(source.kind, call.tenant, call.parameters, REFERENCES)
    rows, following = page(call.db, source, options)
    body: dict[str, Any] = {"@odata.context": call.context("Collection($ref)")}
    if options.count:
        body["@odata.count"] = count(call.db, source, options.where)
    if following is not None:
        body["@odata.nextLink"] = _next(call, following)
    ids = (view(source.kind, row)["id"] for row in rows)
    body["value"] = [{"@odata.id": f"{call.root}/directoryObjects/{id}"} for id in ids]
    return Answer(200, body)
