"""Projections of output records: one function per topic, a batch at a time.

Of a compacted topic, only the last record of a key in the batch is written.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import orjson

MINUTE = 60_000


Records = Iterable[Any]
"""Kafka records, as aiokafka has them: key, value, timestamp, offset and headers are used."""
Projection = Callable[["ProjectionWriter", Records], None]


def text_of(value: Any) -> str:
    """Returns a value as JSON text."""
    return orjson.dumps(value).decode()


def _key(record: Any, parts: int) -> tuple[str, ...] | None:
    """Returns the parts of a key, or None if it is no key of this topic."""
    found = tuple((record.key or b"").decode(errors="replace").split("/"))
    return found if len(found) == parts else None


def _latest(records: Records, parts: int) -> dict[tuple[str, ...], Any]:
    """Returns key -> decoded value of its last record; None is a tombstone."""
    raw = {key: record.value for record in records if (key := _key(record, parts))}
    return {key: None if value is None else orjson.loads(value) for key, value in raw.items()}


class ProjectionWriter:
    """Writes batches on one connection, inside the caller's transaction.

    ``shapes``: digest of the content -> id of every stored shape.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection
        self.many = connection.executemany
        self.shapes: dict[bytes, int] = dict(connection.execute("SELECT digest, shape FROM shapes"))
        self._next = 1 + max(self.shapes.values(), default=0)
        self._made: list[tuple[int, str, bytes, str]] = []
        self._paths: list[tuple[Any, ...]] = []

    def shape(self, tenant: str, assigned: Any, states: Any) -> int:
        """Returns the id of the shape of these licences; a new one is stored by ``keep_shapes``."""
        body = orjson.dumps((tenant, assigned, states))
        digest = hashlib.blake2b(body, digest_size=16).digest()
        found = self.shapes.get(digest)
        if found is None:
            found = self.shapes[digest] = self._next
            self._next += 1
            self._made.append((found, tenant, digest, body.decode()))
            for s in states:
                group = s["assignedByGroup"] or ""
                self._paths.append((tenant, s["skuId"], group, s["state"], s["error"], found))
        return found

    def keep_shapes(self) -> None:
        """Stores the new shapes."""
        self.many("INSERT INTO shapes VALUES(?, ?, ?, ?)", self._made)
        self.many("INSERT INTO paths VALUES(?, ?, ?, ?, ?, ?)", sorted(self._paths))
        self._made, self._paths = [], []


# --- outputs -------------------------------------------------------------------------------------

_PUBLISH = """
INSERT INTO users(tenant, user, find, shape, revision, published) VALUES(?, ?, ?, ?, ?, ?)
ON CONFLICT(tenant, user) DO UPDATE SET shape=excluded.shape, revision=excluded.revision,
  published=excluded.published, direct=NULL, find=CASE WHEN known THEN find ELSE excluded.find END
"""
_UNPUBLISH = "UPDATE users SET shape=NULL, published=NULL, direct=? WHERE tenant=? AND user=?"
# R22: the tombstone of a user in the recycle bin may come before its deletion or after it.
_WERE_DIRECT = "UPDATE recycle_bin SET direct=? WHERE tenant=? AND user=?"
_LICENCES = (
    "SELECT s.body FROM users u JOIN shapes s ON s.shape = u.shape WHERE u.tenant=? AND u.user=?"
)
FORGET = "DELETE FROM users WHERE tenant=? AND user=? AND NOT known AND shape IS NULL"


def _user_licenses(to: ProjectionWriter, records: Records) -> None:
    records = list(records)
    rows, gone = [], []
    for key, value in _latest(records, 2).items():
        tenant, user = key
        if value is None:
            gone.append(key)
            continue
        states = value["licenseAssignmentStates"]
        sinces = [state.pop("since") for state in states]
        published = [
            value["usageLocation"], value["mail"], value["proxyAddresses"], sinces,
            value["updatedAt"], value["causedBy"], value.get("effectiveUsageLocation"),
            value.get("mailNickname"),
        ]  # fmt: skip
        shape = to.shape(tenant, value["assignedLicenses"], states)
        find = search_text(user, None, None, value["mail"], value["proxyAddresses"])
        rows.append((tenant, user, find, shape, value["revision"], text_of(published)))
    to.keep_shapes()
    to.many(_PUBLISH, sorted(rows))
    _unpublish(to, gone, records)


def _unpublish(to: ProjectionWriter, gone: list[tuple[str, ...]], records: list[Any]) -> None:
    """Applies tombstones; keeps the direct licences of before for users in the recycle bin."""
    ended = set(gone)
    raw = {k: r.value for r in records if r.value is not None and (k := _key(r, 2)) in ended}
    direct = []
    for key in gone:
        if key in raw:
            states = orjson.loads(raw[key])["licenseAssignmentStates"]
        else:
            row = to.db.execute(_LICENCES, key).fetchone()
            states = orjson.loads(row[0])[2] if row else []
        direct.append((_direct_of(states), *key))
    to.many(_UNPUBLISH, direct)
    to.many(_WERE_DIRECT, direct)
    to.many(FORGET, gone)


