"""Users who share an address (R18): given, or the principal name that a mail plan would bring."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import orjson

from engine.domain import events
from engine.domain.proxy_address import normalize_proxy_address
from engine.rules.mail_attributes import given_addresses, mail_key
from streams.console.read_model import tenants
from streams.console.whatif.reconstruction import Connection, claims
from streams.contract.event_reader import Event

# CROSS JOIN: the few that are sought come first, and are found by an index.
_FACTS = """
SELECT u.addresses, u.mail, u.upn, {published} FROM json_each(?) r
CROSS JOIN {table} u ON u.tenant = ? AND u.user = r.value
"""
_GIVEN = (
    "SELECT a.user FROM json_each(?) k"
    " CROSS JOIN addresses a ON a.tenant = ? AND a.address = k.value"
)
_NAMED = """
SELECT u.user FROM json_each(?) k CROSS JOIN users u
ON u.tenant = ? AND u.upn = substr(k.value, 6) COLLATE NOCASE
"""
_ROUTED = """
SELECT u.user FROM users u, json_each(u.published, '$[2]') j WHERE u.tenant = ?2
AND u.published IS NOT NULL AND instr(lower(u.published), ?3)
AND lower(j.value) IN (SELECT value FROM json_each(?1))
"""


def sharing(
    db: Connection, tenant: str, users: Collection[str], given: Iterable[Event]
) -> Iterator[str]:
    """Yields the users who may claim an address of these users, or one that the events give."""
    keys = {key for each in given for key in _of_event(each.event)}
    listed = orjson.dumps([*users]).decode()
    for table, published in (("users", "u.published"), ("recycle_bin", "NULL")):
        sql = _FACTS.format(table=table, published=published)
        for row in db.execute(sql, (listed, tenant)):
            keys |= _keys(*row)
    domain = (tenants.tenant(db, tenant)["initialDomain"] or "").lower()
    every = orjson.dumps(sorted(keys)).decode()
    yield from (user for (user,) in db.execute(_GIVEN, (every, tenant)))
    yield from (user for (user,) in db.execute(_NAMED, (every, tenant)))
    routed = [key for key in keys if domain and key.endswith(f"@{domain}")]
    if routed:
        sought = orjson.dumps(routed).decode()
        yield from (user for (user,) in db.execute(_ROUTED, (sought, tenant, f"@{domain}")))


def owner_of_name(db: Connection, tenant: str, id: str, principal_name: str) -> str | None:
    """Returns the other user who owns a user's principal name as an address, if there is one."""
    key = mail_key(principal_name)
    found = claims(db, tenant, key)
    if found:
        return found[0][2] if found[0][2] != id else None
    sql = (
        "SELECT user FROM users, json_each(published, '$[2]') WHERE tenant = ? AND user <> ?"
        " AND upn = ? COLLATE NOCASE AND lower(value) = ?"
    )
    row = db.execute(sql, (tenant, id, key.partition(":")[2], key)).fetchone()
    return row[0] if row else None


def _of_event(event: Any) -> set[str]:
    if not isinstance(event, events.UserUpserted | events.UserSnapshot):
        return set()
    addresses, mail, name = event.proxy_addresses, event.mail, event.user_principal_name
    found = set(map(normalize_proxy_address, addresses if isinstance(addresses, tuple) else ()))
    return found | {mail_key(text) for text in (mail, name) if isinstance(text, str) and text}


def _keys(addresses: str | None, mail: str | None, name: str | None, body: str | None) -> set[str]:
    given = given_addresses(tuple(orjson.loads(addresses or "[]")), mail)
    published = orjson.loads(body)[2] if body else ()
    found = set(map(normalize_proxy_address, (*given, *published)))
    return found | {mail_key(name)} if name else found
