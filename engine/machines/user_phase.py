"""The phases of a user, and the transitions between them.

Rules
-----
1. A user is in exactly one phase. The phase is not stored: :func:`phase_of` derives it from the
   user's facts, its pending work, and whether an evaluation is pending.
2. Some pending work excludes other: a user waits for seats *or* for address verdicts. A combination
   that the phases do not allow raises :class:`IllegalPhaseError`.
3. A user changes its phase by a row of :data:`TRANSITIONS` only; any other change raises
   :class:`IllegalTransitionError`, which names the trigger and both phases.
4. Between batches no evaluation is pending, and events are queued only while the user waits for
   something that ends the queue (:func:`check_at_rest`).

Theory
------
An event changes facts and makes an evaluation pending; evaluations are made at the end of the batch
(or earlier, where the order of events requires it). An evaluation that needs no seats, or finds
enough of them idle, is applied immediately. Otherwise the user *requests seats* in skuId order and
is in flight until each is reserved or denied; a change of its facts in the meantime abandons the
request, and the user is evaluated again on the new facts (R23). New proxy addresses are claimed
first, and no evaluation is made before all verdicts have come; an evaluation that would admit a
mail plan claims the addresses that the plan would bring, and is made again after the verdicts
(R18). A direct change or a reprocess is *under way* from its evaluation until its outcome is
applied; what comes for the user in the meantime is queued (R23).

The table below is also the source of the diagram in ``docs/architecture.md``.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from engine.state.tenant_state import User


class UserPhase(Enum):
    """The phase that a user is in."""

    UNKNOWN = "unknown"
    """Never created, or deleted; memberships may name it (R22)."""
    IDLE = "idle"
    """The published state is what the facts give; nothing is under way."""
    EVALUATION_PENDING = "evaluation pending"
    """Facts have changed in this batch."""
    REQUESTING_SEATS = "requesting seats"
    """In flight: a seat was requested and not yet granted or denied."""
    AWAITING_VERDICTS = "awaiting verdicts"
    """Addresses were claimed, and their owners have not all answered (R18)."""
    CHANGING_DIRECTLY = "changing directly"
    """A direct change or a reprocess is being evaluated, or waits for seats or verdicts."""


class Trigger(Enum):
    """The cause of a transition."""

    FACT_CHANGED = "fact or configuration changed"
    CHANGE_BEGUN = "direct change or reprocess begun"
    SEATS_REQUESTED = "seats requested"
    SEAT_OFFERED = "seat offered from the wait list"
    REQUEST_ABANDONED = "request abandoned"
    OUTCOME_APPLIED = "outcome applied"
    CHANGE_GIVEN_UP = "change given up at a limit"
    ADDRESS_CLAIMED = "address claimed"
    ADDRESSES_SETTLED = "last verdict received"
    USER_DELETED = "user deleted"


_U, _I, _E = UserPhase.UNKNOWN, UserPhase.IDLE, UserPhase.EVALUATION_PENDING
_R, _A, _C = (
    UserPhase.REQUESTING_SEATS, UserPhase.AWAITING_VERDICTS, UserPhase.CHANGING_DIRECTLY,
)  # fmt: skip

TRANSITIONS: Final[tuple[tuple[UserPhase, Trigger, UserPhase], ...]] = (
    (_U, Trigger.FACT_CHANGED, _E),
    (_U, Trigger.ADDRESS_CLAIMED, _A),
    (_U, Trigger.USER_DELETED, _U),
    (_I, Trigger.FACT_CHANGED, _E),
    (_I, Trigger.CHANGE_BEGUN, _C),
    (_I, Trigger.SEAT_OFFERED, _R),
    (_I, Trigger.ADDRESS_CLAIMED, _A),
    (_I, Trigger.USER_DELETED, _U),
    (_E, Trigger.FACT_CHANGED, _E),
    (_E, Trigger.SEATS_REQUESTED, _R),
    (_E, Trigger.OUTCOME_APPLIED, _I),
    (_E, Trigger.ADDRESS_CLAIMED, _A),
    (_E, Trigger.USER_DELETED, _U),
    (_R, Trigger.OUTCOME_APPLIED, _I),
    (_R, Trigger.ADDRESS_CLAIMED, _A),
    (_R, Trigger.REQUEST_ABANDONED, _I),
    (_R, Trigger.REQUEST_ABANDONED, _A),
    (_A, Trigger.ADDRESSES_SETTLED, _I),
    (_A, Trigger.FACT_CHANGED, _E),  # at a limit: the addresses are given no more
    (_A, Trigger.USER_DELETED, _U),  # at a limit
    (_C, Trigger.SEATS_REQUESTED, _C),
    (_C, Trigger.ADDRESS_CLAIMED, _C),
    (_C, Trigger.ADDRESSES_SETTLED, _C),
    (_C, Trigger.REQUEST_ABANDONED, _C),
    (_C, Trigger.FACT_CHANGED, _C),
    (_C, Trigger.OUTCOME_APPLIED, _I),
    (_C, Trigger.CHANGE_GIVEN_UP, _I),
    (_C, Trigger.CHANGE_GIVEN_UP, _A),
)
"""Every legal transition: phase, trigger, next phase."""

LEGAL: Final = frozenset(TRANSITIONS)


class IllegalPhaseError(AssertionError):
    """A combination of pending work that no phase allows."""


class IllegalTransitionError(AssertionError):
    """A change of phase that is not in the table."""


def phase_of(user: User, evaluation_pending: bool) -> UserPhase:
    """Returns the phase that a user is in.

    Raises:
        IllegalPhaseError: if the user's pending work belongs to no phase.
    """
    pending = user.pending_work
    requesting = pending is not None and pending.seat_request is not None
    changing = pending is not None and pending.change is not None
    awaiting = pending is not None and bool(pending.pending_claims)
    if awaiting and (requesting or evaluation_pending):
        raise IllegalPhaseError(f"{user.id} awaits verdicts and something else: {_work(user)}")
    if requesting and evaluation_pending:
        raise IllegalPhaseError(f"{user.id} is to be evaluated while in flight: {_work(user)}")
    if not user.known:
        if requesting or changing or awaiting or evaluation_pending:
            raise IllegalPhaseError(f"{user.id} is unknown but has work: {_work(user)}")
        return UserPhase.UNKNOWN
    if changing:
        return UserPhase.CHANGING_DIRECTLY
    if awaiting:
        return UserPhase.AWAITING_VERDICTS
    if requesting:
        return UserPhase.REQUESTING_SEATS
    return UserPhase.EVALUATION_PENDING if evaluation_pending else UserPhase.IDLE


def check_transition(user: User, source: UserPhase, trigger: Trigger, target: UserPhase) -> None:
    """Checks one change of phase against the table.

    Raises:
        IllegalTransitionError: if the table has no such row.
    """
    if (source, trigger, target) not in LEGAL:
        raise IllegalTransitionError(
            f"{user.id}: {trigger.name} while {source.name} must not lead to {target.name}"
        )


def check_at_rest(user: User, phase: UserPhase) -> None:
    """Checks a user between two batches.

    Raises:
        IllegalPhaseError: if an evaluation was forgotten, or events wait for nothing.
    """
    pending = user.pending_work
    if phase is UserPhase.EVALUATION_PENDING:
        raise IllegalPhaseError(f"{user.id} was not evaluated at the end of the batch")
    if pending is None:
        return
    if pending.deferred_events and not user.waits:
        raise IllegalPhaseError(f"{user.id} has queued events and waits for nothing")
    if pending.change is not None and pending.seat_request is None and not pending.pending_claims:
        raise IllegalPhaseError(f"{user.id} has a direct change under way and awaits nothing")
    if pending.evaluation is not None and not pending.pending_claims:
        raise IllegalPhaseError(f"{user.id} has a postponed evaluation and awaits no verdict")


def _work(user: User) -> str:
    pending = user.pending_work
    names = ("seat_request", "change", "pending_claims", "evaluation", "deferred_events")
    return ", ".join(n for n in names if pending is not None and getattr(pending, n))
