"""Projections of input records: names, memberships and all else that outputs do not carry.

The workers' own decoder reads the records: one that they reject is not shown either.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import orjson

from engine.domain import events as ev
from engine.domain.events import ABSENT
from engine.domain.proxy_address import normalize_proxy_address
from engine.domain.vocabulary import UNIT_KINDS
from engine.rules.mail_attributes import given_addresses
from streams.console.read_model import causes
from streams.console.read_model.attributes import Attributes, given_attributes
from streams.console.read_model.output_projections import (
    FORGET,
    Projection,
    ProjectionWriter,
    Records,
    search_text,
    text_of,
)
from streams.console.read_model.output_projections import PROJECTIONS as OUTPUTS
from streams.contract.decoder import DECODERS, Rejected, members_of

_KNOW = """
INSERT INTO users(tenant, user, known, name, upn, location, mail, addresses, nickname, find)
VALUES(?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?10, ?8)
ON CONFLICT(tenant, user) DO UPDATE SET known=1,
  name=CASE WHEN ?9 & 1 THEN ?3 ELSE name END, upn=CASE WHEN ?9 & 2 THEN ?4 ELSE upn END,
  location=CASE WHEN ?9 & 4 THEN ?5 ELSE location END, mail=CASE WHEN ?9 & 8 THEN ?6 ELSE mail END,
  addresses=CASE WHEN ?9 & 16 THEN ?7 ELSE addresses END,
  nickname=CASE WHEN ?9 & 32 THEN ?10 ELSE nickname END,
  find=CASE WHEN ?9 & 31 = 31 THEN ?8 ELSE lower(?2 || char(10) || coalesce(
    CASE WHEN ?9 & 1 THEN ?3 ELSE name END, '') || char(10) || coalesce(
    CASE WHEN ?9 & 2 THEN ?4 ELSE upn END, '') || char(10) || coalesce(
    CASE WHEN ?9 & 8 THEN ?6 ELSE mail END, '') || char(10) || coalesce(
    CASE WHEN ?9 & 16 THEN ?7 ELSE addresses END, '')) END
"""
_UNKNOW = (
    "UPDATE users SET known=0, name=NULL, upn=NULL, location=NULL, mail=NULL, addresses=NULL,"
    " nickname=NULL WHERE tenant=? AND user=?"
)


_DISCARD = """
INSERT OR REPLACE INTO recycle_bin
SELECT tenant, user, name, upn, location, mail, addresses, nickname, direct
FROM users WHERE tenant=? AND user=? AND known
"""
_IN_BIN = """
SELECT name, upn, location, mail, addresses, nickname, direct FROM recycle_bin
WHERE tenant=? AND user=?
"""
_RESTORED = "SELECT 1 FROM results WHERE cause=? AND tenant=? AND status='applied'"
# Until a state of the user is published, which has the licences.
_KEEP_DIRECT = "UPDATE users SET direct=? WHERE tenant=? AND user=? AND published IS NULL"
_LEAVE_BIN = "DELETE FROM recycle_bin WHERE tenant=? AND user=?"
_OTHER_MEMBERSHIPS = """
DELETE FROM members WHERE tenant=? AND user=? AND grp NOT IN (SELECT value FROM json_each(?))
"""


class Claims:
    """The claims of proxy addresses in a batch: user -> address -> time and offset of the claim."""

    def __init__(self) -> None:
        self.now: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        self.left: set[tuple[str, str, str]] = set()

    def change(self, key: tuple[str, str], addresses: Any, mail: Any, at: int, offset: int) -> None:
        """Sets a user's addresses. A claim keeps its time unless it is given up in between."""
        known, wanted = self.now.get(key, {}), claimed(addresses, mail)
        self.left.update((key[0], address, key[1]) for address in known.keys() - wanted)
        self.now[key] = {address: known.get(address, (at, offset)) for address in wanted}

    def write(self, to: ProjectionWriter) -> None:
        """Writes the claims. Before the users' rows, which still have the former addresses."""
        for key, wanted in self.now.items():
            for address in claimed(*_known_addresses(to, key)) - wanted.keys():
                self.left.add((key[0], address, key[1]))
        to.many("DELETE FROM addresses WHERE tenant=? AND address=? AND user=?", self.left)
        rows = [
            (key[0], address, key[1], *since)
            for key, wanted in self.now.items()
            for address, since in wanted.items()
        ]
        to.many("INSERT OR IGNORE INTO addresses VALUES(?, ?, ?, ?, ?)", sorted(rows))


