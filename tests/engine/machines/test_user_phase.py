"""The phases of a user: derived from its state, and changed only as the table allows."""

from __future__ import annotations

import pytest

from engine.machines.user_machine import UserMachine
from engine.machines.user_phase import (
    TRANSITIONS,
    IllegalPhaseError,
    IllegalTransitionError,
    Trigger,
    UserPhase,
    check_at_rest,
    check_transition,
    phase_of,
)
from engine.simulation.runner import config_for, failure
from engine.state.pending_work import SeatRequest
from engine.state.tenant_state import TenantState, User
from streams import COMPILED


def known_user() -> User:
    user = User(TenantState("contoso"), "u")
    user.known = True
    return user


def test_a_phase_follows_from_the_state() -> None:
    user = User(TenantState("contoso"), "u")
    assert phase_of(user, evaluation_pending=False) is UserPhase.UNKNOWN
    user.known = True
    assert phase_of(user, evaluation_pending=False) is UserPhase.IDLE
    assert phase_of(user, evaluation_pending=True) is UserPhase.EVALUATION_PENDING
    user.ensure_pending_work().seat_request = SeatRequest(1, 1, "e1")
    assert phase_of(user, evaluation_pending=False) is UserPhase.REQUESTING_SEATS
    user.ensure_pending_work().change = ["e2", [], [], 1]
    assert phase_of(user, evaluation_pending=False) is UserPhase.CHANGING_DIRECTLY


def test_a_user_waits_for_seats_or_for_verdicts_and_not_for_both() -> None:
    user = known_user()
    user.ensure_pending_work().pending_claims["smtp:a@x"] = 1
    assert phase_of(user, evaluation_pending=False) is UserPhase.AWAITING_VERDICTS
    user.ensure_pending_work().seat_request = SeatRequest(1, 1, "e1")
    with pytest.raises(IllegalPhaseError, match="awaits verdicts and something else"):
        phase_of(user, evaluation_pending=False)


def test_an_illegal_transition_names_its_trigger_and_both_phases() -> None:
    with pytest.raises(IllegalTransitionError, match=r"SEAT_OFFERED while UNKNOWN .* IDLE"):
        check_transition(known_user(), UserPhase.UNKNOWN, Trigger.SEAT_OFFERED, UserPhase.IDLE)


def test_nothing_is_left_over_between_batches() -> None:
    user = known_user()
    check_at_rest(user, UserPhase.IDLE)
    with pytest.raises(IllegalPhaseError, match="was not evaluated"):
        check_at_rest(user, UserPhase.EVALUATION_PENDING)
    user.ensure_pending_work().deferred_events.append(["MembershipAdded", {}, 1, 1])
    with pytest.raises(IllegalPhaseError, match="queued events"):
        check_at_rest(user, UserPhase.IDLE)


def test_every_phase_can_be_entered_and_left() -> None:
    for phase in UserPhase:
        assert any(source is phase is not target for source, _, target in TRANSITIONS), phase
        assert any(target is phase is not source for source, _, target in TRANSITIONS), phase


@pytest.mark.skipif(
    COMPILED, reason="compiled modules do not see replaced methods: SEATFLOW_PURE=1"
)
def test_the_simulator_finds_a_request_that_is_not_abandoned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planted bug: facts change while the user is in flight, and nobody ends its request."""

    def fact_changed(
        self: UserMachine, user: User, at: int, cause: str, retry: bool = True
    ) -> None:
        self._enter(user, Trigger.FACT_CHANGED)
        self._evaluate_later(user, at, cause, retry)

    monkeypatch.setattr(UserMachine, "_fact_changed", fact_changed)
    errors = (failure(config_for(seed)) for seed in range(50))
    assert any(isinstance(error, IllegalTransitionError) for error in errors)
