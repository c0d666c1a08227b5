"""Reads what-if events as the workers would, and finds the users whom they can reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from engine.domain import events
from engine.domain.vocabulary import COUNT
from engine.machines.group_rules import names_rule
from streams.console.whatif.reconstruction import Connection
from streams.console.whatif.shared_addresses import sharing
from streams.contract.event_reader import Event, event_of
from streams.contract.event_types import EventType, resolve
from streams.contract.rejection import DecodeError
from streams.runtime.errors import SenderError

OF_GROUPS = (
    events.GroupUpserted,
    events.GroupDeleted,
    events.GroupReprocess,
    events.GroupLicensesChanged,
    events.GroupLicensesSet,
)


class EventNotReadableError(SenderError):
    """Raised for an event that the contract does not allow."""


class ScopeTooLargeError(SenderError):
    """Raised if the events reach more users than may be replicated."""


# --- events --------------------------------------------------------------------------------------


def decoded(tenant: str, given: list[Any]) -> list[Event]:
    """Returns the events as the workers would read them.

    Raises:
        EventNotReadableError: the workers would refuse one of them.
    """
    found = []
    for number, body in enumerate(given, start=1):
        if not isinstance(body, dict):
            raise EventNotReadableError(f"event {number} is not an object.")
        if body.get("tenant", tenant) != tenant:
            raise EventNotReadableError(f"event {number} belongs to another tenant than {tenant}.")
        event = {"id": f"whatif-{number}", **body}
        if "tenant" in _event_type(body, number).key:
            event["tenant"] = tenant
        read = event_of(orjson.dumps(event))
        if isinstance(read, str):
            raise EventNotReadableError(f"event {number}: {read}.")
        if isinstance(read.event, events.GroupUpserted) and names_rule(read.event):
            raise EventNotReadableError(f"event {number}: {NO_RULES}.")
        found.append(read)
    return found


def _event_type(body: dict[str, Any], number: int) -> EventType:
    try:
        return resolve(body.get("type"), body)
    except DecodeError as error:
        raise EventNotReadableError(f"event {number}: {error.args[0]}.") from None


NO_RULES = "membership rules are not foretold yet"
_RULED = (
    "SELECT 1 FROM groups WHERE tenant = ?"
    " AND json_extract(body, '$.membershipRule') IS NOT NULL LIMIT 1"
)


# --- who is reached ------------------------------------------------------------------------------


def reached(db: Connection, tenant: str, given: list[Event], most: int) -> list[str]:
    """Returns the users that the events can affect, including those that wait for a seat.

    Those who share an address with one of them are affected, too: it may become theirs (R18).

    Raises:
        ScopeTooLargeError: these are more than ``most`` users.
    """
    found: dict[str, None] = {}
    attributes = any(_changes_attributes(each.event) for each in given)
    if attributes and db.execute(_RULED, (tenant,)).fetchone() is not None:
        raise EventNotReadableError(
            f"{NO_RULES}: leave out the attributes, which may change the members of groups."
        )
    in_line = "SELECT DISTINCT user FROM errors WHERE tenant = ? AND error = ?"
    selections: list[tuple[str, tuple[Any, ...]]] = [(in_line, (tenant, COUNT))]
    for each in given:
        selections += list(_affected_queries(tenant, each.event))
    for sql, arguments in dict.fromkeys(selections):
        _add(found, (user for (user, *_) in db.execute(sql, arguments)), most)
    if not any(isinstance(each.event, events.TenantUpdated) for each in given):
        _add(found, list(sharing(db, tenant, found, given)), most)
    return list(found)


def _add(found: dict[str, None], users: Iterable[str], most: int) -> None:
    for user in users:
        found[user] = None
        if len(found) > most:
            raise ScopeTooLargeError(
                f"The events reach more than {most:,} users: try fewer groups at a time."
            )


def _changes_attributes(event: Any) -> bool:
    """Returns True for an event after which a membership rule may match other users (R27)."""
    if isinstance(event, events.UserUpserted):
        return event.attributes is not events.ABSENT
    return isinstance(event, events.UserSnapshot)


_BY_SHAPE = "SELECT u.user FROM paths p JOIN users u ON u.shape = p.shape WHERE p.tenant = ? AND "


DEFERRED = (
    " FROM changes d WHERE d.tenant = ?1 AND EXISTS (SELECT 1 FROM results r"
    " WHERE r.cause = d.cause AND r.tenant = d.tenant)"
)


def _affected_queries(tenant: str, event: Any) -> Iterable[tuple[str, tuple[Any, ...]]]:
    if isinstance(event, events.ProductDefined):
        yield f"{_BY_SHAPE} p.sku = ?", (tenant, event.sku)
        yield f"SELECT d.target {DEFERRED} AND d.kind = 'User'", (tenant,)
        for named in (
            "SELECT user FROM members WHERE tenant = ?1 AND grp IN",
            "SELECT u.user FROM paths p JOIN users u ON u.shape = p.shape"
            " WHERE p.tenant = ?1 AND p.grp IN",
        ):
            yield f"{named} (SELECT d.target {DEFERRED} AND d.kind = 'Group')", (tenant,)
    elif isinstance(event, events.TenantUpdated):
        yield "SELECT user FROM users WHERE tenant = ?", (tenant,)
    elif isinstance(event, events.SubscriptionUpdated | events.SubscriptionDeleted):
        # Those who wait are reached anyway; the holders, where the product goes off or on (R15).
        sold = isinstance(event, events.SubscriptionUpdated) and event.enabled + event.warning > 0
        states = "= 'Disabled'" if sold else "<> 'Error'"
        yield f"{_BY_SHAPE} p.sku = ? AND p.state {states}", (tenant, event.sku)
    elif isinstance(event, OF_GROUPS):
        yield from _of_group(tenant, event.group)
    else:
        yield "SELECT user FROM users WHERE tenant = ? AND user = ?", (tenant, event[2])
        # Those who are in the recycle bin, and those of whom only memberships are known (R22).
        yield "SELECT user FROM recycle_bin WHERE tenant = ? AND user = ?", (tenant, event[2])
        yield "SELECT user FROM members WHERE tenant = ? AND user = ?", (tenant, event[2])


def _of_group(tenant: str, id: str) -> Iterable[tuple[str, tuple[Any, ...]]]:
    yield "SELECT user FROM members WHERE tenant = ? AND grp = ?", (tenant, id)
    yield f"{_BY_SHAPE} p.grp = ?", (tenant, id)
