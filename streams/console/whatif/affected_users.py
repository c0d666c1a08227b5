"""Reads what-if events as the workers would, and finds the users whom they can reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from engine.domain import events
from engine.domain.vocabulary import COUNT
from engine.membership_rules.rule_set import MembershipRule
from streams.console.read_model import queries
from streams.console.read_model.rule_matches import rule_after, rule_of, users_matching
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
        found.append(read)
    return found


def _event_type(body: dict[str, Any], number: int) -> EventType:
    try:
        return resolve(body.get("type"), body)
    except DecodeError as error:
        raise EventNotReadableError(f"event {number}: {error.args[0]}.") from None


# --- who is reached ------------------------------------------------------------------------------


def reached(db: Connection, tenant: str, given: list[Event], most: int) -> list[str]:
    """Returns the users that the events can affect, including those that wait for a seat.

    Those who share an address with one of them are affected, too: it may become theirs (R18).

    Raises:
        ScopeTooLargeError: these are more than ``most`` users.
    """
    found: dict[str, None] = {}
    in_line = "SELECT DISTINCT user FROM errors WHERE tenant = ? AND error = ?"
    selections: list[tuple[str, tuple[Any, ...]]] = [(in_line, (tenant, COUNT))]
    for each in given:
        selections += list(_affected_queries(tenant, each.event))
    for sql, arguments in dict.fromkeys(selections):
        _add(found, (user for (user, *_) in db.execute(sql, arguments)), most)
    _add(found, users_matching(db, tenant, _rules(db, tenant, given)), most)
    if not any(isinstance(each.event, events.TenantUpdated) for each in given):
        _add(found, list(sharing(db, tenant, found, given)), most)
    return list(found)


def _rules(db: Connection, tenant: str, given: list[Event]) -> list[MembershipRule]:
    """Returns the rules whose members the events of groups reach: present ones, and new ones."""
    present: dict[str, MembershipRule | None] = {}
    found: list[MembershipRule | None] = []
    for each in given:
        event = each.event
        if isinstance(event, OF_GROUPS):
            if event.group not in present:
                present[event.group] = rule_of(queries.group_status(db, tenant, event.group))
                found.append(present[event.group])
            if isinstance(event, events.GroupUpserted):
                present[event.group] = rule_after(present[event.group], event)
                found.append(present[event.group])
    return [rule for rule in found if rule is not None]


def _add(found: dict[str, None], users: Iterable[str], most: int) -> None:
    for user in users:
        found[user] = None
        if len(found) > most:
            raise ScopeTooLargeError(
                f"The events reach more than {most:,} users: try fewer groups at a time."
            )


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
