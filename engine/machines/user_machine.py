"""The user machine: users of one partition, evaluated once per batch, published once (section 3).

Events change facts; a changed user is *due*. It is evaluated at the end of the batch, or before an
event that would make the outcome depend on where the batch ended: the states that are published
follow from the order of the events alone.
"""

from __future__ import annotations

from typing import Any, Final

from engine.documents.audit import audit
from engine.documents.results import result
from engine.domain import events as ev
from engine.domain.deduplication import check_and_add
from engine.domain.effects import Effects
from engine.domain.events import ABSENT, CODES, Delivered
from engine.machines.address_claims import AddressClaims
from engine.machines.fan_out import GROUP, PRODUCT, TENANT, FanOut, Job
from engine.machines.outcome_applier import OutcomeApplier
from engine.machines.seat_allocation import NOTHING_RESERVED, Reserved, SeatAllocator
from engine.machines.user_evaluator import NO_DENIALS, EvaluationResult, UserEvaluator
from engine.machines.user_restore import UserRestore
from engine.rules.direct_change import Rejection
from engine.state.configuration import Configuration
from engine.state.message_codecs import (
    ConfigurationMessage,
    decode_address_verdict,
    decode_seat_grant,
)
from engine.state.row_codecs import (
    GROUPS,
    PRODUCTS,
    TENANTS,
    decode_group,
    decode_tenant,
    product_key,
)
from engine.state.tenant_state import MOMENT, User, moment
from engine.state.user_row_codecs import decode_deferred_event, encode_deferred_event, tuples

Due = tuple[int, str, bool]
"""An evaluation that is due: at, cause, and whether it tries again what was denied (R9)."""

Hungry = tuple[int, str, str, User, Due, EvaluationResult]
"""A user who wants seats, in R8's order: since, user id, tenant; what is due; what is decided."""

CONCURRENCY: Final = "LicenseAssignmentAttributeConcurrencyException"


