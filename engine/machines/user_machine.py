"""The user machine: the users of one partition, evaluated and published once per batch.

Events change facts, and the user is to be evaluated. It is evaluated at the end of the batch, or
before an event that would make the outcome depend on where the batch ended: the published states
follow from the order of the events alone. The phases of a user are in
:mod:`engine.machines.user_phase`.
"""

from __future__ import annotations

from typing import Any, Final

from engine.domain import events as ev
from engine.domain.deduplication import check_and_add
from engine.domain.events import ABSENT, CODES, Delivered
from engine.machines import recycle_bin, user_snapshot
from engine.machines.direct_changes import COMMANDS
from engine.machines.evaluation_need import changes_nothing, depends_on_order
from engine.machines.fan_out import GROUP, PRODUCT, SUBSCRIPTION, TENANT
from engine.machines.rule_members import kept_memberships
from engine.machines.ruled_users import RuledUsers
from engine.machines.unit_of_work import Cause
from engine.machines.user_phase import Trigger
from engine.state.address_message_codecs import AddressVerdict, decode_verdicts, reads_batches
from engine.state.message_codecs import (
    ConfigurationMessage,
    SeatGrantMessage,
    decode_seat_grant,
)
from engine.state.row_codecs import (
    PRODUCTS,
    TENANTS,
    decode_tenant,
    product_key,
)
from engine.state.tenant_state import User, order_key
from engine.state.user_mail import (
    given_facts,
    given_keys,
    keep_nickname,
    keep_published,
    published_attributes,
)
from engine.state.user_row_codecs import OptionalUserFacts

RESTORATION: Final = OptionalUserFacts.RESTORATION


