"""Queries of the read model: objects in Graph's shapes, lists, and figures for pages."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import orjson

from streams.console.read_model.graph_mapping import (
    audit_to_graph,
    error_to_graph,
    group_to_graph,
    sku_to_graph,
    user_to_graph,
)
from streams.console.read_model.pagination import Filter, GraphObject, Listing, contains, yes_or_no
from streams.console.read_model.rule_matches import IS_RULE_MEMBER, WITH_ATTRIBUTES

Connection = sqlite3.Connection


# --- users ---------------------------------------------------------------------------------------


_USER = (
    "u.user, u.name, u.upn, u.location, u.mail, u.addresses, u.nickname, u.revision, u.published,"
    " s.body"
    " FROM users u LEFT JOIN shapes s ON s.shape = u.shape"
)
# ?1 is the tenant. With u.tenant in its place, SQLite runs the inner query for each user.
_WITH = "u.shape IN (SELECT shape FROM paths p WHERE p.tenant = ?1 AND "
USERS = Listing(
    query=f"{_USER} WHERE u.tenant = ?",
    key=("u.user",),
    sorts={
        "id": "u.user",
        "displayName": "coalesce(u.name, '')",
        "userPrincipalName": "coalesce(u.upn, '')",
    },
    filters={
        "search": Filter("u.find LIKE ? ESCAPE '\\'", contains),
        "skuId": Filter(f"{_WITH} p.sku = ?)"),
        "group": Filter(
            f"({_WITH} p.grp = ?) OR EXISTS (SELECT 1 FROM members m WHERE m.tenant = u.tenant"
            " AND m.user = u.user AND m.grp = ?))"
        ),
        "error": Filter(f"{_WITH} p.error = ?)"),
        "state": Filter(f"{_WITH} p.state = ?)"),
        "hasLicenseErrors": Filter(f"(({_WITH} p.error <> 'None')) IS ?)", yes_or_no),
    },
    show=user_to_graph,
    columns=(
        "id",
        "displayName",
        "userPrincipalName",
        "usageLocation",
        "mail",
        "proxyAddresses",
        "assignedLicenses",
        "licenseErrors",
        "revision",
        "updatedAt",
    ),
)


def user(db: Connection, tenant: str, id: str) -> GraphObject | None:
    """Returns a user; None if there is none."""
    sql = f"SELECT {_USER} WHERE u.tenant = ? AND u.user = ?"
    row = db.execute(sql, (tenant, id)).fetchone()
    return user_to_graph(row) if row else None


def group_status(db: Connection, tenant: str, group: str) -> GraphObject | None:
    """Returns the status of a group as it is published; None if there is no such group."""
    sql = "SELECT body FROM groups WHERE tenant = ? AND grp = ?"
    row = db.execute(sql, (tenant, group)).fetchone()
    return orjson.loads(row[0]) if row else None


def kept_memberships(db: Connection, tenant: str, id: str) -> list[tuple[str, int, int]]:
    """Returns the memberships by events that do not count: (group, since, place) (R27)."""
    sql = (
        "SELECT m.grp, m.since, m.place FROM members m"
        " JOIN groups g ON g.tenant = m.tenant AND g.grp = m.grp"
        " WHERE m.tenant = ? AND m.user = ?"
        " AND json_extract(g.body, '$.membershipRule') IS NOT NULL"
    )
    return [tuple(row) for row in db.execute(sql, (tenant, id))]


def memberships(db: Connection, tenant: str, id: str) -> list[GraphObject]:
    """Returns the groups that the user is a direct member of, in the order of R8.

    Without groups that have a rule, where memberships by events do not count (R27).
    """
    sql = (
        "SELECT m.grp, m.since, m.place, g.body, g.name FROM members m"
        " LEFT JOIN groups g ON g.tenant = m.tenant AND g.grp = m.grp"
        " WHERE m.tenant = ? AND m.user = ? AND (g.body IS NULL"
        " OR json_extract(g.body, '$.membershipRule') IS NULL)"
        " ORDER BY m.since, m.place, m.grp"
    )
    return [
        {
            "id": row["grp"],
            "displayName": row["name"],
            "since": row["since"],
            "place": row["place"],
            "group": orjson.loads(row["body"]) if row["body"] else None,
        }
        for row in db.execute(sql, (tenant, id))
    ]


# --- groups --------------------------------------------------------------------------------------


GROUPS = Listing(
    query="g.grp, g.body FROM groups g WHERE g.tenant = ?",
    key=("g.grp",),
    sorts={
        "id": "g.grp",
        "displayName": "coalesce(g.name, '')",
        "members": "g.members",
        "membersLicensed": "g.licensed",
        "membersWithErrors": "g.in_error",
    },
    filters={
        "search": Filter("lower(g.grp || char(10) || coalesce(g.name, '')) LIKE ? ESCAPE '\\'",
                         contains),
        "hasMembersWithLicenseErrors": Filter("(g.in_error > 0) IS ?", yes_or_no),
        "deleted": Filter("g.deleted IS ?", yes_or_no),
        "skuId": Filter(
            "EXISTS (SELECT 1 FROM json_each(g.body, '$.assignedLicenses') l"
            " WHERE l.value ->> 'skuId' = ?)"
        ),
        "state": Filter("g.state = ?"),
    },
    show=group_to_graph,
    columns=(
        "id",
        "displayName",
        "members",
        "membersLicensed",
        "membersWithErrors",
        "errors",
        "licenseProcessingState",
        "assignedLicenses",
        "deferred",
        "deleted",
        "updatedAt",
    ),
)  # fmt: skip

MEMBERS = Listing(
    query=f"{_USER} JOIN members m ON m.tenant = u.tenant AND m.user = u.user"
    " WHERE m.tenant = ? AND m.grp = ?",
    key=USERS.key,
    sorts=USERS.sorts,
    filters={name: USERS.filters[name] for name in ("search", "error", "state")},
    show=user_to_graph,
    columns=USERS.columns,
)

RULE_MEMBERS = replace(
    MEMBERS,
    query=f"{_USER} JOIN groups g ON g.tenant = u.tenant {WITH_ATTRIBUTES}"
    f" WHERE u.tenant = ? AND g.grp = ? AND {IS_RULE_MEMBER}",
)


def members_of(db: Connection, tenant: str, group: str) -> Listing:
    """Returns the listing of a group's members: by events, or by its rule (R27)."""
    return RULE_MEMBERS if "membershipRule" in (group_status(db, tenant, group) or ()) else MEMBERS


