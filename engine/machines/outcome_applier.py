"""Applies decisions: seats, counters and indexes follow the outcome; what changed is published."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Final

from engine.documents import user_documents
from engine.domain.effects import Effects
from engine.domain.model import PlanSet
from engine.domain.state_counter import StateCounter
from engine.machines.fan_out import FanOut
from engine.machines.seat_allocation import NO_RESERVATION, SeatAllocator
from engine.machines.unit_of_work import Cause, UnitOfWork
from engine.machines.user_evaluator import EvaluationResult
from engine.rules.outcome import EMPTY_OUTCOME, Outcome
from engine.state.configuration import Configuration
from engine.state.message_codecs import GROUP_REPORTS, GroupReportMessage, encode_group_report
from engine.state.row_codecs import PLAN_SETS, USERS, PlanSetRow, encode_plan_set
from engine.state.tenant_state import GroupMembership, TenantState, User
from engine.state.user_mail import (
    forget_mail,
    keep_published,
    mail_facts,
    published_attributes,
    routing_address_due,
)
from engine.state.user_row_codecs import OptionalUserFacts

NO_GROUP_STATS: Final[tuple[bool, tuple[str, ...]]] = (False, ())


class OutcomeApplier:
    """The one writer of a user's outcome.

    ``suppress_output``: users are neither published nor written to rows, for a dry run that looks
    at the outcomes alone.
    """

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        work: UnitOfWork,
        allocator: SeatAllocator,
        suppress_output: bool = False,
    ) -> None:
        self.configuration = configuration
        self.effects = effects
        self.work = work
        self.allocator = allocator
        self.suppress_output = suppress_output
        self.published = 0
        self.in_error = StateCounter()  # users by kind of error
        self.with_errors = 0
        self.plans: dict[str, PlanSet] = {}
        self.adopting: dict[User, None] = {}  # users with licences that wait for adoption (R25)

    # -- decisions
    def apply(
        self,
        user: User,
        decision: EvaluationResult,
        cause: Cause,
        reserved: AbstractSet[str],
    ) -> None:
        """Makes the decision the user's outcome. ``reserved``: products reserved for it."""
        allocator = self.allocator
        old, old_paths = user.outcome, user.paths
        new = decision.outcome
        paths = decision.paths[: new.path_count - 1]
        adopted = decision.adopted
        if adopted is not None:
            self._keep_unadopted(user, adopted.remaining(new, decision.paths))
        routing = routing_address_due(user) if new.mail else None
        if new.mail != old.mail or routing is not None:
            keep_published(user)
            user.routing = routing or user.routing
        if new is old and paths == old_paths and not reserved:
            allocator.enqueue(user, cause)  # a seat request took it off the lists
            pending = user.pending_work
            if (pending is not None and pending.published_attributes is not None) or (
                user.revision > 0 and user.published_location != user.effective_location
            ):
                self._publish(user, old, old_paths, cause)
            return
        allocator.dequeue(user, cause)
        since = user_documents.states_since(
            user, new, paths, cause.timestamp_ms, adopted.since if adopted is not None else None
        )
        user.outcome, user.paths, user.state_since_ms = new, paths, since
        self.count_errors(old, new)
        if adopted is not None:
            self._adopt_seats(user, (new.held - old.held) & adopted.skus, reserved, cause)
        self._seats(user, old, reserved, cause)
        allocator.enqueue(user, cause)
        self._enroll(user, old_paths)
        self._count(user, old, old_paths, cause.timestamp_ms)
        self._publish(user, old, old_paths, cause)

    def _keep_unadopted(self, user: User, licenses: list[Any]) -> None:
        """Keeps the licences that are still to be adopted (R25), if there are any."""
        fact = [False, licenses] if licenses else None
        user.set_optional_fact(OptionalUserFacts.ADOPTION, fact)
        if licenses:
            self.adopting[user] = None
        else:
            self.adopting.pop(user, None)

    def _adopt_seats(
        self, user: User, skus: AbstractSet[str], reserved: AbstractSet[str], cause: Cause
    ) -> None:
        """R25: seats that the user brings, before :meth:`_seats` counts it as a holder."""
        for sku in skus - reserved:
            self.work.change_lease(user.tenant, sku, cause).adopt()

    def _seats(self, user: User, old: Outcome, reserved: AbstractSet[str], cause: Cause) -> None:
        tenant, new, change_lease = user.tenant, user.outcome, self.work.change_lease
        if old.held != new.held or reserved:
            for sku in new.held - old.held:
                change_lease(tenant, sku, cause).used += 1
            for sku in old.held - new.held:
                change_lease(tenant, sku, cause).release()
            for sku in reserved:
                change_lease(tenant, sku, cause).reserved -= 1
        for sku in old.waiting:
            change_lease(tenant, sku, cause).waiting -= 1
        for sku in new.waiting:
            change_lease(tenant, sku, cause).waiting += 1

    def count_errors(self, old: Outcome, new: Outcome) -> None:
        """Users by kind of error."""
        if old.errors != new.errors:
            self.in_error.move(old.errors, new.errors)
            self.with_errors += bool(new.errors) - bool(old.errors)

    def _publish(self, user: User, old: Outcome, old_paths: tuple[str, ...], cause: Cause) -> None:
        """One revision, if what is published differs from before (R10, R24)."""
        pending = user.pending_work
        before = pending.published_attributes if pending is not None else None
        if pending is not None:
            pending.published_attributes = None
        if self.suppress_output:
            return
        location = user.effective_location
        same_attributes = location == user.published_location and (
            before is None or before == published_attributes(user)
        )
        new = user.outcome
        was: list[user_documents.PublishedState] = []
        now: list[user_documents.PublishedState] = []
        if old.states or new.problems:
            was, now = (
                user_documents.published_states(old, old_paths),
                user_documents.published_states(new, user.paths),
            )
            same = was == now
        else:
            same = not new.states
        if same and (same_attributes or user.revision <= 0):
            return
        user.revision = abs(user.revision) + 1
        user.published_location = location
        self.published += 1
        key = f"{user.tenant.id}/{user.id}"
        timestamp_ms, event_id = cause.timestamp_ms, cause.event_id
        self.effects.emit(
            "user-licenses", key, user_documents.user_licenses(user, timestamp_ms, event_id)
        )
        opened = []
        if old.problems or new.problems:
            opened = user_documents.publish_errors(self.effects, user, was, now, event_id)
        record = user_documents.change_audit(user, old, opened, timestamp_ms, event_id)
        if record is not None:
            self.effects.emit("audit", key, record)

    def delete(self, user: User, cause: Cause, keep_facts: bool = False) -> None:
        """R22: drops entries and memberships; frees the seats; a tombstone is published.

        ``keep_facts``: the user goes to the recycle bin, and keeps memberships and attributes.
        """
        old, old_paths = user.outcome, user.paths
        tenant, timestamp_ms = user.tenant, cause.timestamp_ms
        if user.known:
            self.count_members(user, -1, timestamp_ms)
        groups = user.groups
        if not keep_facts:
            user.groups, user.member_since = (), b""
        user.outcome, user.paths, user.state_since_ms = EMPTY_OUTCOME, (), 0
        self.count_errors(old, EMPTY_OUTCOME)
        self._seats(user, old, NO_RESERVATION, cause)
        for group in dict.fromkeys((*old_paths, *groups)):
            self._leave(user, group)
        self._count(user, old, old_paths, timestamp_ms)
        was = user_documents.published_states(old, old_paths)
        user_documents.publish_errors(self.effects, user, was, [], cause.event_id)
        if user.revision > 0 and user.known:
            self.effects.emit("user-licenses", f"{tenant.id}/{user.id}", None)
            user.revision = -user.revision
            record = user_documents.change_audit(user, old, [], timestamp_ms, cause.event_id)
            if record is not None:
                self.effects.emit("audit", f"{tenant.id}/{user.id}", record)
        user.known = False
        forget_mail(user)
        user.pending_work = user.optional_facts = None
        self.adopting.pop(user, None)
        if not keep_facts:
            user.location = user.upn = user.mail = user.mail_nickname = None
            user.addresses, user.attributes = (), ()

    # -- groups
    def joined(self, user: User, group: str, timestamp_ms: int) -> None:
        """Counts a new membership; the caller has already added it to the user's ``groups``."""
        membership = self.work.change_group(user.tenant, group, timestamp_ms)
        if group not in user.paths:
            membership.add(user)
        if user.known:
            membership.members += 1

    def left(self, user: User, group: str, timestamp_ms: int) -> None:
        """Counts the end of a membership that the user's ``groups`` no longer has."""
        membership = self.work.change_group(user.tenant, group, timestamp_ms)
        if user.known:
            membership.members -= 1
        self._leave(user, group)

    def register_reference(self, tenant: TenantState, group: str, timestamp_ms: int) -> None:
        """Lets a group that only a removal names be published, too (contract, section 3)."""
        if not tenant.membership(group).user_count and group not in tenant.groups:
            self.work.emptied_groups.append(self.work.change_group(tenant, group, timestamp_ms))

    def count_members(self, user: User, sign: int, timestamp_ms: int) -> None:
        """Adds the user to, or removes it from, the member counts of its groups."""
        for group in user.groups:
            self.work.change_group(user.tenant, group, timestamp_ms).members += sign

    def _enroll(self, user: User, old_paths: tuple[str, ...]) -> None:
        """Keeps users who left a group and still have its licences findable by it (R11)."""
        if old_paths is user.paths or (not old_paths and user.paths is user.groups):
            return
        for group in user.paths:
            if group not in user.groups and group not in old_paths:
                user.tenant.membership(group).add(user)
        for group in old_paths:
            if group not in user.groups:
                self._leave(user, group)

    def _leave(self, user: User, group: str) -> None:
        if not user.belongs(group):
            membership = user.tenant.membership(group)
            membership.remove()
            if not membership.user_count:
                self.work.emptied_groups.append(membership)

    def _count(
        self, user: User, old: Outcome, old_paths: tuple[str, ...], timestamp_ms: int
    ) -> None:
        """Updates the statistics of the groups for which the user's outcome has changed."""
        tenant, by_slot = user.tenant, user.outcome.group_stats
        if not old_paths:
            for slot, group in enumerate(user.paths):
                if by_slot[slot] != NO_GROUP_STATS:
                    self.work.change_group(tenant, group, timestamp_ms).add_stats(by_slot[slot], 1)
            return
        before = dict(zip(old_paths, old.group_stats, strict=True))
        for slot, group in enumerate(user.paths):
            stats = by_slot[slot]
            was = before.pop(group, NO_GROUP_STATS)
            if stats != was:
                membership = self.work.change_group(tenant, group, timestamp_ms)
                membership.add_stats(was, -1)
                membership.add_stats(stats, 1)
        for group, was in before.items():
            if was != NO_GROUP_STATS:
                self.work.change_group(tenant, group, timestamp_ms).add_stats(was, -1)

    def report(self, fanout: FanOut) -> None:
        """Reports absolute numbers of the changed groups, with the version applied here."""
        for membership in self.work.groups_to_report:
            if membership.unreported:
                self._report(membership, fanout)
        self.work.groups_to_report.clear()

    def report_emptied(self, fanout: FanOut) -> None:
        """Reports emptied groups in the same transaction: after a restart no row shows them."""
        for membership in self.work.emptied_groups:
            if (
                membership.unreported
                and membership.group not in self.configuration.tenant(membership.tenant).groups
            ):
                self._report(membership, fanout)
        self.work.emptied_groups.clear()

    def _report(self, membership: GroupMembership, fanout: FanOut) -> None:
        membership.unreported = False
        tenant, id = membership.tenant, membership.group
        group = self.configuration.tenant(tenant).groups.get(id)
        key = f"{tenant}/{id}"
        report = GroupReportMessage(
            tenant,
            id,
            self.configuration.number,
            fanout.version(tenant, id, group.version if group else 0),
            membership.members,
            membership.licensed,
            membership.with_errors,
            {e: n for e, n in sorted(membership.errors.items()) if n},
            membership.timestamp_ms,
        )
        self.effects.emit(
            GROUP_REPORTS, key, encode_group_report(report), self.configuration.partition_of(key)
        )

    # -- rows
    def write_row(self, user: User) -> None:
        """Writes the user's row, and before it the plan sets that the row refers to."""
        if self.suppress_output:
            return
        if not user.outcome.cache.plans_written:
            self._keep_plans(user.outcome)
        self.effects.rows[USERS, f"{user.tenant.id}/{user.id}"] = user.row(mail_facts(user))

    def _keep_plans(self, outcome: Outcome) -> None:
        for e in outcome.entries:
            if e.plans.key not in self.plans:
                self.plans[e.plans.key] = e.plans
                row = PlanSetRow(e.plans.sku, sorted(e.plans.enabled), list(e.plans.disabled))
                self.effects.rows[PLAN_SETS, e.plans.key] = encode_plan_set(row)
        # What all partitions share has no entries, so that it never tells of another one's rows.
        outcome.cache.plans_written = True
