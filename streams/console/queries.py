"""What is read of the store: Graph-shaped objects, lists, and figures for the pages."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

from streams.console.lists import Filter, Listing, Row, Shown, contains, yes_or_no

Connection = sqlite3.Connection
NO_SHAPE: tuple[None, list[Any], list[Any]] = (None, [], [])


# --- users ---------------------------------------------------------------------------------------


def user_of_row(row: Row) -> Shown:
    """A user in Graph's form. What was published wins over what the directory sent."""
    _, assigned, states = orjson.loads(row["body"]) if row["body"] else NO_SHAPE
    location, mail = row["location"], row["mail"]
    addresses = orjson.loads(row["addresses"] or "[]")
    updated = cause = None
    sinces: list[Any] = []
    if row["published"]:
        location, mail, addresses, sinces, updated, cause = orjson.loads(row["published"])
    shown = [
        {**state, "since": since, "lastUpdatedDateTime": since}
        for state, since in zip(states, sinces, strict=True)
    ]
    errors = sorted({s["error"] for s in states if s["error"] != "None"})
    return {
        "id": row["user"],
        "displayName": row["name"],
        "userPrincipalName": row["upn"],
        "usageLocation": location,
        "mail": mail,
        "proxyAddresses": addresses,
        "assignedLicenses": assigned,
        "licenseAssignmentStates": shown,
        "licenseErrors": errors,
        "revision": row["revision"] if row["published"] else 0,
        "updatedAt": updated,
        "causedBy": cause,
    }


_USER = (
    "u.user, u.name, u.upn, u.location, u.mail, u.addresses, u.revision, u.published, s.body"
    " FROM users u LEFT JOIN shapes s ON s.shape = u.shape"
)
_WITH = "u.shape IN (SELECT shape FROM paths p WHERE p.tenant = u.tenant AND "
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
    show=user_of_row,
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


def user(db: Connection, tenant: str, id: str) -> Shown | None:
    sql = f"SELECT {_USER} WHERE u.tenant = ? AND u.user = ?"
    row = db.execute(sql, (tenant, id)).fetchone()
    return user_of_row(row) if row else None


def memberships(db: Connection, tenant: str, id: str) -> list[Shown]:
    """The groups that the user is a direct member of, in the order of R8."""
    sql = (
        "SELECT m.grp, m.since, m.place, g.body, g.name FROM members m"
        " LEFT JOIN groups g ON g.tenant = m.tenant AND g.grp = m.grp"
        " WHERE m.tenant = ? AND m.user = ? ORDER BY m.since, m.place, m.grp"
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


def group_of_row(row: Row) -> Shown:
    body = orjson.loads(row["body"])
    return {
        "id": body["group"],
        "displayName": body["displayName"],
        "assignedLicenses": body["assignedLicenses"],
        "licenseProcessingState": {"state": body["licenseProcessingState"]},
        "hasMembersWithLicenseErrors": body["membersWithErrors"] > 0,
        "members": body["members"],
        "membersLicensed": body["membersLicensed"],
        "membersWithErrors": body["membersWithErrors"],
        "errors": body["errors"],
        "deferred": body["deferred"],
        "deleted": body["deleted"],
        "updatedAt": body["updatedAt"],
    }


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
    show=group_of_row,
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
    show=user_of_row,
    columns=USERS.columns,
)

MEMBERS_IN_ERROR = Listing(
    query=f"{_USER} JOIN (SELECT DISTINCT tenant, user FROM errors WHERE tenant = ? AND grp = ?) e"
    " ON e.tenant = u.tenant AND e.user = u.user WHERE 1 = 1",
    key=USERS.key,
    sorts=USERS.sorts,
    filters=MEMBERS.filters,
    show=user_of_row,
    columns=USERS.columns,
)


def group(db: Connection, tenant: str, id: str) -> Shown | None:
    sql = "SELECT grp, body FROM groups WHERE tenant = ? AND grp = ?"
    row = db.execute(sql, (tenant, id)).fetchone()
    return group_of_row(row) if row else None


def group_names(db: Connection, tenant: str, ids: set[str]) -> dict[str, str]:
    """Display names of those of the groups that have one."""
    found = {}
    for id in ids:
        sql = "SELECT name FROM groups WHERE tenant = ? AND grp = ?"
        row = db.execute(sql, (tenant, id)).fetchone()
        if row and row[0]:
            found[id] = row[0]
    return found


# --- errors --------------------------------------------------------------------------------------


def error_of_row(row: Row) -> Shown:
    body = orjson.loads(row["body"])
    group = body["group"]
    return {
        "user": body["user"],
        "userDisplayName": row["user_name"],
        "group": None if group == "direct" else group,
        "groupDisplayName": row["group_name"],
        "skuId": body["skuId"],
        "skuPartNumber": row["part"],
        "state": body["state"],
        "error": body["error"],
        "message": body["message"],
        "details": body["details"],
        "since": body["since"],
        "causedBy": body["causedBy"],
    }


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
    show=error_of_row,
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


def error_causes(db: Connection, tenant: str) -> list[Shown]:
    """Distinct users by error, product and group: what to repair first."""
    sql = (
        "SELECT e.error, e.sku, e.grp, count(DISTINCT e.user) AS users, min(e.since) AS since,"
        " c.part, g.name FROM errors e LEFT JOIN catalog c ON c.sku = e.sku"
        " LEFT JOIN groups g ON g.tenant = e.tenant AND g.grp = e.grp"
        " WHERE e.tenant = ? GROUP BY e.error, e.sku, e.grp ORDER BY users DESC, 1, 2, 3 LIMIT 200"
    )
    return [dict(row) for row in db.execute(sql, (tenant,))]