MEMBERS_IN_ERROR = Listing(
    query=f"{_USER} JOIN (SELECT DISTINCT tenant, user FROM errors WHERE tenant = ? AND grp = ?) e"
    " ON e.tenant = u.tenant AND e.user = u.user WHERE 1 = 1",
    key=USERS.key,
    sorts=USERS.sorts,
    filters=MEMBERS.filters,
    show=user_to_graph,
    columns=USERS.columns,
)


def group(db: Connection, tenant: str, id: str) -> GraphObject | None:
    """Returns a group; None if there is none."""
    sql = "SELECT grp, body FROM groups WHERE tenant = ? AND grp = ?"
    row = db.execute(sql, (tenant, id)).fetchone()
    return group_to_graph(row) if row else None


def group_names(db: Connection, tenant: str, ids: set[str]) -> dict[str, str]:
    """Returns the display names of the groups that have one, by id."""
    found = {}
    for id in ids:
        sql = "SELECT name FROM groups WHERE tenant = ? AND grp = ?"
        row = db.execute(sql, (tenant, id)).fetchone()
        if row and row[0]:
            found[id] = row[0]
    return found


# --- errors --------------------------------------------------------------------------------------


_ERROR = (
    "e.user, e.grp, e.sku, e.body, u.name AS user_name, g.name AS group_name, c.part"
    " FROM errors e LEFT JOIN users u ON u.tenant = e.tenant AND u.user = e.user"
    " LEFT JOIN groups g ON g.tenant = e.tenant AND g.grp = e.grp"
    " LEFT JOIN catalog c ON c.sku = e.sku"
)
ERRORS = Listing(
    query=f"{_ERROR} WHERE e.tenant = ?",
    key=("e.user", "e.grp", "e.sku"),
    sorts={"user": "e.user", "since": "e.since", "error": "e.error", "skuId": "e.sku"},
    filters={
        "error": Filter("e.error = ?"),
        "skuId": Filter("e.sku = ?"),
        "group": Filter("e.grp = ?"),
        "user": Filter("e.user = ?"),
        "state": Filter("e.state = ?"),
        "search": Filter("coalesce(u.find, e.user) LIKE ? ESCAPE '\\'", contains),
    },
    show=error_to_graph,
    columns=(
        "user",
        "userDisplayName",
        "group",
        "groupDisplayName",
        "skuId",
        "skuPartNumber",
        "state",
        "error",
        "message",
        "since",
        "causedBy",
    ),
)


def error_causes(db: Connection, tenant: str) -> list[GraphObject]:
    """Returns the numbers of users by error, product and group, the largest first."""
    sql = (
        "SELECT e.error, e.sku, e.grp, count(DISTINCT e.user) AS users, min(e.since) AS since,"
        " c.part, g.name FROM errors e LEFT JOIN catalog c ON c.sku = e.sku"
        " LEFT JOIN groups g ON g.tenant = e.tenant AND g.grp = e.grp"
        " WHERE e.tenant = ? GROUP BY e.error, e.sku, e.grp ORDER BY users DESC, 1, 2, 3 LIMIT 200"
    )
    return [dict(row) for row in db.execute(sql, (tenant,))]


# --- products ------------------------------------------------------------------------------------