def claimed(addresses: Iterable[str] | None, mail: str | None) -> set[str]:
    """Returns the given addresses in normal form; a given mail may be one of them (R19)."""
    return set(map(normalize_proxy_address, given_addresses(tuple(addresses or ()), mail)))


def _known_addresses(to: ProjectionWriter, key: tuple[str, str]) -> tuple[Any, Any]:
    """Returns a user's proxy addresses and mail as they were given before the batch."""
    sql = "SELECT addresses, mail FROM users WHERE tenant = ? AND user = ?"
    addresses, mail = to.db.execute(sql, key).fetchone() or (None, None)
    return orjson.loads(addresses) if addresses else None, mail


class _Facts:
    """The user changes of a batch, folded to one write for each row."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drops what has been written."""
        self.people: dict[tuple[str, str], list[Any]] = {}
        self.members: dict[tuple[str, str], dict[str, tuple[bool, int, int]]] = {}
        self.gone: dict[tuple[str, str], None] = {}
        self.direct: dict[tuple[str, str], str | None] = {}
        self.changes: list[tuple[Any, ...]] = []
        self.causes: list[tuple[Any, ...]] = []
        self.claims = Claims()
        self.attributes = Attributes()

    def upsert(
        self, to: ProjectionWriter, event: ev.UserUpserted, name: Any, at: int, offset: int
    ) -> None:
        """Patches a user."""
        given = (name, *event[3:8])  # attributes are not shown
        key = (event.tenant, event.user)
        known = self.people.setdefault(key, [ABSENT] * len(given))
        for i, value in enumerate(given):
            if value is not ABSENT:
                known[i] = value
        if event.proxy_addresses is ABSENT and event.mail is ABSENT:
            return
        *_, mail, addresses, _ = known
        if mail is ABSENT or addresses is ABSENT:
            before = (None, None) if key in self.gone else _known_addresses(to, key)
            addresses = before[0] if addresses is ABSENT else addresses
            mail = before[1] if mail is ABSENT else mail
        self.claims.change(key, addresses, mail, at, offset)

    def delete(self, key: tuple[str, str]) -> None:
        """Deletes a user, its memberships and claims."""
        self.people.pop(key, None)
        self.members.pop(key, None)
        self.direct.pop(key, None)
        self.gone[key] = None
        self.claims.change(key, (), None, 0, 0)
        self.attributes.forget(key)

    def discard(self, to: ProjectionWriter, key: tuple[str, str]) -> None:
        """Puts a known user into the recycle bin (R22): it keeps its memberships."""
        self.write(to)
        to.db.execute(_DISCARD, key)
        self.claims.change(key, (), None, 0, 0)
        self.claims.write(to)
        to.db.execute(_UNKNOW, key)
        to.db.execute(FORGET, key)
        self.clear()

    def restore(
        self, to: ProjectionWriter, key: tuple[str, str], id: str, at: int, offset: int
    ) -> None:
        """Takes a user out of the recycle bin, if it is there, with what is known of it."""
        kept = to.db.execute(_IN_BIN, key).fetchone()
        if kept is None or key in self.people or key in self.gone:
            return
        to.db.execute(_LEAVE_BIN, key)
        name, upn, location, mail, addresses, nickname, direct = kept
        listed = None if addresses is None else tuple(orjson.loads(addresses))
        self.people[key] = [name, upn, location, mail, listed, nickname]
        if to.db.execute(_RESTORED, (id, key[0])).fetchone() is None:
            self.direct[key] = direct
        self.claims.change(key, listed, mail, at, offset)

    def replace(
        self, to: ProjectionWriter, event: ev.UserSnapshot, name: Any, at: int, offset: int
    ) -> None:
        """Replaces everything that is known of a user (R25)."""
        self.write(to)
        self.clear()
        key = (event.tenant, event.user)
        to.db.execute(_LEAVE_BIN, key)
        self.people[key] = [
            None if name is ABSENT else name, event.user_principal_name, event.usage_location,
            event.mail, event.proxy_addresses, event.mail_nickname,
        ]  # fmt: skip
        direct = {sku: off for sku, group, off, _ in event.licenses if not group}
        self.direct[key] = text_of(sorted(direct.items()))
        self.claims.change(key, event.proxy_addresses, event.mail, at, offset)
        groups = [group for group, _ in event.memberships]
        to.db.execute(_OTHER_MEMBERSHIPS, (*key, orjson.dumps(groups).decode()))
        self.members[key] = {
            group: (False, at, offset) if since is None else (True, min(since, at), 0)
            for group, since in event.memberships
        }

    def join(self, event: ev.MembershipAdded, at: int, offset: int) -> None:
        """Adds a membership; one that exists keeps its time (R8)."""
        groups = self.members.setdefault((event.tenant, event.user), {})
        known = groups.get(event.group)
        if known is None:
            groups[event.group] = (False, at, offset)
        elif known[1] < 0:
            groups[event.group] = (True, at, offset)

    def leave(self, event: ev.MembershipRemoved) -> None:
        """Removes a membership."""
        groups = self.members.setdefault((event.tenant, event.user), {})
        groups[event.group] = (True, -1, 0)

    def write(self, to: ProjectionWriter) -> None:
        """Writes the rows."""
        to.many(_CHANGE, self.changes)
        to.many(causes.NOTE, self.causes)
        self.attributes.write(to)
        self.claims.write(to)
        to.many(_UNKNOW, self.gone)
        to.many(FORGET, self.gone)
        to.many(_LEAVE_BIN, self.gone)
        to.many("DELETE FROM members WHERE tenant=? AND user=?", self.gone)
        to.many(_KNOW, map(_person, sorted(self.people.items(), key=itemgetter(0))))
        to.many(_KEEP_DIRECT, ((direct, *key) for key, direct in self.direct.items()))
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
    name, upn, location, mail, addresses, nickname = (None if v is ABSENT else v for v in given)
    find = search_text(user, name, upn, mail, addresses)
    listed = None if addresses is None else text_of(addresses)
    return tenant, user, name, upn, location, mail, listed, find, mask, nickname or None