# --- products ------------------------------------------------------------------------------------


def sku_of_row(row: Row) -> Shown:
    seats = orjson.loads(row["seats"]) if row["seats"] else None
    product = orjson.loads(row["product"]) if row["product"] else None
    units = seats["prepaidUnits"] if seats else orjson.loads(row["units"])
    enabled = units["enabled"] + units["warning"]
    capability = "Enabled" if units["enabled"] else "Warning" if enabled else "Suspended"
    plans = product["servicePlans"] if product else []
    return {
        "id": f"{row['tenant']}_{row['sku']}",
        "skuId": row["sku"],
        "skuPartNumber": (seats or {}).get("skuPartNumber") or row["part"] or row["sku"],
        "displayName": row["name"],
        "appliesTo": "User",
        "capabilityStatus": capability,
        "prepaidUnits": units,
        "consumedUnits": row["consumed"] or 0,
        "availableUnits": enabled if row["available"] is None else row["available"],
        "waitingUsers": row["waiting"] or 0,
        "servicePlans": [
            {
                "servicePlanId": plan["servicePlanId"],
                "servicePlanName": plan.get("servicePlanName", plan["servicePlanId"]),
                "appliesTo": plan.get("appliesTo", "User"),
                "provisioningStatus": "Success",
            }
            for plan in plans
        ],
        "updatedAt": (seats or {}).get("updatedAt"),
    }


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
    show=sku_of_row,
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


def sku(db: Connection, tenant: str, id: str) -> Shown | None:
    row = db.execute(f"SELECT {SKUS.query} AND k.sku = ?", (tenant, id)).fetchone()
    return sku_of_row(row) if row else None


def holders(db: Connection, tenant: str, id: str) -> list[Shown]:
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
    """skuId -> part number and display name, of the products that are defined."""
    found = {}
    for id in ids:
        row = db.execute("SELECT part, name FROM catalog WHERE sku = ?", (id,)).fetchone()
        if row:
            found[id] = (row[0], row[1])
    return found


# --- audit ---------------------------------------------------------------------------------------


def audit_of_row(row: Row) -> Shown:
    body = orjson.loads(row["body"])
    return {"id": str(row["id"]), **body}


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
    show=audit_of_row,
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
DEAD_LETTERS = Listing(
    query="d.id, d.at, d.topic, d.key, d.reason, d.place FROM dead_letters d WHERE 1 = 1",
    key=("d.id",),
    sorts={"time": "d.at"},
    filters={"topic": Filter("d.topic = ?")},
    show=dict,
    columns=("at", "topic", "key", "reason", "place"),
    descending=True,
)


# --- tenants and figures -------------------------------------------------------------------------

# The tenants of millions of users, by one step down the index for each.
_TENANTS = """
WITH RECURSIVE of_users(tenant) AS (
  SELECT min(tenant) FROM users UNION ALL
  SELECT (SELECT min(tenant) FROM users WHERE tenant > of_users.tenant) FROM of_users
  WHERE tenant IS NOT NULL)
SELECT tenant FROM of_users WHERE tenant IS NOT NULL UNION SELECT tenant FROM tenants
UNION SELECT tenant FROM seats UNION SELECT tenant FROM groups ORDER BY 1
"""


def tenants(db: Connection) -> list[str]:
    """Every tenant that anything is known of."""
    return [row[0] for row in db.execute(_TENANTS)]


def tenant(db: Connection, id: str) -> Shown:
    row = db.execute("SELECT name, body FROM tenants WHERE tenant = ?", (id,)).fetchone()
    settings = orjson.loads(row["body"]) if row else {}
    return {
        "id": id,
        "displayName": row["name"] if row else None,
        "usageLocation": settings.get("usageLocation"),
        "policies": {
            "seatRetry": settings.get("seatRetry", "automatic"),
            "onGroupDeletion": settings.get("onGroupDeletion", "convert"),
        },
    }


def figures(db: Connection, id: str) -> Shown:
    """The numbers of a tenant's overview."""

    def one(sql: str) -> int:
        return int(db.execute(sql, (id,)).fetchone()[0])

    errors = db.execute(
        "SELECT error, count(DISTINCT user) AS users FROM errors WHERE tenant = ? GROUP BY error"
        " ORDER BY users DESC",
        (id,),
    )
    return {
        "users": one("SELECT count(*) FROM users WHERE tenant = ?"),
        "licensed": one("SELECT count(*) FROM users WHERE tenant = ? AND shape IS NOT NULL"),
        "usersInError": one("SELECT count(DISTINCT user) FROM errors WHERE tenant = ?"),
        "errors": {row["error"]: row["users"] for row in errors},
        "groups": one("SELECT count(*) FROM groups WHERE tenant = ? AND NOT deleted"),
        "groupsInError": one("SELECT count(*) FROM groups WHERE tenant = ? AND in_error > 0"),
        "processing": one(
            "SELECT count(*) FROM groups WHERE tenant = ? AND state <> 'ProcessingComplete'"
        ),
    }


def results(db: Connection, id: str, cause: str) -> list[Shown]:
    """What the processor answered to a change, oldest first."""
    sql = "SELECT body FROM results WHERE cause = ? AND tenant = ? ORDER BY rowid"
    return [orjson.loads(row[0]) for row in db.execute(sql, (cause, id))]
