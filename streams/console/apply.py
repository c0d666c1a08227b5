"""Records become rows: one function per topic, a batch at a time, prepared statements only.

Of a compacted topic the last record of a key in the batch counts. What a record of an input topic
means is decided by the workers' own decoder, so what they refuse is not shown either.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from engine import events as ev
from engine.events import ABSENT
from streams.contract import DECODERS, Rejected

MINUTE = 60_000


class Rec(NamedTuple):
    """What is needed of a Kafka record; aiokafka's own records fit as well."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] = ()


Records = Iterable[Any]
Apply = Callable[["Applier", Records], None]


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _key(record: Any, parts: int) -> tuple[str, ...] | None:
    """The parts of a key, or None if it is nothing that this system writes."""
    found = tuple((record.key or b"").decode(errors="replace").split("/"))
    return found if len(found) == parts else None


def _latest(records: Records, parts: int) -> dict[tuple[str, ...], Any]:
    """Key -> decoded value of its last record, None for a tombstone."""
    raw = {key: record.value for record in records if (key := _key(record, parts))}
    return {key: None if value is None else orjson.loads(value) for key, value in raw.items()}


class Applier:
    """Writes batches on one connection, inside the caller's transaction.

    Every shape there is stands in ``shapes``, by the digest of its content.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection
        self.many = connection.executemany
        self.shapes: dict[bytes, int] = dict(connection.execute("SELECT digest, shape FROM shapes"))
        self._next = 1 + max(self.shapes.values(), default=0)
        self._made: list[tuple[int, str, bytes, str]] = []
        self._paths: list[tuple[Any, ...]] = []

    def apply(self, topic: str, records: Records) -> None:
        APPLIERS[topic](self, records)

    def shape(self, tenant: str, assigned: Any, states: Any) -> int:
        """The id of the shape of these licences; a new one is stored by :meth:`keep_shapes`."""
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
        self.many("INSERT INTO shapes VALUES(?, ?, ?, ?)", self._made)
        self.many("INSERT INTO paths VALUES(?, ?, ?, ?, ?, ?)", sorted(self._paths))
        self._made, self._paths = [], []


# --- outputs -------------------------------------------------------------------------------------

_PUBLISH = """
INSERT INTO users(tenant, user, find, shape, revision, published) VALUES(?, ?, ?, ?, ?, ?)
ON CONFLICT(tenant, user) DO UPDATE SET shape=excluded.shape, revision=excluded.revision,
  published=excluded.published, find=CASE WHEN known THEN find ELSE excluded.find END