def _user_changes(to: ProjectionWriter, records: Records) -> None:
    decode, facts = DECODERS["user-changes"], _Facts()
    bin_in_use = to.db.execute("SELECT 1 FROM recycle_bin LIMIT 1").fetchone() is not None
    for record in records:
        decoded = decode(record.key, record.value, record.headers)
        if isinstance(decoded, Rejected):
            continue
        event, source = decoded
        if not isinstance(event, causes.NOT_KEPT):
            facts.causes.append(causes.row(event, record, source))
        if isinstance(event, ev.UserUpserted):
            key = (event.tenant, event.user)
            if bin_in_use:
                facts.restore(to, key, event.id, record.timestamp, record.offset)
            body = members_of(record.value, record.headers)
            name = body.get("displayName", ABSENT)  # nothing in the engine depends on it
            facts.upsert(to, event, name, record.timestamp, record.offset)
            facts.attributes.patch(to, key, given_attributes(body))
        elif isinstance(event, ev.MembershipAdded):
            facts.join(event, record.timestamp, record.offset)
        elif isinstance(event, ev.MembershipRemoved):
            facts.leave(event)
        elif isinstance(event, ev.UserDeleted):
            key = (event.tenant, event.user)
            if event.restorable:
                facts.discard(to, key)
                bin_in_use = True
            else:
                facts.delete(key)
        elif isinstance(event, ev.UserSnapshot):
            body = members_of(record.value, record.headers)
            name = body.get("displayName", ABSENT)
            facts.replace(to, event, name, record.timestamp, record.offset)
            facts.attributes.replace(to, (event.tenant, event.user), given_attributes(body))
        elif isinstance(event, ev.UserLicensesChanged | ev.UserLicensesSet):
            facts.changes.append(_change("User", event, record.timestamp))
    facts.write(to)


