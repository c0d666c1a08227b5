"""Which events need an evaluation of their own, so that states follow from their order alone."""

from __future__ import annotations

from typing import Any

from engine.domain.events import MembershipAdded
from engine.state.tenant_state import ORDER_KEY_BYTES, User


def depends_on_order(user: User, event: Any, when: bytes) -> bool:
    """Returns True if evaluating before and after the event of ``when`` may differ.

    The results are equal when a user without licences and errors joins a group without licences, or
    one who is licensed by one group at most joins another group later: R8 attempts the groups in
    this order anyway.
    """
    if type(event) is not MembershipAdded or user.outcome.states or user.is_returning:
        return True
    if not licenses(user, event.group):
        return False
    asked = 0
    for id in user.groups:
        if licenses(user, id):
            asked += 1
    return asked > 1 or user.member_since[-ORDER_KEY_BYTES:] > when


def changes_nothing(user: User, group: str) -> bool:
    """Returns True if an evaluation would find nothing new in the membership of the group.

    The group licenses nothing, and nothing of the user is in error, under way or to be restored.
    The caller knows that no evaluation of the user is pending.
    """
    return (
        user.pending_work is None
        and not user.outcome.problems
        and not licenses(user, group)
        and not user.is_returning
    )


def licenses(user: User, group: str) -> bool:
    """Returns True if the group, as this partition knows it, has licences."""
    known = user.tenant.groups.get(group)
    return known is not None and known.license_set is not None