def _direct_of(states: list[dict[str, Any]]) -> str:
    held = [s for s in states if s["assignedByGroup"] is None and s["state"] != "Error"]
    return text_of([[s["skuId"], s["disabledPlans"]] for s in held])


def search_text(
    user: str, name: str | None, upn: str | None, mail: str | None, addresses: Iterable[str] | None
) -> str:
    """Returns the text that a search looks in, in lower case."""
    known = dict.fromkeys([user, name, upn, mail, *(addresses or ())])
    return "\n".join(text for text in known if text).lower()


def _errors(to: ProjectionWriter, records: Records) -> None:
    found = _latest(records, 4)
    to.many(
        "INSERT OR REPLACE INTO errors VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*key, v["state"], v["error"], v["since"], text_of(v))
            for key, v in found.items()
            if v is not None
        ],
    )
    to.many(
        "DELETE FROM errors WHERE tenant=? AND user=? AND grp=? AND sku=?",
        [key for key, v in found.items() if v is None],
    )


def _group_status(to: ProjectionWriter, records: Records) -> None:
    to.many(
        "INSERT OR REPLACE INTO groups VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *key, v["displayName"], v["deleted"], v["licenseProcessingState"], v["members"],
                v["membersLicensed"], v["membersWithErrors"], text_of(v),
            )
            for key, v in _latest(records, 2).items()
            if v is not None
        ],
    )  # fmt: skip


def _product_seats(to: ProjectionWriter, records: Records) -> None:
    records = list(records)
    to.many(
        "INSERT OR REPLACE INTO seats VALUES(?, ?, ?, ?, ?, ?)",
        [
            (*key, v["consumedUnits"], v["availableUnits"], v["waitingUsers"], text_of(v))
            for key, v in _latest(records, 2).items()
            if v is not None
        ],
    )
    history = {}
    for record in records:
        if (key := _key(record, 2)) and record.value is not None:
            v = orjson.loads(record.value)
            units = v["consumedUnits"] + v["availableUnits"]
            history[key, record.timestamp // MINUTE] = (v["consumedUnits"], units)
    to.many(
        "INSERT OR REPLACE INTO seat_history VALUES(?, ?, ?, ?, ?)",
        [(*key, minute, *figures) for (key, minute), figures in history.items()],
    )


def _results(to: ProjectionWriter, records: Records) -> None:
    found = [(orjson.loads(r.value), r.timestamp) for r in records if r.value]
    to.many(
        "INSERT INTO results VALUES(?, ?, ?, ?, ?)",
        [(v["causedBy"], v["tenant"], at, v["status"], text_of(v)) for v, at in found],
    )
    done = [(v["causedBy"], v["tenant"]) for v, _ in found if v["status"] != "deferred"]
    to.many("DELETE FROM changes WHERE cause = ? AND tenant = ?", done)
    applied = [v for v, _ in found if v["status"] == "applied" and "user" in v]
    restored = [(v["tenant"], v["user"]) for v in applied]
    to.many("UPDATE users SET direct=NULL WHERE tenant=? AND user=?", restored)


def _audit(to: ProjectionWriter, records: Records) -> None:
    found = [(orjson.loads(r.value), r.value.decode()) for r in records if r.value]
    to.many(
        "INSERT INTO audit(tenant, time, kind, target, activity, result, who, cause, body)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                v["tenant"], v["time"], v["target"]["type"], v["target"]["id"], v["activity"],
                v["result"], v["initiatedBy"], v["causedBy"], body,
            )
            for v, body in found
        ],
    )  # fmt: skip


def _dead_letters(to: ProjectionWriter, records: Records) -> None:
    rows = []
    for record in records:
        headers = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
        place = (
            f"{headers.get('dlq.topic')}/{headers.get('dlq.partition')}/{headers.get('dlq.offset')}"
        )
        key = (record.key or b"").decode(errors="backslashreplace")
        topic, reason = headers.get("dlq.topic", ""), headers.get("dlq.reason", "")
        letter = f"{record.partition}@{record.offset}"
        code = headers.get("dlq.code")
        rows.append((record.timestamp, topic, key, reason, place, code, letter))
    to.many(
        "INSERT INTO dead_letters(at, topic, key, reason, place, code, letter)"
        " VALUES(?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


PROJECTIONS: dict[str, Projection] = {
    "user-licenses": _user_licenses,
    "errors": _errors,
    "group-status": _group_status,
    "product-seats": _product_seats,
    "results": _results,
    "audit": _audit,
    "dead-letters": _dead_letters,
}
"""Of the outputs; :mod:`streams.console.read_model.input_projections` adds those of the inputs."""