# A change of licences is kept until its result is there: the processor may have deferred it (R21).
_CHANGE = """
INSERT INTO changes SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (
  SELECT 1 FROM results WHERE cause = ?1 AND tenant = ?2 AND status <> 'deferred')
"""


def _change(kind: str, event: ev.LicensesChanged | ev.LicensesSet, at: int) -> tuple[Any, ...]:
    # Of an event of either type the fields after the subject: the engine's rows have them so.
    add, remove = (*event[3:], None)[:2]
    return event.id, event.tenant, kind, event[2], at, text_of([add, remove])


def _group_changes(to: ProjectionWriter, records: Records) -> None:
    to.many(
        _CHANGE,
        [
            _change("Group", event, record.timestamp)
            for event, record, _ in _accepted(to, "group-changes", records)
            if isinstance(event, ev.GroupLicensesChanged | ev.GroupLicensesSet)
        ],
    )


def _accepted(
    to: ProjectionWriter, topic: str, records: Records
) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Returns the engine's event, the record and its body, for records that the workers accept.

    The events are kept as causes of what follows.
    """
    found, kept = [], []
    for record in records:
        decoded = DECODERS[topic](record.key, record.value, record.headers)
        if not isinstance(decoded, Rejected):
            found.append((decoded[0], record, members_of(record.value, record.headers)))
            kept.append(causes.row(decoded[0], record, decoded[1]))
    to.many(causes.NOTE, kept)
    return found


def _catalog(to: ProjectionWriter, records: Records) -> None:
    to.many(
        "INSERT OR REPLACE INTO catalog VALUES(?, ?, ?, ?)",
        [
            (
                event.sku,
                event.part_number,
                event.display_name,
                text_of({**body, "type": "product.defined", "id": event.id}),
            )
            for event, _, body in _accepted(to, "catalog", records)
        ],
    )


NO_UNITS = (0, 0, 0, 0)
"""After the deletion of a subscription."""


def _subscriptions(to: ProjectionWriter, records: Records) -> None:
    to.many(
        "INSERT OR REPLACE INTO subscriptions VALUES(?, ?, ?)",
        [
            (
                event.tenant,
                event.sku,
                text_of(dict(zip(UNIT_KINDS, event[3:] or NO_UNITS, strict=True))),
            )
            for event, _, _ in _accepted(to, "subscriptions", records)
        ],
    )


def _tenants(to: ProjectionWriter, records: Records) -> None:
    """Patches tenants' settings: absent members stay."""
    for event, _, body in _accepted(to, "tenants", records):
        sql = "SELECT name, body FROM tenants WHERE tenant=?"
        row = to.db.execute(sql, (event.tenant,)).fetchone() or (None, "{}")
        name, known = body.get("displayName", row[0]), orjson.loads(row[1])
        given = {
            "usageLocation": event.usage_location,
            "seatRetry": event.seat_retry,
            "onGroupDeletion": event.on_group_deletion,
            "initialDomain": event.initial_domain,
        }
        known |= {member: value for member, value in given.items() if value is not ABSENT}
        row = (event.tenant, name, text_of(known))
        to.db.execute("INSERT OR REPLACE INTO tenants VALUES(?, ?, ?)", row)


PROJECTIONS: dict[str, Projection] = {
    **OUTPUTS,
    "user-changes": _user_changes,
    "group-changes": _group_changes,
    "catalog": _catalog,
    "subscriptions": _subscriptions,
    "tenants": _tenants,
}
FOLLOWED = tuple(PROJECTIONS)


def apply(to: ProjectionWriter, topic: str, records: Records) -> None:
    """Writes a batch of one topic (short name), inside the caller's transaction."""
    PROJECTIONS[topic](to, records)