class UserMachine(RuledUsers):
    """User changes, configuration, grants, verdicts in; states, errors, results, requests out."""

    # -- batches
    def changes(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``user-changes``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        dirty_users = self.work.dirty_users
        tenants = self.configuration.tenants
        event: Any
        for event, timestamp_ms, offset, source in batch:
            tenant = tenants.get(event.tenant) or self.configuration.tenant(event.tenant)
            id: str = event[2]
            user = tenant.users.get(id)
            if user is None:
                if not self.configuration.owns(f"{tenant.id}/{id}"):
                    misrouted.append(offset)
                    continue
                user = tenant.users[id] = User(tenant, id)
            seen = check_and_add(user.seen_fingerprints, CODES[type(event)], event.id, source)
            if seen is None:
                self.duplicates += 1
                continue
            user.seen_fingerprints = seen
            dirty_users[user] = None
            pending = user.pending_work
            waits = pending is not None and bool(pending.deferred_events)
            if waits or not self._step(user, event, timestamp_ms, offset):
                self._wait(user, event, timestamp_ms, offset)
        self._finish()
        return misrouted

    def configured(self, message: ConfigurationMessage) -> None:
        """Applies one message of ``internal.configuration``."""
        kind, tenant_id, group, row, timestamp_ms, caused_by = message
        if kind == GROUP:
            self._group(tenant_id, group, row, timestamp_ms, caused_by)
        elif kind == TENANT:
            tenant = self.configuration.tenant(tenant_id)
            settings = decode_tenant(row)
            if tenant.settings != settings:
                tenant.settings = settings
                self.effects.rows[TENANTS, tenant.id] = row
                self.fan_out.begin(TENANT, tenant.id, "", 0, 0, timestamp_ms, caused_by)
                for sku in tenant.leases:
                    self.work.change_lease(tenant, sku, Cause(timestamp_ms, caused_by))
        else:
            self._product(row, timestamp_ms, caused_by)
        self._finish()

    def grants(self, batch: list[Delivered]) -> None:
        """Applies grants, denials and recalls from the product machines."""
        for message, _, _, _ in batch:
            grant = decode_seat_grant(message)
            self._switch(grant)
            self._apply_allocations(self.allocator.apply_grant(grant))
        self._finish()

    def _switch(self, grant: SeatGrantMessage) -> None:
        """R15: the holders of a product that is off, or on again, are evaluated again."""
        tenant = self.configuration.tenant(grant.tenant)
        lease = tenant.lease(grant.sku)
        if grant.off == lease.off or grant.grant_seq <= lease.grant_seq:
            return
        tenant.switch(lease, grant.off)
        if lease.used:
            at, cause = grant.timestamp_ms, grant.caused_by
            self.fan_out.begin(SUBSCRIPTION, tenant.id, grant.sku, 0, 0, at, cause)

    def verdicts(self, batch: list[Delivered]) -> None:
        """R18: who owns the addresses that users of this partition claim."""
        configuration = self.configuration
        for message, _, _, _ in batch:
            verdicts = decode_verdicts(message)
            first = verdicts[0]
            if reads_batches(message):
                owner = configuration.address_partition(first.tenant, first.address)
                configuration.batch_readers.add(owner)
            users = configuration.tenant(first.tenant).users
            for verdict in verdicts:
                user = users.get(verdict.user)
                if user is not None:
                    self._verdict(user, verdict)
        self._finish()

    def _verdict(self, user: User, verdict: AddressVerdict) -> None:
        pending = user.pending_work
        if pending is None and verdict.owner == user.id:
            return  # no news
        self.work.dirty_users[user] = None
        awaiting = pending is not None and bool(pending.pending_claims)
        if not self.claims.verdict(user, verdict):
            return
        pending = user.ensure_pending_work()
        at, cause, retry = pending.evaluation or (verdict.timestamp_ms, verdict.caused_by, False)
        pending.evaluation = None
        if awaiting:
            self._enter(user, Trigger.ADDRESSES_SETTLED)
        self._fact_changed(user, at, cause, retry)

    def run_background(self, limit: int) -> bool:
        """Evaluates up to ``limit`` users of the fan-outs; returns True while there are more."""
        for user, job in self.fan_out.scan(limit):
            if job.walks and not self._visit(user, job):
                continue
            self._fact_changed(user, job.timestamp_ms, job.caused_by, retry=job.kind == GROUP)
        self._finish()
        self._report_ended(self.fan_out.finish_scans())
        self._finish()
        return self.fan_out.has_scans

    def flush(self) -> None:
        """Sends the numbers that are coalesced: seats and members."""
        self.allocator.flush()
        self.applier.report(self.fan_out)

    # -- configuration
    def _product(self, row: list[Any], timestamp_ms: int, caused_by: str) -> None:
        sku = product_key(row)
        new = sku not in self.configuration.products
        if not self.configuration.define(row):
            return
        self.effects.rows[PRODUCTS, sku] = row
        self.evaluator.clear_memo()
        if not new:
            self.fan_out.begin(PRODUCT, "", sku, 0, 0, timestamp_ms, caused_by)
        else:
            for user in [u for u in self.applier.adopting if u.adopts(sku)]:
                self._fact_changed(user, timestamp_ms, caused_by, retry=False)
        for user in list(self.direct_changes.users_with_deferred):
            for event, deferred_at in self.direct_changes.take_ready(user):
                self.work.dirty_users[user] = None
                waiting = user.pending_work is not None and user.pending_work.deferred_events
                if waiting or not self._step(user, event, deferred_at, 0):
                    self._wait(user, event, deferred_at, 0)

    # -- one event of one user
    def _step(self, user: User, event: Any, timestamp_ms: int, offset: int) -> bool:
        """Applies the event, or returns False if it has to wait for what is under way (R23)."""
        kind = type(event)
        when = order_key(timestamp_ms, offset) if kind is ev.MembershipAdded else b""
        self._apply_rules_first(user)
        if user in self.pending_evaluations and depends_on_order(user, event, when):
            self._evaluate_now(user)
        if user.pending_work is not None and user.waits and self._must_wait(user, event, when):
            return False
        self._apply_event(user, event, timestamp_ms, offset)
        return True

    def _apply_event(self, user: User, event: Any, timestamp_ms: int, offset: int) -> None:
        kind = type(event)
        if kind is ev.MembershipAdded:
            self._joined(user, event, timestamp_ms, order_key(timestamp_ms, offset))
        elif kind is ev.UserUpserted:
            self._upserted(user, event, timestamp_ms, offset)
        elif kind is ev.MembershipRemoved:
            self._left(user, event, timestamp_ms)
        elif kind is ev.UserDeleted:
            self._deleted(user, event, timestamp_ms)
        elif kind is ev.UserLicensesChanged:
            self._licenses_changed(user, event, timestamp_ms)
        elif kind is ev.UserLicensesSet:
            self._licenses_set(user, event, timestamp_ms)
        elif kind is ev.UserReprocess:
            self._reprocess(user, event, timestamp_ms)
        elif kind is ev.UserSnapshot:
            self._snapshot(user, event, timestamp_ms, offset)
        elif kind is ev.MembershipIgnored:
            self.ignored += 1
        else:
            raise TypeError(f"not a user event: {event!r}")

    def _must_wait(self, user: User, event: Any, when: bytes) -> bool:
        kind = type(event)
        if kind in COMMANDS or kind is ev.UserSnapshot:
            return True
        if user.pending_work is not None and user.pending_work.change is not None:
            return True  # a direct change that asks for a seat keeps its place
        if user.optional_facts is not None and RESTORATION in user.optional_facts:
            return True  # and so does a restoration, which asks for direct licences (R22)
        return user.seat_request is None and depends_on_order(user, event, when)

    # -- events
    def _upserted(self, user: User, event: ev.UserUpserted, timestamp_ms: int, offset: int) -> None:
        published = published_attributes(user) if user.revision > 0 else None
        was_known, facts = user.known, given_facts(user)
        keys = given_keys(user) if was_known else set()
        user.known = True
        if event.user_principal_name is not ABSENT:
            user.upn = event.user_principal_name  # type: ignore[assignment]
        if event.usage_location is not ABSENT:
            user.location = event.usage_location  # type: ignore[assignment]
        if event.mail is not ABSENT:
            user.mail = event.mail  # type: ignore[assignment]
        if event.proxy_addresses is not ABSENT:
            user.addresses = tuple(event.proxy_addresses or ())  # type: ignore[arg-type]
        if event.mail_nickname is not ABSENT:
            user.mail_nickname = event.mail_nickname or None  # type: ignore[assignment]
        keep_nickname(user, published)
        if keys or user.addresses or user.mail:
            self._claim(user, keys, timestamp_ms, offset, event.id)
        if not was_known:
            self.applier.count_members(user, 1, timestamp_ms)
            recycle_bin.begin_restoration(user, event.id)
        same = facts == given_facts(user)
        if same and was_known and event.attributes is ABSENT:
            moved = False
        else:
            moved = self._apply_attributes(user, event, facts, was_known, timestamp_ms, offset)
        if same and was_known and not moved:
            self._evaluate_later(user, timestamp_ms, event.id)
            return
        if published is not None:
            keep_published(user, published)
        self._fact_changed(user, timestamp_ms, event.id)

    def _claim(
        self, user: User, before: set[str], timestamp_ms: int, offset: int, caused_by: str
    ) -> None:
        """Claims new addresses: the user waits for verdicts instead of seats (R18)."""
        had_claims = user.pending_work is not None and bool(user.pending_work.pending_claims)
        self.claims.change_given(user, before, offset, Cause(timestamp_ms, caused_by))
        if not had_claims and user.pending_work is not None and user.pending_work.pending_claims:
            if user.seat_request is not None:
                self._abandon(user, timestamp_ms, caused_by)
            else:
                self._enter(user, Trigger.ADDRESS_CLAIMED)
            self.allocator.dequeue(user, Cause(timestamp_ms, caused_by))

    def _deleted(self, user: User, event: ev.UserDeleted, timestamp_ms: int) -> None:
        cause = Cause(timestamp_ms, event.id)
        if user.seat_request is not None:
            self._abandon(user, timestamp_ms, event.id)
        self.pending_evaluations.pop(user, None)
        if user.known:
            self.claims.release_all(user, cause)
            self.rule_members.leave_all(user, timestamp_ms)
        kept = kept_memberships(user)
        self.allocator.dequeue(user, cause)
        self.direct_changes.reject_open(user, timestamp_ms)
        if event.restorable:
            if user.known:
                direct = recycle_bin.direct_licenses(user, self.configuration.products)
                self.applier.delete(user, cause, keep_facts=True)
                user.set_optional_fact(OptionalUserFacts.RECYCLE_BIN, direct)
                user.set_optional_fact(OptionalUserFacts.KEPT_MEMBERSHIPS, kept or None)
        else:
            self.applier.delete(user, cause)
        self._enter(user, Trigger.USER_DELETED)
        self._report_ended(self.fan_out.release(user))

    def _snapshot(self, user: User, event: ev.UserSnapshot, timestamp_ms: int, offset: int) -> None:
        """R25: replaces the user's facts; the next evaluation adopts the licences."""
        rejection = user_snapshot.exceeds_limit(self.configuration.limits, event)
        if rejection is not None:
            self.direct_changes.reject_snapshot(user, event.id, rejection)
            self._evaluate_later(user, timestamp_ms, event.id)
            return
        published = published_attributes(user) if user.revision > 0 else None
        keys = given_keys(user) if user.known else set()
        user.upn, user.location, user.mail = (
            event.user_principal_name, event.usage_location, event.mail,
        )  # fmt: skip
        user.addresses, user.mail_nickname = event.proxy_addresses, event.mail_nickname or None
        keep_nickname(user, published)
        if not user.known:
            user.known = True
            self.applier.count_members(user, 1, timestamp_ms)
        self._claim(user, keys, timestamp_ms, offset, event.id)
        self._replace_memberships(user, event, timestamp_ms, offset)
        self.rule_members.replace(user, event.attributes)
        self.rule_members.update_all(user, timestamp_ms, offset)
        licenses = user_snapshot.licenses(event, timestamp_ms)
        user.set_optional_fact(OptionalUserFacts.RECYCLE_BIN, None)
        user.set_optional_fact(OptionalUserFacts.RESTORATION, None)
        user.set_optional_fact(OptionalUserFacts.ADOPTION, [True, licenses])
        if published is not None:
            keep_published(user, published)
        self._fact_changed(user, timestamp_ms, event.id)

    def _joined(
        self, user: User, event: ev.MembershipAdded, timestamp_ms: int, when: bytes
    ) -> None:
        kept = kept_memberships(user)
        count = len(user.groups) - len(user.rule_groups) + len(kept)
        there = event.group in kept or (
            event.group in user.groups and event.group not in user.rule_groups
        )
        if count >= self.configuration.limits.memberships and not there:
            self.direct_changes.reject_membership(user, event.id, count + 1)
            self._evaluate_later(user, timestamp_ms, event.id)
        elif self.rule_members.is_ruled(user, event.group):
            self.rule_members.keep(user, event.group, when)
            self._evaluate_later(user, timestamp_ms, event.id)
        elif user.join(event.group, when):
            self.applier.joined(user, event.group, timestamp_ms)
            if user in self.pending_evaluations or not changes_nothing(user, event.group):
                self._fact_changed(user, timestamp_ms, event.id)
        else:
            self._evaluate_later(user, timestamp_ms, event.id)

    def _left(self, user: User, event: ev.MembershipRemoved, timestamp_ms: int) -> None:
        if self.rule_members.is_ruled(user, event.group):
            self.rule_members.release(user, event.group)
            self._evaluate_later(user, timestamp_ms, event.id)
        elif user.leave(event.group):
            self.applier.left(user, event.group, timestamp_ms)
            self._fact_changed(user, timestamp_ms, event.id)
        else:
            self.applier.register_reference(user.tenant, event.group, timestamp_ms)
            self._evaluate_later(user, timestamp_ms, event.id)

    def _reprocess(self, user: User, event: ev.UserReprocess, timestamp_ms: int) -> None:
        if self.direct_changes.begin_reprocess(user, event, timestamp_ms):
            self._evaluate_change(user, timestamp_ms, event.id)

    def _licenses_changed(
        self, user: User, event: ev.UserLicensesChanged, timestamp_ms: int
    ) -> None:
        if self.direct_changes.begin(user, event, timestamp_ms):
            self._evaluate_change(user, timestamp_ms, event.id)
        elif not event.add and not event.remove:
            self._evaluate_later(user, timestamp_ms, event.id)  # R9: an event of the user's own

    def _licenses_set(self, user: User, event: ev.UserLicensesSet, timestamp_ms: int) -> None:
        if self.direct_changes.begin_whole_list(user, event, timestamp_ms):
            self._evaluate_change(user, timestamp_ms, event.id)
        else:
            self._evaluate_later(user, timestamp_ms, event.id)  # R9: an event of the user's own

    # -- restore
    def start(self) -> None:
        """Rebuilds what follows from the rows; every group is to be reported again."""
        self.restore.start()
        self.allocator.start()
        self.fan_out.start()
        self._finish()