class UserMachine:
    """User changes, configuration, grants, verdicts in; states, errors, results, requests out."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.evaluator = UserEvaluator(configuration)
        self.applier = OutcomeApplier(configuration, effects)
        self.restore = UserRestore(configuration, self.applier)
        self.touched: dict[User, None] = {}
        self.seating = SeatAllocator(
            configuration, effects, self.evaluator, self._conclude, self.touched
        )
        self.claims = AddressClaims(configuration, effects)
        self.fanout = FanOut(configuration, effects, self._again, self._walked)
        self.due: dict[User, Due] = {}
        self.hungry: list[Hungry] = []
        self.duplicates = 0
        self.ignored = 0

    # -- batches
    def changes(self, batch: list[Delivered]) -> None:
        """A batch of ``user-changes``, in the order of the log."""
        tenants = self.configuration.tenants
        event: Any
        for event, at, offset, source in batch:
            tenant = tenants.get(event.tenant) or self.configuration.tenant(event.tenant)
            id: str = event[2]
            user = tenant.users.get(id)
            if user is None:
                if not self.configuration.mine(f"{tenant.id}/{id}", offset):
                    continue
                user = tenant.users[id] = User(tenant, id)
            seen = check_and_add(user.seen, CODES[type(event)], event.id, source)
            if seen is None:
                self.duplicates += 1
                continue
            user.seen = seen
            self.touched[user] = None
            more = user.more
            if more is not None and more.queue:
                more.queue.append(encode_deferred_event(event, at, offset))
            elif not self._step(user, event, at, offset):
                user.extra().queue.append(encode_deferred_event(event, at, offset))
        self._finish()

    def configured(self, message: ConfigurationMessage) -> None:
        """One message of ``internal.configuration``."""
        kind, tenant_id, group, row, at, cause = message
        self.seating.at, self.seating.cause = at, cause
        if kind == GROUP:
            self._group(tenant_id, group, row, at, cause)
        elif kind == TENANT:
            tenant = self.configuration.tenant(tenant_id)
            settings = decode_tenant(row)
            if tenant.settings != settings:
                tenant.settings = settings
                self.effects.rows[TENANTS, tenant.id] = row
                self.fanout.begin(TENANT, tenant.id, "", 0, 0, at, cause)
                for sku in tenant.leases:
                    self.seating.touch(tenant, sku)
        else:
            self._product(row, at, cause)
        self._finish()

    def grants(self, batch: list[Delivered]) -> None:
        for message, _, _, _ in batch:
            self.seating.grant(decode_seat_grant(message))
        self._finish()

    def verdicts(self, batch: list[Delivered]) -> None:
        """R18: who owns the addresses that users of this partition claim."""
        for message, _, _, _ in batch:
            verdict = decode_address_verdict(message)
            user = self.configuration.tenant(verdict.tenant).users.get(verdict.user)
            if user is None:
                continue
            self.touched[user] = None
            if not self.claims.verdict(user, verdict):
                continue
            assert user.more is not None
            due = user.more.due or (verdict.timestamp_ms, verdict.caused_by, False)
            user.more.due = None
            self._fact_changed(user, *due)
        self._finish()

    def work(self, limit: int) -> bool:
        """A slice of the fan-outs; True while there is more."""
        self.fanout.work(limit)
        self._finish()
        self.fanout.finish()
        self._finish()
        return self.fanout.pending

    def flush(self) -> None:
        self.seating.flush()
        self.applier.report(self.fanout)

    # -- configuration
    def _group(self, tenant_id: str, id: str, row: list[Any], at: int, cause: str) -> None:
        tenant = self.configuration.tenant(tenant_id)
        version, licenses, deleted = decode_group(row)
        known = tenant.groups.get(id)
        if known is not None and known.version >= version:
            return
        wanted = {sku: tuple(off) for sku, off in licenses.items()}
        tenant.groups[id] = self.configuration.group(version, wanted, deleted)
        self.effects.rows[GROUPS, f"{tenant_id}/{id}"] = row
        before = known.version if known else 0
        if tenant.membership(id).present or self.fanout.has(tenant_id, id):
            self.fanout.begin(GROUP, tenant_id, id, version, before, at, cause)
        self.applier.changed(tenant, id, at)

    def _product(self, row: list[Any], at: int, cause: str) -> None:
        sku = product_key(row)
        new = sku not in self.configuration.products
        if not self.configuration.define(row):
            return
        self.effects.rows[PRODUCTS, sku] = row
        self.evaluator.clear_memo()
        if not new:
            self.fanout.begin(PRODUCT, "", sku, 0, 0, at, cause)
        for user in list(self.applier.deferring):
            self._carry_out_deferred(user)

    def _walked(self, job: Job) -> None:
        if job.kind == GROUP:
            self.applier.changed(self.configuration.tenant(job.tenant), job.id, job.at)

    # -- one event of one user
    def _step(self, user: User, event: Any, at: int, offset: int) -> bool:
        """Applies the event, or returns False if it has to wait for what is under way (R23)."""
        kind = type(event)
        when = moment(at, offset) if kind is ev.MembershipAdded else b""
        if user in self.due and self._depends(user, kind, when):
            self._evaluate_now(user)
        if user.more is not None and user.waits and self._must_wait(user, kind, when):
            return False
        if kind is ev.MembershipAdded:
            self._joined(user, event, at, when)
        elif kind is ev.UserUpserted:
            self._upserted(user, event, at, offset)
        elif kind is ev.MembershipRemoved:
            self._left(user, event, at)
        elif kind is ev.UserDeleted:
            self._deleted(user, event, at, offset)
        elif kind is ev.UserLicensesChanged:
            self._licenses_changed(user, event, at)
        elif kind is ev.UserReprocess:
            self._reprocess(user, event, at)
        elif kind is ev.MembershipIgnored:
            self.ignored += 1
        else:
            raise TypeError(f"not a user event: {event!r}")
        return True

    def _must_wait(self, user: User, kind: type, when: bytes) -> bool:
        if kind is ev.UserLicensesChanged or kind is ev.UserReprocess:
            return True
        if user.more is not None and user.more.change is not None:
            return True  # a direct change that asks for a seat keeps its place
        return user.attempt is None and self._depends(user, kind, when)

    def _depends(self, user: User, kind: type, when: bytes) -> bool:
        """Whether to evaluate before the event of ``when`` may differ from evaluating after it.

        It may not, when a user without licences and errors, asked for by one group at most, joins
        another one later: R8 attempts the groups in this order anyway.
        """
        if kind is not ev.MembershipAdded or user.outcome.states:
            return True
        groups, asked = user.tenant.groups, 0
        for id in user.groups:
            group = groups.get(id)
            if group is not None and group.license_set is not None:
                asked += 1
        return asked > 1 or user.since[-MOMENT:] > when

    def _fact_changed(self, user: User, at: int, cause: str, retry: bool = True) -> None:
        """A membership, a group or an attribute changed: the user is evaluated afresh (R9, R23)."""
        if user.attempt is not None:
            self._abandon(user, at, cause)
            retry = True
        self._evaluate_later(user, at, cause, retry)

    def _evaluate_later(self, user: User, at: int, cause: str, retry: bool = True) -> None:
        """``retry``: an event of the user's own or of a group, which tries seats again (R9)."""
        if user.more is not None and user.more.pending:
            user.more.due = (at, cause, retry or bool(user.more.due and user.more.due[2]))
        elif user.known and user.attempt is None:
            if not retry:
                before = self.due.get(user)
                retry = before is not None and before[2]
            self.due[user] = (at, cause, retry)

    def _abandon(self, user: User, at: int, cause: str) -> None:
        attempt = self.seating.abandon(user)
        self.touched[user] = None
        reason = f"{CONCURRENCY}: the user changed while a seat was asked for; evaluated afresh"
        value = audit(
            user.tenant.id,
            ("User", user.id),
            CONCURRENCY,
            at,
            attempt.cause,
            [],
            reason,
            failed=True,
        )
        self.effects.emit("audit", f"{user.tenant.id}/{user.id}", value | {"causedBy": cause})

    # -- events
    def _upserted(self, user: User, event: ev.UserUpserted, at: int, offset: int) -> None:
        shown = user.attributes() if user.revision > 0 else None
        was_known, facts = user.known, (user.location, user.upn, user.mail, user.addresses)
        user.known = True
        if event.user_principal_name is not ABSENT:
            user.upn = event.user_principal_name  # type: ignore[assignment]
        if event.usage_location is not ABSENT:
            user.location = event.usage_location  # type: ignore[assignment]
        if event.mail is not ABSENT:
            user.mail = event.mail  # type: ignore[assignment]
        if event.proxy_addresses is not ABSENT:
            user.addresses = tuple(event.proxy_addresses or ())  # type: ignore[arg-type]
            if user.addresses or facts[3]:
                self._claim(user, facts[3], at, offset, event.id)
        if not was_known:
            self.applier.count_members(user, 1, at)
        if facts == (user.location, user.upn, user.mail, user.addresses) and was_known:
            self._evaluate_later(user, at, event.id)
            return
        if user.revision > 0 and (user.more is None or user.more.shown is None):
            user.extra().shown = shown
        self._fact_changed(user, at, event.id)

    def _claim(self, user: User, old: tuple[str, ...], at: int, offset: int, cause: str) -> None:
        pending = user.more is not None and bool(user.more.pending)
        self.claims.change(user, old, at, offset, cause)
        if not pending and user.more is not None and user.more.pending:
            if user.attempt is not None:
                self._abandon(user, at, cause)
            self.seating.leave_lines(user)

    def _deleted(self, user: User, event: ev.UserDeleted, at: int, offset: int) -> None:
        if user.attempt is not None:
            self._abandon(user, at, event.id)
        self.due.pop(user, None)
        self.claims.change(user, user.addresses, at, offset, event.id, gone=True)
        self.seating.leave_lines(user)
        more = user.more
        for id, *_ in [
            *(more.deferred if more else []),
            *([more.change] if more and more.change else []),
        ]:
            self._result(user, id, "rejected", not_found(user))
        self.applier.delete(user, at, event.id, self.seating)
        self.fanout.settled(user)

    def _joined(self, user: User, event: ev.MembershipAdded, at: int, when: bytes) -> None:
        if user.join(event.group, when):
            self.applier.joined(user, event.group, at)
            self._fact_changed(user, at, event.id)
        else:
            self._evaluate_later(user, at, event.id)

    def _left(self, user: User, event: ev.MembershipRemoved, at: int) -> None:
        if user.leave(event.group):
            self.applier.left(user, event.group, at)
            self._fact_changed(user, at, event.id)
        else:
            self.applier.named(user.tenant, event.group, at)
            self._evaluate_later(user, at, event.id)

    def _reprocess(self, user: User, event: ev.UserReprocess, at: int) -> None:
        if not user.known:
            self._result(user, event.id, "rejected", not_found(user))
            return
        user.extra().change = [event.id, None, None, at]
        self.due[user] = (at, event.id, True)
        self._evaluate_now(user)

    def _licenses_changed(self, user: User, event: ev.UserLicensesChanged, at: int) -> None:
        named = [*dict(event.add), *event.remove]
        if not user.known:
            self._result(user, event.id, "rejected", not_found(user))
        elif not named:
            message = "The change names nothing to add and nothing to remove."
            self._result(user, event.id, "rejected", Rejection("NoChange", None, (), message))
            self._evaluate_later(user, at, event.id)
        elif not self.configuration.defined(named):
            user.extra().deferred.append([event.id, event.add, event.remove, at])
            self.applier.deferring[user] = None
            self._result(user, event.id, "deferred")
        else:
            self._change_directly(user, event.id, event.add, event.remove, at)

    def _change_directly(self, user: User, id: str, add: Any, remove: Any, at: int) -> None:
        user.extra().change = [id, add, remove, at]
        self.due[user] = (at, id, True)
        self._evaluate_now(user)

    def _carry_out_deferred(self, user: User) -> None:
        """R21: as if the change came now, after what is under way."""
        assert user.more is not None
        ready = [d for d in user.more.deferred if self.configuration.defined([*dict(d[1]), *d[2]])]
        if len(ready) == len(user.more.deferred):
            self.applier.deferring.pop(user, None)
        for change in ready:
            more = user.extra()
            more.deferred.remove(change)
            id, add, remove, at = change
            event = ev.UserLicensesChanged(id, user.tenant.id, user.id, tuples(add), tuples(remove))
            self.touched[user] = None
            if more.queue or not self._step(user, event, at, 0):
                more.queue.append(encode_deferred_event(event, at, 0))

    # -- evaluation
    def _again(self, user: User, job: Job) -> None:
        """A change of configuration touches the user."""
        self._fact_changed(user, job.at, job.cause, retry=job.kind == GROUP)

    def _evaluate_now(self, user: User) -> None:
        self._evaluate(user, self.due.pop(user), 0)
        while self.hungry:
            self._seat(*self.hungry.pop()[3:])

    def _evaluate(self, user: User, due: Due, rivals: int) -> None:
        """``rivals``: how many more of this batch may want seats."""
        at, cause, _ = due
        decision = self.evaluator.evaluate(
            user, self._denied(user, due) if user.outcome.waiting else NO_DENIALS
        )
        wanted = decision.required_seats
        if not wanted or self.seating.plenty(user, wanted, rivals + len(self.hungry)):
            self._conclude(user, decision, at, cause, NOTHING_RESERVED)
        else:
            since = min((s for _, s in self.seating.places(user)), default=at)
            self.hungry.append((since, user.id, user.tenant.id, user, due, decision))

    def _seat(self, user: User, due: Due, decision: EvaluationResult) -> None:
        if user.attempt is None:
            at, cause, _ = due
            self.touched[user] = None
            self.seating.begin(user, decision, at, cause, self._denied(user, due))

    @staticmethod
    def _denied(user: User, due: Due) -> frozenset[str]:
        """R9: with manual retry, what was denied stays so until an event of the user or a group."""
        waiting = user.outcome.waiting
        if not waiting or due[2] or user.tenant.settings.automatic:
            return NO_DENIALS
        return frozenset(waiting)

    def _conclude(
        self, user: User, decision: EvaluationResult, at: int, cause: str, got: Reserved
    ) -> None:
        """Applies a decision whose seats are had, and lets what waited for it go on."""
        self.touched[user] = None
        self.due.pop(user, None)
        self.applier.apply(user, decision, at, cause, got, self.seating)
        more = user.more
        if more is None:
            return
        if more.change is not None:
            id, add, *_ = more.change
            more.change = None
            why = decision.rejection
            self._result(user, id, "rejected" if why else "applied", why)
            if why and add is not None:
                self._rejected_audit(user, id, at, why)
        self.fanout.settled(user)
        self._drain(user)

    def _drain(self, user: User) -> None:
        """Events that waited for the attempt, in their order (R23)."""
        while user.more is not None and user.more.queue:
            queue, user.more.queue = user.more.queue, []
            event, at, offset = decode_deferred_event(queue[0])
            done = self._step(user, event, at, offset)
            if left := queue[done:]:
                user.extra().queue = left
            if not done:
                break
        if user.more is not None and user.more.empty():
            user.more = None

    def _finish(self) -> None:
        """Evaluates who is due, gives seats in R8's order, and writes the rows that changed."""
        while self.due or self.hungry or self.seating.touched:
            while self.due:
                due, self.due = self.due, {}
                rivals = len(due)
                for user, why in due.items():
                    rivals -= 1
                    self._evaluate(user, why, rivals)
            hungry, self.hungry = sorted(self.hungry), []
            for *_, user, why, decision in hungry:
                self._seat(user, why, decision)
            self.seating.settle()
            if not self.due and not self.hungry:
                self.seating.report()
        if self.touched:
            for user in self.touched:
                self.applier.keep(user)
            self.touched.clear()
        if self.applier.vacated:
            self.applier.report_vacated(self.fanout)

    # -- output
    def _result(self, user: User, id: str, status: str, why: Rejection | None = None) -> None:
        value = result(id, {"tenant": user.tenant.id, "user": user.id}, status, why)
        self.effects.emit("results", f"{user.tenant.id}/{user.id}", value)

    def _rejected_audit(self, user: User, id: str, at: int, why: Rejection) -> None:
        value = audit(
            user.tenant.id, ("User", user.id), "Change user license", at, id, [],
            f"{why.error}: {why.message}", failed=True,
        )  # fmt: skip
        self.effects.emit("audit", f"{user.tenant.id}/{user.id}", value)

    # -- restore
    def start(self) -> None:
        self.restore.start()
        self.seating.start()
        self.fanout.start()
        self._finish()


def not_found(user: User) -> Rejection:
    return Rejection("UserNotFound", None, (), f"There is no user {user.id}.")
