"""The simulator can fail: each of these bugs, planted in the engine, is found within 200 seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.machines import address_machine, group_machine, product_machine, user_machine
from engine.machines.address_claims import AddressClaims
from engine.machines.fan_out import Job
from engine.machines.outcome_applier import OutcomeApplier
from engine.machines.rule_members import RuleMembers
from engine.machines.seat_allocation import SeatAllocator
from engine.machines.unit_of_work import Cause
from engine.rules.evaluation import Evaluation
from engine.simulation.in_memory_cluster import Output
from engine.simulation.invariants import Violation
from engine.simulation.runner import config_for, failure
from engine.simulation.simulated_broker import Broker, Transaction
from engine.state.address_message_codecs import AddressVerdict
from engine.state.configuration import Configuration
from engine.state.message_codecs import SeatRequestMessage
from engine.state.pending_work import SeatRequest
from engine.state.seat_budget import PartitionLease, SeatBudget
from engine.state.seat_lease import Lease
from engine.state.tenant_state import User
from streams import COMPILED

SEEDS = 200
Patch = pytest.MonkeyPatch

pytestmark = pytest.mark.skipif(
    COMPILED, reason="compiled modules do not see what replaces a part of them: SEATFLOW_PURE=1"
)


def no_fencing(patch: Patch) -> None:
    patch.setattr(Broker, "fence", lambda self, p: self.epochs[p])


def applied_offsets_are_dropped(patch: Patch) -> None:
    real = Broker.append

    def append(self: Broker, t: Transaction) -> list[Output] | None:
        applied = self.applied[t.partition]
        done = real(self, t)
        if t.epoch % 2:
            self.applied[t.partition] = applied
        return done

    patch.setattr(Broker, "append", append)


def outputs_without_their_rows(patch: Patch) -> None:
    real = Broker.append
    patch.setattr(Broker, "append", lambda self, t: real(self, t._replace(rows={})))


def one_unit_too_many(patch: Patch) -> None:
    def free(seats: SeatBudget) -> int:
        return seats.capacity + 1 - sum(part.leased for part in seats.partition_leases.values())

    patch.setattr(SeatBudget, "free_units", property(free))


def denied_without_recall(patch: Patch) -> None:
    def deny(self: SeatBudget) -> None:
        self.contended = True
        for p, asked in self._unanswered_requests().items():
            part = self.partition_leases[p]
            part.answered_seq = part.denied_seq = asked
            part.grant_due = True

    patch.setattr(SeatBudget, "_deny_or_recall", deny)


def adopted_users_take_no_unit(patch: Patch) -> None:
    """Then a partition uses more than its lease."""
    patch.setattr(Lease, "adopt", lambda self: None)


def the_owner_does_not_hear_of_adopted_units(patch: Patch) -> None:
    """Then it grants units that adopted users have."""

    def leased(self: PartitionLease) -> int:
        return self.granted - self.returned

    patch.setattr(PartitionLease, "leased", property(leased))


def idle_units_are_kept(patch: Patch) -> None:
    patch.setattr(Lease, "return_idle", lambda self, keep=0: None)


def old_news_counts(patch: Patch) -> None:
    """The latest message wins, instead of the maximum."""

    def apply_request(self: SeatBudget, p: int, request: SeatRequestMessage) -> None:
        part = self.partition_leases.setdefault(p, PartitionLease())
        part.returned = request.returned
        part.request_seq, part.requested_seq = request.request_seq, request.requested_seq
        part.used, part.waiting, part.demand = request.used, request.waiting, request.demand
        part.recall = request.recall
        part.longest_waiting = list(request.longest_waiting)
        self.awaiting_recall_from.discard(p)

    patch.setattr(SeatBudget, "apply_request", apply_request)


def the_line_is_forgotten(patch: Patch) -> None:
    patch.setattr(Lease, "enqueue", lambda self, since, user: None)


def an_error_is_never_closed(patch: Patch) -> None:
    real = OutcomeApplier._publish

    def publish(self: OutcomeApplier, *args: Any) -> None:
        real(self, *args)
        records = self.effects.records
        self.effects.records = [r for r in records if r[0] != "errors" or r[3] is not None]

    patch.setattr(OutcomeApplier, "_publish", publish)


def every_repetition_is_new(patch: Patch) -> None:
    for module in (user_machine, group_machine, product_machine):
        patch.setattr(module, "check_and_add", lambda seen, *event: seen)


def removed_at_once(patch: Patch) -> None:
    """R5: what is no longer sound is taken away."""
    real = Evaluation.outcome

    def outcome(self: Evaluation) -> Any:
        self.entries = [e for e in self.entries if not self._entry_error(e, {})]
        return real(self)

    patch.setattr(Evaluation, "outcome", outcome)


def a_part_of_a_group_is_admitted(patch: Patch) -> None:
    """R6: what fails is refused, the rest goes through."""
    real = Evaluation._attempt

    def attempt(self: Evaluation, slot: int, missing: tuple[Any, ...]) -> bool:
        done = [real(self, slot, (plans,)) for plans in missing]
        return any(done)

    patch.setattr(Evaluation, "_attempt", attempt)


def verdicts_are_not_kept(patch: Patch) -> None:
    real = AddressClaims.verdict

    def verdict(user: User, verdict: AddressVerdict) -> bool:
        done = real(user, verdict)
        if not done and user.pending_work is not None:
            user.pending_work.pending_claims[verdict.address] = verdict.answers
        return done

    patch.setattr(AddressClaims, "verdict", staticmethod(verdict))


def an_address_never_comes_free(patch: Patch) -> None:
    patch.setattr(address_machine.AddressMachine, "_release", lambda self, *_: None)


def a_seat_is_never_freed(patch: Patch) -> None:
    real = OutcomeApplier._seats

    def seats(self: OutcomeApplier, user: User, old: Any, *args: Any) -> None:
        real(self, user, old, *args)
        for sku in old.held - user.outcome.held:
            user.tenant.lease(sku).used += 1

    patch.setattr(OutcomeApplier, "_seats", seats)


def a_reservation_outlives_its_request(patch: Patch) -> None:
    real = SeatAllocator.abandon

    def abandon(self: SeatAllocator, user: User, cause: Cause) -> SeatRequest:
        seat_request = real(self, user, cause)
        for sku in seat_request.reserved:
            user.tenant.lease(sku).reserved += 1
        return seat_request

    patch.setattr(SeatAllocator, "abandon", abandon)


def a_grant_is_returned_as_well(patch: Patch) -> None:
    real = PartitionLease.grant_units

    def grant_units(self: PartitionLease, units: int) -> None:
        real(self, units)
        self.returned += units

    patch.setattr(PartitionLease, "grant_units", grant_units)


def forwarded_events_are_lost(patch: Patch) -> None:
    real = Broker.append
    patch.setattr(Broker, "append", lambda self, t: real(self, t._replace(forwarded=[])))


def events_are_applied_where_they_are_found(patch: Patch) -> None:
    patch.setattr(Configuration, "owns", lambda self, key: True)


def attributes_move_nobody(patch: Patch) -> None:
    patch.setattr(RuleMembers, "update", lambda self, *_: False)


def events_count_beside_a_rule(patch: Patch) -> None:
    patch.setattr(RuleMembers, "is_ruled", lambda self, *_: False)


def a_rule_is_not_applied_on_after_a_crash(patch: Patch) -> None:
    real = Job.load

    def load(row: list[Any]) -> Job:
        job = real(row)
        job.walks = False
        return job

    patch.setattr(Job, "load", load)


PLANTED: tuple[Callable[[Patch], None], ...] = (
    no_fencing,
    applied_offsets_are_dropped,
    outputs_without_their_rows,
    one_unit_too_many,
    denied_without_recall,
    idle_units_are_kept,
    adopted_users_take_no_unit,
    the_owner_does_not_hear_of_adopted_units,
    old_news_counts,
    the_line_is_forgotten,
    an_error_is_never_closed,
    every_repetition_is_new,
    removed_at_once,
    a_part_of_a_group_is_admitted,
    verdicts_are_not_kept,
    an_address_never_comes_free,
    a_seat_is_never_freed,
    a_reservation_outlives_its_request,
    a_grant_is_returned_as_well,
    forwarded_events_are_lost,
    events_are_applied_where_they_are_found,
    attributes_move_nobody,
    events_count_beside_a_rule,
    a_rule_is_not_applied_on_after_a_crash,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    found = next((s for s in range(SEEDS) if failure(config_for(s)) is not None), None)
    assert found is not None
    why = failure(config_for(found))
    assert isinstance(why, Violation), f"the planted bug itself fails: {why!r}"
    print(f"{plant.__name__}: seed {found}, {why}"[:300])
