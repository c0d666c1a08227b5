"""When users are evaluated: pending evaluations, the seats they request, and their conclusion.

:class:`UserEvaluations` is the lower half of the user machine; the upper half applies events.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from engine.documents.audit import audit
from engine.domain.effects import Effects
from engine.domain.messages import Rejection, limit_exceeded
from engine.machines.address_claims import AddressClaims
from engine.machines.direct_changes import COMMANDS, DirectChanges
from engine.machines.fan_out import GROUP, FanOut, Job
from engine.machines.outcome_applier import OutcomeApplier
from engine.machines.seat_allocation import NO_RESERVATION, Allocation, SeatAllocator
from engine.machines.unit_of_work import Cause, UnitOfWork
from engine.machines.user_evaluator import NO_DENIALS, EvaluationResult, UserEvaluator
from engine.machines.user_phase import Trigger, UserPhase, phase_of
from engine.machines.user_restore import UserRestore
from engine.state.configuration import Configuration
from engine.state.deferred_changes import json_size
from engine.state.tenant_state import User
from engine.state.user_row_codecs import decode_deferred_event, encode_deferred_event


class PendingEvaluation(Cause):
    """An evaluation that is to be made. ``retry``: it tries again what was denied (R9)."""

    __slots__ = ("retry",)

    def __init__(self, timestamp_ms: int, event_id: str, retry: bool) -> None:
        super().__init__(timestamp_ms, event_id)
        self.retry = retry


SeatCandidate = tuple[int, str, str, User, PendingEvaluation, EvaluationResult]
"""A user who wants seats, in R8's order: since, user id, tenant; why; what was decided."""

CONCURRENCY: Final = "LicenseAssignmentAttributeConcurrencyException"


