"""Causes of changes: the input events that audit records name by their ids.

Kept are the events that can take a licence away or that concern many users. ``user.upserted`` and
``membership.added`` are most of all events and are not kept: a licence that came with a membership
is explained by the membership itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import orjson

from engine.domain import events as ev
from streams.console.read_model.pagination import GraphObject
from streams.console.read_model.queries import Connection, group_names
from streams.contract.event_types import EVENT_TYPES

NOT_KEPT = (ev.UserUpserted, ev.MembershipAdded, ev.MembershipIgnored)
NOTE = "INSERT OR REPLACE INTO causes VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"
ALL_TENANTS = ""
"""In place of the tenant: of products' definitions."""
SEEN_RECORDS = 500
"""Of a user's audit records: the latest ones are searched for licences that ended."""
_TYPES = {each.fact: each for each in EVENT_TYPES}
_FED = re.compile(r"([a-z]+:[0-9a-f]{8,64}):(\d+)(?:\.\d+)?")
"""The id of an event that a feed made: format and fingerprint of the file, and the row."""


def row(event: Any, record: Any, source: str) -> tuple[Any, ...]:
    """Returns the row of an event: tenant, id, time, type, subject, group, place and source."""
    kind = _TYPES[type(event)]
    return (
        getattr(event, "tenant", ALL_TENANTS),
        event.id,
        record.timestamp,
        kind.name,
        kind.topic,
        event.sku if kind.subject == "skuId" else getattr(event, kind.subject),
        getattr(event, "group", None),
        f"{kind.topic}/{record.partition}@{record.offset}",
        source or None,
    )


def cause_of(db: Connection, tenant: str, record: GraphObject) -> GraphObject:
    """Returns the cause of an audit record, as far as it is known.

    ``type``: of the event; None if it is not known. ``place``: topic, partition and offset.
    ``row`` and ``file``: of the event, if a feed made it; ``by``: the operator who sent it.
    """
    id, at = record["causedBy"], _milliseconds(record["time"])
    found: GraphObject = {"id": id, "type": None, "at": record["time"], **_fed(id)}
    kept = db.execute(
        "SELECT type, topic, subject, grp, place, source, at FROM causes"
        " WHERE tenant IN (?, ?) AND cause = ? ORDER BY abs(at - ?) LIMIT 1",
        (tenant, ALL_TENANTS, id, at),
    ).fetchone()
    if kept is not None:
        found |= {n: kept[n] for n in ("type", "topic", "subject", "place", "source")}
        found["group"] = kept["grp"]
    elif record["target"]["type"] == "User":
        found |= _membership(db, tenant, record["target"]["id"], at)
    sent = db.execute(
        "SELECT who, activity FROM audit WHERE tenant = ? AND cause = ? AND who <> 'Seatflow'",
        (tenant, id),
    ).fetchone()
    found["by"] = sent["who"] if sent else None
    if found.get("group"):
        names = group_names(db, tenant, {found["group"]})
        found["groupDisplayName"] = names.get(found["group"])
    return found


def _membership(db: Connection, tenant: str, user: str, at: int) -> GraphObject:
    sql = "SELECT grp FROM members WHERE tenant = ? AND user = ? AND since = ?"
    joined = db.execute(sql, (tenant, user, at)).fetchone()
    if joined is None:
        return {}
    return {
        "type": "membership.added",
        "topic": "user-changes",
        "subject": user,
        "group": joined["grp"],
    }


def _fed(id: str) -> GraphObject:
    fed = _FED.fullmatch(id)
    return {"file": fed[1], "row": int(fed[2])} if fed else {}


def _milliseconds(time: str) -> int:
    try:
        return round(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return 0


def losses(db: Connection, tenant: str, user: str, held: Iterable[str]) -> list[GraphObject]:
    """Returns the products that the user had and has no more: since when, and the cause."""
    sql = (
        "SELECT body FROM audit WHERE tenant = ? AND kind = 'User' AND target = ?"
        " ORDER BY time DESC, id DESC LIMIT ?"
    )
    found: dict[str, GraphObject] = {}
    passed = set(held)
    for (body,) in db.execute(sql, (tenant, user, SEEN_RECORDS)):
        record = orjson.loads(body)
        for changed in record.get("modifiedProperties") or ():
            if changed.get("name") != "AssignedLicense":
                continue
            before, after = _skus(changed.get("oldValue")), _skus(changed.get("newValue"))
            for sku in sorted(before - after - passed):
                passed.add(sku)
                cause = cause_of(db, tenant, record)
                found[sku] = {"skuId": sku, "time": record["time"], "cause": cause}
    return list(found.values())


def _skus(listed: Any) -> set[str]:
    return {each["skuId"] for each in listed or ()}


def sentence(cause: GraphObject, user: str | None, product_name: Callable[[str], str]) -> str:
    """Returns a cause in words. ``user``: whom the page is about."""
    kind, subject = cause["type"], cause.get("subject")
    group = cause.get("groupDisplayName") or cause.get("group") or subject
    whose = "the user" if subject == user else f"the user {subject}"
    texts = {
        "membership.removed": f"{whose.capitalize()} left the group {group}",
        "membership.added": f"{whose.capitalize()} joined the group {group}",
        "user.deleted": f"{whose.capitalize()} was deleted",
        "user.snapshot": f"The directory sent all that it knows of {whose}",
        "user.reprocess": f"{whose.capitalize()} was reprocessed",
        "group.deleted": f"The group {group} was deleted",
        "group.reprocess": f"The group {group} was reprocessed",
        "group.upserted": f"The group {group} was named",
        "tenant.updated": "The tenant's settings changed",
    }
    if kind in ("licenses.changed", "licenses.set"):
        owner = f"The licences of the group {group}"
        if cause.get("topic") == "user-changes":
            owner = f"The direct licences of {whose}"
        return f"{owner} were changed"
    if kind in ("subscription.updated", "subscription.deleted"):
        return f"The subscription of {product_name(str(subject))} changed"
    if kind == "product.defined":
        return f"The product {product_name(str(subject))} was defined"
    return texts.get(kind or "", "An event about the user or one of the groups")


def origin(cause: GraphObject) -> str:
    """Returns where a cause came from: the operator, the row of a file, the place in a topic."""
    parts = []
    if cause.get("by"):
        parts.append(f"by {cause['by']} in the console")
    if "row" in cause:
        parts.append(f"row {cause['row']:,} of the file {cause['file']}")
    if cause.get("source"):
        parts.append(f"source {cause['source']}")
    parts.append(f"event {cause['id']}")
    if cause.get("place"):
        parts.append(str(cause["place"]))
    return ", ".join(parts)