SKUS = Listing(
    query="k.tenant, k.sku, s.consumed, s.available, s.waiting, s.body AS seats, c.part, c.name,"
    " c.body AS product, b.body AS units"
    " FROM (SELECT tenant, sku FROM seats UNION SELECT tenant, sku FROM subscriptions) k"
    " LEFT JOIN seats s ON s.tenant = k.tenant AND s.sku = k.sku"
    " LEFT JOIN subscriptions b ON b.tenant = k.tenant AND b.sku = k.sku"
    " LEFT JOIN catalog c ON c.sku = k.sku WHERE k.tenant = ?",
    key=("k.sku",),
    sorts={
        "skuId": "k.sku",
        "skuPartNumber": "coalesce(c.part, k.sku)",
        "displayName": "coalesce(c.name, '')",
        "consumedUnits": "coalesce(s.consumed, 0)",
        "availableUnits": "coalesce(s.available, 0)",
        "waitingUsers": "coalesce(s.waiting, 0)",
    },
    filters={
        "search": Filter(
            "lower(k.sku || char(10) || coalesce(c.part, '') || char(10) || coalesce(c.name, ''))"
            " LIKE ? ESCAPE '\\'",
            contains,
        ),
        "waiting": Filter("(coalesce(s.waiting, 0) > 0) IS ?", yes_or_no),
    },
    show=sku_to_graph,
    columns=(
        "skuId",
        "skuPartNumber",
        "displayName",
        "capabilityStatus",
        "prepaidUnits",
        "consumedUnits",
        "availableUnits",
        "waitingUsers",
        "updatedAt",
    ),
)


def sku(db: Connection, tenant: str, id: str) -> GraphObject | None:
    """Returns a product; None if there is none."""
    row = db.execute(f"SELECT {SKUS.query} AND k.sku = ?", (tenant, id)).fetchone()
    return sku_to_graph(row) if row else None


def holders(db: Connection, tenant: str, id: str) -> list[GraphObject]:
    """Users of a product by path and state: who holds it directly or by which group, who waits."""
    sql = (
        "SELECT p.grp, p.state, p.error, count(*) AS users, g.name FROM paths p"
        " JOIN users u ON u.shape = p.shape"
        " LEFT JOIN groups g ON g.tenant = p.tenant AND g.grp = p.grp"
        " WHERE p.tenant = ? AND p.sku = ? GROUP BY p.grp, p.state, p.error"
        " ORDER BY users DESC, p.grp"
    )
    return [dict(row) for row in db.execute(sql, (tenant, id))]


def names_of_skus(db: Connection, ids: set[str]) -> dict[str, tuple[str, str]]:
    """Returns part number and display name of the defined products, by skuId."""
    found = {}
    for id in ids:
        row = db.execute("SELECT part, name FROM catalog WHERE sku = ?", (id,)).fetchone()
        if row:
            found[id] = (row[0], row[1])
    return found


# --- audit ---------------------------------------------------------------------------------------


AUDIT = Listing(
    query="a.id, a.time, a.body FROM audit a WHERE a.tenant = ?",
    key=("a.id",),
    sorts={"time": "a.time"},
    filters={
        "user": Filter("a.kind = 'User' AND a.target = ?"),
        "group": Filter("a.kind = 'Group' AND a.target = ?"),
        "target": Filter("a.target = ?"),
        "activity": Filter("a.activity = ?"),
        "result": Filter("a.result = ?"),
        "initiatedBy": Filter("a.who = ?"),
        "causedBy": Filter("a.cause = ?"),
        "from": Filter("a.time >= ?"),
        "to": Filter("a.time < ?"),
    },
    show=audit_to_graph,
    columns=(
        "time",
        "activity",
        "target",
        "result",
        "resultReason",
        "initiatedBy",
        "modifiedProperties",
        "causedBy",
    ),
    descending=True,
)
ACTIVITIES = (
    "Change user license",
    "Set group license",
    "Start applying group based license to users",
    "Finish applying group based license to users",
    "Trigger group license recalculation",
    "Delete group",
    "LicenseAssignmentAttributeConcurrencyException",
    "Request user license change",
    "Request user license recalculation",
    "Request user update",
    "Request user deletion",
    "Request group license change",
    "Request group license recalculation",
    "Request group update",
    "Request group deletion",
    "Request addition to group",
    "Request removal from group",
    "Request subscription change",
    "Request resending of a dead letter",
)
"""Of the processor, with Entra's names, and of the console's operators."""
DEAD_LETTERS = Listing(
    query="d.id, d.at, d.topic, d.key, d.reason, d.place, d.code, d.letter FROM dead_letters d"
    " WHERE 1 = 1",
    key=("d.id",),
    sorts={"time": "d.at"},
    filters={"topic": Filter("d.topic = ?"), "code": Filter("d.code = ?")},
    show=dict,
    columns=("at", "topic", "key", "reason", "place", "code", "letter"),
    descending=True,
)


def dead_letter(db: Connection, id: int) -> GraphObject | None:
    """Returns a dead letter; None if there is none."""
    row = db.execute(f"SELECT {DEAD_LETTERS.query} AND d.id = ?", (id,)).fetchone()
    return dict(row) if row else None
