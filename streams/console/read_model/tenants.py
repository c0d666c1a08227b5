"""Tenants, the figures of their overviews, and the results of changes."""

from __future__ import annotations

from itertools import islice

import orjson

from streams.console.read_model.pagination import GraphObject
from streams.console.read_model.queries import Connection

# The next tenant of each table by one step down its index, however many rows a tenant has.
_PLACES = ("users", "tenants", "seats", "groups")
_NEXT = "nullif(min({}), ?1)".format(
    ", ".join(f"coalesce((SELECT min(tenant) FROM {p} WHERE tenant > {{0}}), ?1)" for p in _PLACES)
)
_TENANTS = f"""
WITH RECURSIVE known(id) AS (
  SELECT {_NEXT.format("?2")} UNION ALL
  SELECT {_NEXT.format("known.id")} FROM known WHERE known.id IS NOT NULL)
SELECT id FROM known WHERE id IS NOT NULL LIMIT ?3
"""
_AFTER_ALL = "\U0010ffff"  # no id has it


def tenants(
    db: Connection, readable: frozenset[str] | None = None, most: int = 999, after: str = ""
) -> list[str]:
    """Returns the ids of tenants of which anything is known, in their order, after an id.

    ``readable``: the tenants that the caller may read; None means all.
    """
    if readable is None:
        return [row[0] for row in db.execute(_TENANTS, (_AFTER_ALL, after, most))]
    known = (id for id in sorted(readable) if id > after and is_tenant(db, id))
    return list(islice(known, most))


def is_tenant(db: Connection, id: str) -> bool:
    """Returns True if anything is known of the tenant."""
    places = ("tenants", "seats", "groups", "users", "subscriptions", "audit")
    sql = " UNION ALL ".join(f"SELECT 1 FROM {place} WHERE tenant = ?1" for place in places)
    return bool(db.execute(f"SELECT EXISTS ({sql})", (id,)).fetchone()[0])


def tenant(db: Connection, id: str) -> GraphObject:
    """Returns a tenant's name and settings, the defaults included."""
    row = db.execute("SELECT name, body FROM tenants WHERE tenant = ?", (id,)).fetchone()
    settings = orjson.loads(row["body"]) if row else {}
    return {
        "id": id,
        "displayName": row["name"] if row else None,
        "usageLocation": settings.get("usageLocation"),
        "initialDomain": settings.get("initialDomain"),
        "policies": {
            "seatRetry": settings.get("seatRetry", "automatic"),
            "onGroupDeletion": settings.get("onGroupDeletion", "convert"),
        },
    }


def figures(db: Connection, id: str) -> GraphObject:
    """Returns the figures of a tenant's overview."""

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


def results(db: Connection, id: str, cause: str) -> list[GraphObject]:
    """Returns the results of a change, oldest first."""
    sql = "SELECT body FROM results WHERE cause = ? AND tenant = ? ORDER BY rowid"
    return [orjson.loads(row[0]) for row in db.execute(sql, (cause, id))]