"""
_UNPUBLISH = "UPDATE users SET shape=NULL, published=NULL WHERE tenant=? AND user=?"
_FORGET = "DELETE FROM users WHERE tenant=? AND user=? AND NOT known AND shape IS NULL"


def _user_licenses(to: Applier, records: Records) -> None:
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
            value["updatedAt"], value["causedBy"],
        ]  # fmt: skip
        shape = to.shape(tenant, value["assignedLicenses"], states)
        find = _find(user, None, None, value["mail"], value["proxyAddresses"])
        rows.append((tenant, user, find, shape, value["revision"], _text(published)))
    to.keep_shapes()
    to.many(_PUBLISH, sorted(rows))
    to.many(_UNPUBLISH, gone)
    to.many(_FORGET, gone)


def _find(
    user: str, name: str | None, upn: str | None, mail: str | None, addresses: Iterable[str] | None
) -> str:
    """What a search looks in, in lower case."""
    known = dict.fromkeys([user, name, upn, mail, *(addresses or ())])
    return "\n".join(text for text in known if text).lower()


def _errors(to: Applier, records: Records) -> None:
    found = _latest(records, 4)
    to.many(
        "INSERT OR REPLACE INTO errors VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*key, v["state"], v["error"], v["since"], _text(v))
            for key, v in found.items()
            if v is not None
        ],
    )
    to.many(
        "DELETE FROM errors WHERE tenant=? AND user=? AND grp=? AND sku=?",
        [key for key, v in found.items() if v is None],
    )


def _group_status(to: Applier, records: Records) -> None:
    to.many(
        "INSERT OR REPLACE INTO groups VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *key, v["displayName"], v["deleted"], v["licenseProcessingState"], v["members"],
                v["membersLicensed"], v["membersWithErrors"], _text(v),
            )
            for key, v in _latest(records, 2).items()
            if v is not None
        ],
    )  # fmt: skip


def _product_seats(to: Applier, records: Records) -> None:
    records = list(records)
    to.many(
        "INSERT OR REPLACE INTO seats VALUES(?, ?, ?, ?, ?, ?)",
        [
            (*key, v["consumedUnits"], v["availableUnits"], v["waitingUsers"], _text(v))
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


def _results(to: Applier, records: Records) -> None:
    found = [(orjson.loads(r.value), r.timestamp) for r in records if r.value]
    to.many(
        "INSERT INTO results VALUES(?, ?, ?, ?, ?)",
        [(v["causedBy"], v["tenant"], at, v["status"], _text(v)) for v, at in found],
    )


def _audit(to: Applier, records: Records) -> None:
    found = [orjson.loads(r.value) for r in records if r.value]
    to.many(
        "INSERT INTO audit(tenant, time, kind, target, activity, result, who, cause, body)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                v["tenant"], v["time"], v["target"]["type"], v["target"]["id"], v["activity"],
                v["result"], v["initiatedBy"], v["causedBy"], _text(v),
            )
            for v in found
        ],
    )  # fmt: skip


def _dead_letters(to: Applier, records: Records) -> None:
    rows = []
    for record in records:
        told = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
        place = f"{told.get('dlq.topic')}/{told.get('dlq.partition')}/{told.get('dlq.offset')}"
        key = (record.key or b"").decode(errors="backslashreplace")
        reason = told.get("dlq.reason", "")
        rows.append((record.timestamp, told.get("dlq.topic", ""), key, reason, place))
    to.many("INSERT INTO dead_letters(at, topic, key, reason, place) VALUES(?, ?, ?, ?, ?)", rows)


# --- inputs --------------------------------------------------------------------------------------

_KNOW = """
INSERT INTO users(tenant, user, known, name, upn, location, mail, addresses, find)
VALUES(?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT(tenant, user) DO UPDATE SET known=1,
  name=CASE WHEN ?9 & 1 THEN ?3 ELSE name END, upn=CASE WHEN ?9 & 2 THEN ?4 ELSE upn END,
  location=CASE WHEN ?9 & 4 THEN ?5 ELSE location END, mail=CASE WHEN ?9 & 8 THEN ?6 ELSE mail END,
  addresses=CASE WHEN ?9 & 16 THEN ?7 ELSE addresses END,
  find=CASE WHEN ?9 = 31 THEN ?8 ELSE lower(?2 || char(10) || coalesce(
    CASE WHEN ?9 & 1 THEN ?3 ELSE name END, '') || char(10) || coalesce(
    CASE WHEN ?9 & 2 THEN ?4 ELSE upn END, '') || char(10) || coalesce(
    CASE WHEN ?9 & 8 THEN ?6 ELSE mail END, '') || char(10) || coalesce(
    CASE WHEN ?9 & 16 THEN ?7 ELSE addresses END, '')) END
"""
_UNKNOW = (
    "UPDATE users SET known=0, name=NULL, upn=NULL, location=NULL, mail=NULL, addresses=NULL"
    " WHERE tenant=? AND user=?"
)


class _Facts:
    """A batch of user changes, folded: what is left to write of each user."""

    def __init__(self) -> None:
        self.people: dict[tuple[str, str], list[Any]] = {}
        self.members: dict[tuple[str, str], dict[str, tuple[bool, int, int]]] = {}
        self.gone: dict[tuple[str, str], None] = {}

    def upsert(self, event: ev.UserUpserted, name: Any) -> None:
        given = (name, event[3], event[4], event[5], event[6])
        key = (event.tenant, event.user)
        known = self.people.get(key)
        if known is None:
            self.people[key] = list(given)
            return
        for i, value in enumerate(given):
            if value is not ABSENT:
                known[i] = value

    def delete(self, key: tuple[str, str]) -> None:
        self.people.pop(key, None)
        self.members.pop(key, None)
        self.gone[key] = None

    def join(self, event: ev.MembershipAdded, at: int, offset: int) -> None:
        groups = self.members.setdefault((event.tenant, event.user), {})
        known = groups.get(event.group)
        if known is None:
            groups[event.group] = (False, at, offset)
        elif known[1] < 0:
            groups[event.group] = (True, at, offset)

    def leave(self, event: ev.MembershipRemoved) -> None:
        groups = self.members.setdefault((event.tenant, event.user), {})
        groups[event.group] = (True, -1, 0)

    def write(self, to: Applier) -> None:
        to.many(_UNKNOW, self.gone)
        to.many(_FORGET, self.gone)
        to.many("DELETE FROM members WHERE tenant=? AND user=?", self.gone)
        to.many(_KNOW, map(_person, sorted(self.people.items(), key=itemgetter(0))))
        added, left = [], []
        for key, groups in self.members.items():
            for group, (replaces, since, place) in groups.items():
                if replaces:
                    left.append((*key, group))
                if since >= 0:
                    added.append((*key, group, since, place))
        to.many("DELETE FROM members WHERE tenant=? AND user=? AND grp=?", left)
        to.many("INSERT OR IGNORE INTO members VALUES(?, ?, ?, ?, ?)", sorted(added))


def _person(item: tuple[tuple[str, str], list[Any]]) -> tuple[Any, ...]:
    (tenant, user), given = item
    mask = sum(1 << i for i, value in enumerate(given) if value is not ABSENT)
    name, upn, location, mail, addresses = (None if v is ABSENT else v for v in given)
    find = _find(user, name, upn, mail, addresses)
    listed = None if addresses is None else _text(addresses)
    return tenant, user, name, upn, location, mail, listed, find, mask


def _display_name(value: bytes) -> Any:
    body = orjson.loads(value)
    data = body.get("data")
    return (data if isinstance(data, dict) else body).get("displayName", ABSENT)


def _user_changes(to: Applier, records: Records) -> None:
    decode, facts = DECODERS["user-changes"], _Facts()
    for record in records:
        decoded = decode(record.key, record.value, record.headers)
        if isinstance(decoded, Rejected):
            continue
        event = decoded[0]
        if isinstance(event, ev.UserUpserted):
            facts.upsert(event, _display_name(record.value))
        elif isinstance(event, ev.MembershipAdded):
            facts.join(event, record.timestamp, record.offset)
        elif isinstance(event, ev.MembershipRemoved):
            facts.leave(event)
        elif isinstance(event, ev.UserDeleted):
            facts.delete((event.tenant, event.user))
    facts.write(to)


def _accepted(topic: str, records: Records) -> Iterable[tuple[Any, Any, dict[str, Any]]]:
    """The engine's event, the record and its body, of the records that the workers accept."""
    for record in records:
        decoded = DECODERS[topic](record.key, record.value, record.headers)
        if not isinstance(decoded, Rejected):
            body = orjson.loads(record.value)
            data = body.get("data")
            yield decoded[0], record, data if isinstance(data, dict) else body


def _catalog(to: Applier, records: Records) -> None:
    to.many(
        "INSERT OR REPLACE INTO catalog VALUES(?, ?, ?, ?)",
        [
            (
                event.sku,
                event.part_number,
                event.display_name,
                _text({**body, "type": "product.defined", "id": event.id}),
            )
            for event, _, body in _accepted("catalog", records)
        ],
    )


def _subscriptions(to: Applier, records: Records) -> None:
    to.many(
        "INSERT OR REPLACE INTO subscriptions VALUES(?, ?, ?)",
        [
            (
                event.tenant,
                event.sku,
                _text(dict(zip(_UNITS, event[3:], strict=True))),
            )
            for event, _, _ in _accepted("subscriptions", records)
        ],
    )


_UNITS = ("enabled", "warning", "suspended", "lockedOut")


def _tenants(to: Applier, records: Records) -> None:
    """A patch: what a record does not give stays."""
    for event, _, body in _accepted("tenants", records):
        sql = "SELECT name, body FROM tenants WHERE tenant=?"
        row = to.db.execute(sql, (event.tenant,)).fetchone() or (None, "{}")
        name, known = body.get("displayName", row[0]), orjson.loads(row[1])
        given = {
            "usageLocation": event.usage_location,
            "seatRetry": event.seat_retry,
            "onGroupDeletion": event.on_group_deletion,
        }
        known |= {member: value for member, value in given.items() if value is not ABSENT}
        row = (event.tenant, name, _text(known))
        to.db.execute("INSERT OR REPLACE INTO tenants VALUES(?, ?, ?)", row)


APPLIERS: dict[str, Apply] = {
    "user-licenses": _user_licenses,
    "errors": _errors,
    "group-status": _group_status,
    "product-seats": _product_seats,
    "results": _results,
    "audit": _audit,
    "dead-letters": _dead_letters,
    "user-changes": _user_changes,
    "catalog": _catalog,
    "subscriptions": _subscriptions,
    "tenants": _tenants,
}
FOLLOWED = tuple(APPLIERS)
