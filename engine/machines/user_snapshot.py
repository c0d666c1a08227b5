"""R25: what a snapshot of a user says of its memberships and licences.

Nothing in a snapshot is later than the record that brings it.
"""

from __future__ import annotations

from typing import Any

from engine.domain.events import UserSnapshot
from engine.domain.limits import Limits
from engine.domain.messages import Rejection, limit_exceeded
from engine.machines import attribute_limits
from engine.membership_rules.compiler import Value
from engine.state.tenant_state import order_key


def exceeds_limit(limits: Limits, event: UserSnapshot) -> Rejection | None:
    """Returns why a snapshot is not applied: it states more than a user may have."""
    groups = {membership[0] for membership in event.memberships}
    if len(groups) > limits.memberships:
        return limit_exceeded("memberships of a user", limits.memberships, len(groups))
    direct = sum([1 for licence in event.licenses if not licence[1]])
    if direct > limits.products:
        return limit_exceeded("direct licences of a user", limits.products, direct)
    inherited = len(event.licenses) - direct
    if inherited > limits.assignments:
        return limit_exceeded("licences of a user's groups", limits.assignments, inherited)
    values: list[Value] = [value for _, value in event.attributes]
    return attribute_limits.exceeds_limit(limits, values)


def memberships(
    event: UserSnapshot, known: dict[str, bytes], timestamp_ms: int, offset: int
) -> dict[str, bytes]:
    """Returns the order keys of the memberships, by group.

    A membership without a moment keeps the one that is ``known``, or begins with the event.
    """
    found: dict[str, bytes] = {}
    membership: tuple[str, int | None]
    for membership in event.memberships:
        group, since = membership[0], membership[1]
        if since is None:
            found[group] = known.get(group, order_key(timestamp_ms, offset))
        else:
            found[group] = order_key(min(since, timestamp_ms), 0)
    return found


def licenses(event: UserSnapshot, timestamp_ms: int) -> list[Any]:
    """Returns the licences to adopt, each as [skuId, group, disabled plans, since or None]."""
    found: list[Any] = []
    licence: tuple[str, str, tuple[str, ...], int | None]
    for licence in event.licenses:
        since = licence[3]
        if since is not None:
            since = min(since, timestamp_ms)
        found.append([*licence[:3], since])
    return found
