"""The limits of one object (rules, section 8), and the rejection of what exceeds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.spec.changes import Licenses, Rejection
from tests.spec.tenants import Json

LIMIT_EXCEEDED = "LimitExceeded"


@dataclass(frozen=True)
class Limits:
    memberships: int = 5_000
    licensed_groups: int = 1_000
    assignments: int = 2_000
    products: int = 500
    deferred_changes: int = 100


def exceeded(maximum: int, number: int) -> Rejection | None:
    """Returns the rejection of what would make ``number`` of something, if that is too many."""
    if number <= maximum:
        return None
    return Rejection(LIMIT_EXCEEDED, None, {"maximum": maximum, "number": number})


def too_many_direct(
    limits: Limits, direct: Iterable[str], added: Licenses, removed: frozenset[str]
) -> Rejection | None:
    """Returns the rejection of a direct change; one that only removes is none too many."""
    if not added:
        return None
    return exceeded(limits.products, len({*direct} - removed | {*added}))


def too_many_of_a_group(
    limits: Limits, present: Licenses, added: Licenses, removed: frozenset[str]
) -> Rejection | None:
    """Returns the rejection of a change that leaves more products than before, and too many."""
    if not added and not removed:
        return None
    wanted = {*present} - removed | {*added}
    return exceeded(max(limits.products, len(present)), len(wanted))


def too_much_in_snapshot(limits: Limits, event: Json) -> Rejection | None:
    """Returns the rejection of a snapshot as a whole."""
    licenses = event.get("licenseAssignmentStates", ())
    direct = [one for one in licenses if one.get("assignedByGroup") is None]
    groups = {membership["group"] for membership in event.get("memberships", ())}
    return (
        exceeded(limits.memberships, len(groups))
        or exceeded(limits.products, len(direct))
        or exceeded(limits.assignments, len(licenses) - len(direct))
    )
