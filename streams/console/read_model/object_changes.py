"""The order in which users, groups and memberships last changed: what delta queries read.

A row for each object, with the number of its last change; the numbers only grow. Triggers write
them, so that no projection can forget one. What is gone leaves a row until it is pruned; a reader
who has not come since then has to read everything again.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

KEEP_GONE_SECONDS = 30 * 86_400
USER, GROUP, MEMBER = "user", "group", "member"

_TABLE = """
CREATE TABLE object_changes(seq INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT, kind TEXT, id TEXT,
  member TEXT, gone INTEGER, at INTEGER, UNIQUE(tenant, kind, id, member))
"""
# Two statements and no INSERT OR REPLACE: in a trigger, the conflict clause of the outer statement
# would apply. AUTOINCREMENT: the number of a row that is deleted is never used again.
_TRIGGER = """
CREATE TRIGGER {name} {when}
BEGIN
  DELETE FROM object_changes
  WHERE tenant = {row}.tenant AND kind = '{kind}' AND id = {id} AND member = {member};
  INSERT INTO object_changes(tenant, kind, id, member, gone, at)
  VALUES({row}.tenant, '{kind}', {id}, {member}, {gone}, {at});
END
"""
_SEEN = ("known", "name", "upn", "location", "mail", "addresses", "nickname", "shape", "published")
# A group's row is replaced with every change of its counts, which no delta query shows.
_SAME_GROUP = """
EXISTS (SELECT 1 FROM groups g WHERE g.tenant = NEW.tenant AND g.grp = NEW.grp
  AND g.name IS NEW.name AND g.deleted IS NEW.deleted AND g.state IS NEW.state
  AND (g.in_error > 0) IS (NEW.in_error > 0)
  AND g.body ->> '$.assignedLicenses' IS NEW.body ->> '$.assignedLicenses')
"""


_NOW = "CAST(strftime('%s', 'now') AS INTEGER)"


def _trigger(name: str, when: str, kind: str, id: str, member: str, gone: int) -> str:
    row, at = id.partition(".")[0], _NOW if gone else "NULL"
    return _TRIGGER.format(
        name=name, when=when, row=row, kind=kind, id=id, member=member, gone=gone, at=at
    )


_CHANGED = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in _SEEN)
SCHEMA = (
    _TABLE,
    _trigger("user_added", "AFTER INSERT ON users", USER, "NEW.user", "''", 0),
    _trigger("user_changed", f"AFTER UPDATE ON users WHEN {_CHANGED}", USER, "NEW.user", "''", 0),
    _trigger("user_removed", "AFTER DELETE ON users", USER, "OLD.user", "''", 1),
    _trigger(
        "group_changed",
        f"BEFORE INSERT ON groups WHEN NOT NEW.deleted AND NOT {_SAME_GROUP}",
        GROUP,
        "NEW.grp",
        "''",
        0,
    ),
    _trigger(
        "group_removed",
        f"BEFORE INSERT ON groups WHEN NEW.deleted AND NOT {_SAME_GROUP}",
        GROUP,
        "NEW.grp",
        "''",
        1,
    ),
    _trigger("member_added", "AFTER INSERT ON members", MEMBER, "NEW.grp", "NEW.user", 0),
    _trigger("member_removed", "AFTER DELETE ON members", MEMBER, "OLD.grp", "OLD.user", 1),
)


class Change(NamedTuple):
    """The last change of an object. ``member``: of a membership, the user; of others, empty."""

    seq: int
    kind: str
    id: str
    member: str
    gone: bool


def newest(db: sqlite3.Connection) -> int:
    """Returns the number of the last change of anything."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'object_changes'").fetchone()
    return int(row[0]) if row else 0


def oldest(db: sqlite3.Connection) -> int:
    """Returns the number from which on nothing has been pruned."""
    row = db.execute("SELECT value FROM meta WHERE name = 'pruned_change'").fetchone()
    return int(row[0]) if row else 0


def epoch(db: sqlite3.Connection) -> str:
    """Returns the name of this numbering; another one begins when the file is rebuilt."""
    row = db.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
    return str(row[0]) if row else ""


def since(
    db: sqlite3.Connection, tenant: str, kinds: tuple[str, ...], seq: int, until: int, most: int
) -> list[Change]:
    """Returns the objects that changed after a number and up to another, in their order."""
    sql = (
        "SELECT seq, kind, id, member, gone FROM object_changes WHERE seq > ? AND seq <= ?"
        f" AND tenant = ? AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY seq LIMIT ?"
    )
    rows = db.execute(sql, (seq, until, tenant, *kinds, most))
    return [Change(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]


def prune(writer: sqlite3.Connection, now: float) -> None:
    """Forgets what has been gone for long, in the caller's transaction."""
    condition = "gone AND at < ?"
    place = (now - KEEP_GONE_SECONDS,)
    found = writer.execute(f"SELECT max(seq) FROM object_changes WHERE {condition}", place)
    last = found.fetchone()[0]
    if last is None:
        return
    writer.execute(f"DELETE FROM object_changes WHERE {condition}", place)
    writer.execute("INSERT OR REPLACE INTO meta VALUES('pruned_change', ?)", (str(last),))