class UserEvaluations:
    """Evaluates users and makes the outcome theirs; asks for seats in the order of R8."""

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        work: UnitOfWork,
        suppress_output: bool = False,
    ) -> None:
        self.configuration = configuration
        self.effects = effects
        self.work = work
        self.evaluator = UserEvaluator(configuration)
        self.allocator = SeatAllocator(configuration, effects, self.evaluator, work)
        self.applier = OutcomeApplier(configuration, effects, work, self.allocator, suppress_output)
        self.direct_changes = DirectChanges(configuration, effects)
        self.restore = UserRestore(configuration, self.applier, self.direct_changes)
        self.claims = AddressClaims(configuration, effects)
        self.fan_out = FanOut(configuration, effects)
        self.pending_evaluations: dict[User, PendingEvaluation] = {}
        self.seat_candidates: list[SeatCandidate] = []
        self.duplicates = 0
        self.ignored = 0

    def phase(self, user: User) -> UserPhase:
        """Returns the phase that the user is in."""
        return phase_of(user, user in self.pending_evaluations)

    def _enter(self, user: User, trigger: Trigger) -> None:
        if self.work.phase_log is not None:
            self.work.phase_log.append((user, trigger, self.phase(user)))

    def _step(self, user: User, event: Any, timestamp_ms: int, offset: int) -> bool:
        """Applies one event, or returns False if it has to wait; the user machine's own."""
        raise NotImplementedError

    def _apply_event(self, user: User, event: Any, timestamp_ms: int, offset: int) -> None:
        """Applies one event; the user machine's own."""
        raise NotImplementedError

    # -- what is to be evaluated
    def _fact_changed(
        self, user: User, timestamp_ms: int, caused_by: str, retry: bool = True
    ) -> None:
        """A membership, a group or an attribute changed: the user is evaluated afresh (R9, R23)."""
        if user.seat_request is not None:
            self._abandon(user, timestamp_ms, caused_by)
            retry = True
        self._evaluate_later(user, timestamp_ms, caused_by, retry)

    def _evaluate_later(
        self, user: User, timestamp_ms: int, caused_by: str, retry: bool = True
    ) -> None:
        """``retry``: an event of the user's own or of a group, which tries seats again (R9)."""
        if user.pending_work is not None and user.pending_work.pending_claims:
            user.pending_work.evaluation = (
                timestamp_ms,
                caused_by,
                retry or bool(user.pending_work.evaluation and user.pending_work.evaluation[2]),
            )
        elif user.known and user.seat_request is None:
            if not retry:
                before = self.pending_evaluations.get(user)
                retry = before is not None and before.retry
            self.pending_evaluations[user] = PendingEvaluation(timestamp_ms, caused_by, retry)
            if self.work.phase_log is not None:
                self._enter(user, Trigger.FACT_CHANGED)

    def _abandon(self, user: User, timestamp_ms: int, caused_by: str) -> None:
        seat_request = self.allocator.abandon(user, Cause(timestamp_ms, caused_by))
        self.work.dirty_users[user] = None
        reason = f"{CONCURRENCY}: the user changed while a seat was asked for; evaluated afresh"
        value = audit(
            user.tenant.id,
            ("User", user.id),
            CONCURRENCY,
            timestamp_ms,
            seat_request.caused_by,
            [],
            reason,
            failed=True,
        )
        self.effects.emit("audit", f"{user.tenant.id}/{user.id}", value | {"causedBy": caused_by})
        self._enter(user, Trigger.REQUEST_ABANDONED)

    def _evaluate_change(self, user: User, timestamp_ms: int, caused_by: str) -> None:
        self.pending_evaluations[user] = PendingEvaluation(timestamp_ms, caused_by, True)
        self._enter(user, Trigger.CHANGE_BEGUN)
        self._evaluate_now(user)

    # -- evaluation
    def _evaluate_now(self, user: User) -> None:
        self._evaluate(user, self.pending_evaluations.pop(user), 0)
        while self.seat_candidates:
            self._request_seats(*self.seat_candidates.pop()[3:])

    def _evaluate(self, user: User, pending: PendingEvaluation, competing_users: int) -> None:
        """``competing_users``: how many more of this batch may want seats."""
        denied = self._denied(user, pending) if user.outcome.waiting else NO_DENIALS
        decision = self.evaluator.evaluate(user, denied)
        if decision.outcome.mail_wanted or user.derived or user.pending_work is not None:
            awaiting = self._claim_derived(user, decision, pending)
            while awaiting is None:
                decision = self.evaluator.evaluate(user, denied)
                awaiting = self._claim_derived(user, decision, pending)
            if awaiting:
                return
        skus, allocator = decision.required_seats, self.allocator
        competing_users += len(self.seat_candidates)
        if not skus or allocator.has_capacity(user, skus, competing_users):
            self._conclude(user, decision, pending, NO_RESERVATION)
        else:
            entries = allocator.waitlist_entries(user)
            since = min((s for _, s in entries), default=pending.timestamp_ms)
            self.seat_candidates.append((since, user.id, user.tenant.id, user, pending, decision))

    def _claim_derived(
        self, user: User, decision: EvaluationResult, pending: PendingEvaluation
    ) -> bool | None:
        """R18: claims the addresses that the decision would bring; True if the user has to wait.

        None if a duplicate was dropped, so that the decision is to be made again.
        """
        wanted = decision.outcome.mail_wanted or self.direct_changes.brings_mail(user)
        claimed = self.claims.claim_derived(user, wanted, pending)
        if claimed:
            user.ensure_pending_work().evaluation = (
                pending.timestamp_ms,
                pending.event_id,
                pending.retry,
            )
            self.work.dirty_users[user] = None
            self.allocator.dequeue(user, pending)
            self._enter(user, Trigger.ADDRESS_CLAIMED)
        return claimed

    def _request_seats(
        self, user: User, pending: PendingEvaluation, decision: EvaluationResult
    ) -> None:
        if user.seat_request is not None:
            return
        self.work.dirty_users[user] = None
        denied = self._denied(user, pending)
        allocation = self.allocator.request(user, decision, pending, denied)
        if allocation is not None:
            self._apply(allocation)
        else:
            self._enter(user, Trigger.SEATS_REQUESTED)

    @staticmethod
    def _denied(user: User, pending: PendingEvaluation) -> frozenset[str]:
        """R9: with manual retry, what was denied stays so until an event of the user or a group."""
        waiting = user.outcome.waiting
        if not waiting or pending.retry or user.tenant.settings.automatic:
            return NO_DENIALS
        return frozenset(waiting)

    def _apply_allocations(self, allocations: Iterable[Allocation]) -> None:
        for allocation in allocations:
            self._apply(allocation)

    def _apply(self, allocation: Allocation) -> None:
        """Applies an allocation; if it would bring addresses not claimed yet, they come first.

        That happens where a group or a product changed while the user waited for the seat.
        """
        user, cause = allocation.user, allocation.cause
        if allocation.decision.outcome.mail_wanted:
            again = PendingEvaluation(cause.timestamp_ms, cause.event_id, True)
            if self._claim_derived(user, allocation.decision, again):
                for sku in allocation.reserved:
                    self.work.change_lease(user.tenant, sku, cause).reserved -= 1
                return
        self._conclude(allocation.user, allocation.decision, allocation.cause, allocation.reserved)

    def _conclude(
        self, user: User, decision: EvaluationResult, cause: Cause, reserved: AbstractSet[str]
    ) -> None:
        """Applies a decision whose seats are reserved; events that waited for it follow."""
        self.work.dirty_users[user] = None
        self.pending_evaluations.pop(user, None)
        self.applier.apply(user, decision, cause, reserved)
        if decision.left_out:
            self._report_left_out(user, decision.left_out, cause)
        if decision.not_restored is not None:
            self.direct_changes.answer_restoration(user, decision.not_restored)
        pending = user.pending_work
        if pending is not None:
            self.direct_changes.complete(user, decision.rejection, cause.timestamp_ms)
        if pending is not None or user.derived:
            self.claims.release_unused(user, user.outcome.mail_wanted, cause)
        if self.work.phase_log is not None:
            self._enter(user, Trigger.OUTCOME_APPLIED)
        if pending is not None:
            self._report_ended(self.fan_out.release(user))
            self._drain(user)

    def _report_left_out(self, user: User, licenses: int, cause: Cause) -> None:
        limits = self.configuration.limits
        reason = (
            f"LimitExceeded: {licenses:,} licences of the user's groups are left out; a user may"
            f" have {limits.assignments:,} through {limits.licensed_groups:,} groups"
        )
        value = audit(
            user.tenant.id, ("User", user.id), "Change user license", cause.timestamp_ms,
            cause.event_id, [], reason, failed=True,
        )  # fmt: skip
        self.effects.emit("audit", f"{user.tenant.id}/{user.id}", value)

    def _drain(self, user: User) -> None:
        """Applies the events that waited for the evaluation under way, in their order (R23)."""
        while user.pending_work is not None and user.pending_work.deferred_events:
            pending = user.pending_work
            queue, size = pending.deferred_events, pending.deferred_event_bytes
            pending.deferred_events, pending.deferred_event_bytes = [], 0
            event, timestamp_ms, offset = decode_deferred_event(queue[0])
            done = self._step(user, event, timestamp_ms, offset)
            if left := queue[done:]:
                pending = user.ensure_pending_work()
                pending.deferred_events = left
                pending.deferred_event_bytes = size - (json_size(queue[0]) if done else 0)
            if not done:
                break
        if user.pending_work is not None and user.pending_work.empty():
            user.pending_work = None
        evaluation = self.pending_evaluations.get(user)
        if evaluation is not None:  # no seat is offered to the user before the evaluation
            self.allocator.dequeue(user, evaluation)

    def _wait(self, user: User, event: Any, timestamp_ms: int, offset: int) -> None:
        """Queues an event behind what is under way (R23).

        Beyond the limits a command is rejected. Any other event states a fact, which is not lost:
        it ends the wait.
        """
        pending, limits = user.ensure_pending_work(), self.configuration.limits
        row = encode_deferred_event(event, timestamp_ms, offset)
        number = len(pending.deferred_events) + 1
        size = pending.deferred_event_bytes + json_size(row)
        if number > limits.waiting_events:
            rejection = limit_exceeded("events that wait for a user", limits.waiting_events, number)
        elif size > limits.deferred_bytes:
            rejection = limit_exceeded(
                "bytes of events that wait for a user", limits.deferred_bytes, size
            )
        else:
            pending.deferred_events.append(row)
            pending.deferred_event_bytes = size
            return
        if type(event) in COMMANDS:
            self.direct_changes.reject_waiting(user, event, rejection, timestamp_ms)
        else:
            pending.deferred_events.append(row)
            self._end_wait(user, rejection, Cause(timestamp_ms, event.id))

    def _end_wait(self, user: User, rejection: Rejection, cause: Cause) -> None:
        """Rejects the commands of a user, under way or waiting, and applies what else waits.

        A restoration under way ends without the direct licences.
        """
        if user.seat_request is not None:
            self._abandon(user, cause.timestamp_ms, cause.event_id)
        self.direct_changes.give_up_restoration(user, rejection)
        pending = user.ensure_pending_work()
        if pending.change is not None:
            self.direct_changes.complete(user, rejection, cause.timestamp_ms)
            self._enter(user, Trigger.CHANGE_GIVEN_UP)
        queue, pending.deferred_events = pending.deferred_events, []
        pending.deferred_event_bytes = 0
        for row in queue:
            event, timestamp_ms, offset = decode_deferred_event(row)
            if type(event) in COMMANDS:
                self.direct_changes.reject_waiting(user, event, rejection, timestamp_ms)
            else:
                self.pending_evaluations.pop(user, None)  # one comes after the last event
                self._apply_event(user, event, timestamp_ms, offset)
        left = user.pending_work
        if left is not None and not left.pending_claims:
            left.evaluation = None
        self._evaluate_later(user, cause.timestamp_ms, cause.event_id)

    def _finish(self) -> None:
        """Evaluates users, requests seats in R8's order, and writes the rows that changed."""
        work = self.work
        while self.pending_evaluations or self.seat_candidates or work.dirty_leases:
            while self.pending_evaluations:
                evaluations, self.pending_evaluations = self.pending_evaluations, {}
                competing_users = len(evaluations)
                for user, pending in evaluations.items():
                    competing_users -= 1
                    self._evaluate(user, pending, competing_users)
            candidates, self.seat_candidates = sorted(self.seat_candidates), []
            for *_, user, pending, decision in candidates:
                self._request_seats(user, pending, decision)
            self._apply_allocations(self.allocator.distribute_idle())
            if not self.pending_evaluations and not self.seat_candidates:
                self.allocator.report()
        self.claims.unsent.send()
        if work.dirty_users:
            for user in work.dirty_users:
                self.applier.write_row(user)
            work.dirty_users.clear()
        if work.emptied_groups:
            self.applier.report_emptied(self.fan_out)

    def _report_ended(self, jobs: Iterable[Job]) -> None:
        """Has the version of a group reported when its fan-out has ended here."""
        for job in jobs:
            if job.kind == GROUP:
                tenant = self.configuration.tenant(job.tenant)
                self.work.change_group(tenant, job.id, job.timestamp_ms)
