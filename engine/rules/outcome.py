"""The input and the result of one evaluation of a user's licences.

Neither says who the user is: paths are slots (see :class:`engine.domain.model.Entry`), so users
whose facts are alike share one input, and with it one outcome.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.domain.messages import (
    CONFLICT,
    COUNT,
    DEPENDENCY,
    LOCATION,
    NONE,
    OTHER,
    UNIQUENESS,
    Details,
)
from engine.domain.model import Entry, Offer

ACTIVE: Final = "Active"
ACTIVE_WITH_ERROR: Final = "ActiveWithError"
ERROR: Final = "Error"
ORDER: Final = {LOCATION: 1, CONFLICT: 2, DEPENDENCY: 3, UNIQUENESS: 4, COUNT: 5}
"""R7: of several errors the one that is checked first is published."""


class Reason(NamedTuple):
    """Why something is not as asked: error code, details (contract, section 3), sentence."""

    error: str
    details: Details
    message: str


class Problem(NamedTuple):
    """A state that is not Active: of an entry (ActiveWithError) or of a missing product (Error)."""

    sku: str
    slot: int
    state: str
    disabled: tuple[str, ...]
    reason: Reason


class Outcome:
    """What one evaluation decided, shared by all users with the same signature.

    ``need``: products that take a seat the user did not hold; ``probe``: products of a group that
    failed for want of another seat, whose own availability decides between CountViolation and
    Other (R6). Both in skuId order. ``kept``: the plan sets of its entries are rows. The rest is
    derived once, for publishing and counting.
    """

    __slots__ = (
        "by_slot", "cache", "entries", "errors", "held", "kept", "mail", "need", "probe",
        "problems", "row", "skus", "slots", "states", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        entries: tuple[Entry, ...],
        problems: tuple[Problem, ...],
        asked: tuple[Offer | None, ...],
        need: tuple[str, ...] = (),
        probe: tuple[str, ...] = (),
    ) -> None:
        self.entries = entries
        self.problems = problems
        self.need = need
        self.probe = probe
        self.held = frozenset(e.plans.sku for e in entries)
        self.waiting = tuple(sorted({p.sku for p in problems if p.reason.error == COUNT}))
        self.mail = any(e.plans.mail for e in entries)
        self.skus = self.held.union(p.sku for p in problems)
        self.states = self._states()
        self.errors = tuple(sorted({s.reason.error for s in self.states if s.state != ACTIVE}))
        self.slots = 1 + max(len(asked), *(s.slot for s in self.states), 0)
        self.by_slot = tuple(self._numbers(slot, asked) for slot in range(1, self.slots))
        self.cache: object = None
        self.kept = False
        self.row: tuple[str, list[object], str] | None = None

    def _states(self) -> tuple[State, ...]:
        found = {(p.sku, p.slot): p for p in self.problems}
        states = [
            State(p.sku, p.slot, p.disabled, p.state, p.reason)
            for p in self.problems
            if p.state == ERROR
        ]
        for e in self.entries:
            p = found.get((e.plans.sku, e.slot))
            state, reason = (p.state, p.reason) if p else (ACTIVE, FINE)
            states.append(State(e.plans.sku, e.slot, e.plans.disabled, state, reason))
        return tuple(sorted(states, key=lambda s: (s.sku, s.slot)))

    def _numbers(self, slot: int, asked: tuple[Offer | None, ...]) -> tuple[bool, tuple[str, ...]]:
        """What a group's status counts of this user: licensed by it, and the errors from it.

        Other counts only where it is the user's only error from the group (contract, section 3).
        """
        mine = [s for s in self.states if s.slot == slot]
        errors = {s.reason.error for s in mine if s.state != ACTIVE}
        if len(errors) > 1:
            errors.discard(OTHER)
        offer = asked[slot - 1] if slot <= len(asked) else None
        active = {s.sku for s in mine if s.state == ACTIVE}
        licensed = offer is not None and bool(offer.skus) and active.issuperset(offer.skus)
        return licensed, tuple(sorted(errors))


class State(NamedTuple):
    """One ``licenseAssignmentState`` without what differs between users alike."""

    sku: str
    slot: int
    disabled: tuple[str, ...]
    state: str
    reason: Reason


FINE: Final = Reason(NONE, (), "")
NOTHING: Final = Outcome((), (), ())


class Situation(NamedTuple):
    """The facts of one evaluation: the signature by which outcomes are shared.

    ``asked``: offers of the user's groups in the order of R8, slot 1 first. ``converts``: slots
    whose group is deleted under the policy ``convert`` (R13). ``location``: effective,
    one for all that no plan prohibits.
    ``duplicate``: an address and its earlier owner (R18). ``denied``: products of which no seat
    can be had. ``held``: products whose seat the user has when the evaluation begins.
    """

    entries: tuple[Entry, ...]
    asked: tuple[Offer, ...]
    converts: frozenset[int]
    location: str | None
    duplicate: tuple[str, str] | None
    denied: frozenset[str]
    held: frozenset[str]
