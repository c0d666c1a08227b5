"""The unit of work: the users, leases and groups that the current batch has changed.

The partition machine owns one. Machines mark what they change; at the end of a batch its rows are
written and its messages are sent, so that each object is written once a batch.
"""

from __future__ import annotations

from engine.machines.user_phase import Trigger, UserPhase
from engine.state.seat_lease import Lease
from engine.state.tenant_state import GroupMembership, TenantState, User


class Cause:
    """The event or message that a change follows from; goes into what is published."""

    __slots__ = ("event_id", "timestamp_ms")

    def __init__(self, timestamp_ms: int, event_id: str) -> None:
        self.timestamp_ms = timestamp_ms
        self.event_id = event_id


class UnitOfWork:
    """Changed objects whose rows or messages are still to be written.

    ``dirty_users`` and ``dirty_leases`` are written at the end of the batch; ``unreported_leases``
    and ``groups_to_report`` wait for the next flush, their numbers being coalesced until then.
    ``emptied_groups``: groups that lost their last user here, reported with the batch, since after
    a restart no row would name them. ``phase_log``: the phases that users enter, in order; None if
    nobody checks them.
    """

    __slots__ = (
        "dirty_leases", "dirty_users", "emptied_groups", "groups_to_report", "phase_log",
        "unreported_leases",
    )  # fmt: skip

    def __init__(self) -> None:
        self.dirty_users: dict[User, None] = {}
        self.dirty_leases: dict[Lease, Cause] = {}
        self.unreported_leases: dict[Lease, Cause] = {}
        self.groups_to_report: list[GroupMembership] = []
        self.emptied_groups: list[GroupMembership] = []
        self.phase_log: list[tuple[User, Trigger, UserPhase]] | None = None

    def change_lease(self, tenant: TenantState, sku: str, cause: Cause) -> Lease:
        """Returns the lease of a product, marked as changed."""
        lease = tenant.lease(sku)
        self.dirty_leases[lease] = cause
        return lease

    def change_group(self, tenant: TenantState, group: str, timestamp_ms: int) -> GroupMembership:
        """Returns the membership of a group, marked to be reported to the group's owner."""
        membership = tenant.memberships.get(group) or tenant.membership(group)
        membership.timestamp_ms = timestamp_ms
        if not membership.unreported:
            membership.unreported = True
            self.groups_to_report.append(membership)
        return membership
