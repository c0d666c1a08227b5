"""R1–R15 for one user: what follows from the facts. Pure; the order of checks is the rules' own.

:func:`evaluate` is the whole of sections 2 to 4 of the rules. It never asks who the user is: paths
are slots (see :class:`engine.domain.model.Entry`), so its outcome is shared by all users alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from engine.domain import messages
from engine.domain.messages import (
    CONFLICT,
    COUNT,
    DEPENDENCY,
    LOCATION,
    NONE,
    OTHER,
    UNIQUENESS,
    Details,
    Products,
)
from engine.domain.model import Entry, Offer, PlanSet

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


def evaluate(products: Products, facts: Situation) -> Outcome:
    """Removals, changed plans and admissions, until nothing changes any more (R9)."""
    run = _Run(products, facts)
    run.follow_catalogue()
    while run.remove() | run.change_plans() | run.admit():
        pass
    return run.outcome()


class Shelf:
    """The entries at one moment, and the checks R7.1–R7.4 against them."""

    def __init__(self, products: Products, facts: Situation) -> None:
        self.products = products
        self.facts = facts
        self.entries = list(facts.entries)

    def enabled(self, without: Entry | None = None, plus: Iterable[PlanSet] = ()) -> set[str]:
        """R1: the union of all enabled plans."""
        sets = [e.plans.enabled for e in self.entries if e is not without]
        return set().union(*sets, *(plans.enabled for plans in plus))

    def check(
        self, plans: PlanSet, new: frozenset[str], end: set[str], others: Iterable[PlanSet]
    ) -> Reason | None:
        """R7.1–R7.4 for the plans ``new`` of a product; ``others``: plan sets of the end state."""
        return (
            self.location(plans, new)
            or self.conflict(plans, new, others)
            or self.dependency(plans, new, end)
            or self.uniqueness(plans, new)
        )

    def location(self, plans: PlanSet, new: frozenset[str]) -> Reason | None:
        where = self.facts.location
        bad = tuple(p for p, places in plans.prohibited if p in new and where in places)
        if where is not None and not bad:
            return None
        message = messages.location(self.products, plans.sku, bad, where)
        return Reason(LOCATION, (("location", where),), message)

    def conflict(
        self, plans: PlanSet, new: frozenset[str], others: Iterable[PlanSet]
    ) -> Reason | None:
        mine = [(p, sets) for p, sets in plans.exclusive if p in new]
        found = {
            (p, q, other.sku)
            for other in (others if mine else ())
            if other.sku != plans.sku
            for q, other_sets in other.exclusive
            for p, sets in mine
            if p != q and sets & other_sets
        }
        if not found:
            return None
        pairs = tuple(sorted(found))
        message = messages.conflict(self.products, plans.sku, pairs)
        return Reason(CONFLICT, (("conflicts", pairs),), message)

    def dependency(self, plans: PlanSet, new: frozenset[str], end: set[str]) -> Reason | None:
        lacks = tuple(
            (p, tuple(sorted(any_of)))
            for p, any_of in plans.requires
            if p in new and end.isdisjoint(any_of)
        )
        if not lacks:
            return None
        message = messages.missing(self.products, plans.sku, lacks)
        return Reason(DEPENDENCY, (("missing", lacks),), message)

    def uniqueness(self, plans: PlanSet, new: frozenset[str]) -> Reason | None:
        if self.facts.duplicate is None or plans.mail.isdisjoint(new):
            return None
        return self._shared_address(plans.sku)

    def _shared_address(self, sku: str) -> Reason:
        assert self.facts.duplicate is not None
        address, owner = self.facts.duplicate
        details = (("address", address), ("owner", owner))
        return Reason(UNIQUENESS, details, messages.duplicate(self.products, sku, address, owner))

    def lost(
        self, sku: str, before: set[str], after: set[str], staying: Iterable[PlanSet]
    ) -> Reason | None:
        """R11, R12, R16: a plan that stays enabled would lose a requirement that it has now."""
        lacks = {
            (p, tuple(sorted(any_of)))
            for plans in staying
            for p, any_of in plans.requires
            if p in before and not before.isdisjoint(any_of) and after.isdisjoint(any_of)
        }
        if not lacks:
            return None
        found = tuple(sorted(lacks))
        message = messages.needed_by_others(self.products, sku, found)
        return Reason(DEPENDENCY, (("missing", found),), message)


class _Run(Shelf):
    """One evaluation under way."""

    def __init__(self, products: Products, facts: Situation) -> None:
        super().__init__(products, facts)
        self.kept: dict[tuple[str, int], Reason] = {}
        self.unchanged: dict[tuple[str, int], Reason] = {}
        self.refused: dict[tuple[str, int], tuple[PlanSet, Reason]] = {}
        self.need: set[str] = set()
        self.probe: set[str] = set()
        self.turn = 1 + max((e.turn for e in facts.entries), default=-1)

    def follow_catalogue(self) -> None:
        """R12: a plan that the catalogue removes is gone from every entry."""
        for i, e in enumerate(self.entries):
            product = self.products[e.plans.sku]
            if e.plans.product is not product:
                self.entries[i] = e._replace(plans=product.enabling(e.plans.enabled))

    def wish(self, e: Entry) -> PlanSet | None:
        """The plans that the entry's path asks for; None if it asks for nothing (R11)."""
        if e.slot == 0:
            return self.products[e.plans.sku].without(e.off or ())
        if e.slot <= len(self.facts.asked):
            return self.facts.asked[e.slot - 1].wanted.get(e.plans.sku)
        return None

    # -- R11, R13: removal
    def remove(self) -> bool:
        changed = False
        while self._remove_pass():
            changed = True
        return changed

    def _remove_pass(self) -> bool:
        self.kept.clear()
        changed = False
        unasked = [e for e in self.entries if self.wish(e) is None]
        unasked.sort(key=lambda e: (-e.turn, e.plans.sku, e.slot))
        for e in unasked:
            reason = self._held_back(e)
            if reason is None:
                self.entries.remove(e)
                changed = True
            else:
                self.kept[e.plans.sku, e.slot] = reason
        return changed or self._convert(unasked)

    def _held_back(self, e: Entry) -> Reason | None:
        before, after = self.enabled(), self.enabled(without=e)
        staying = [x.plans for x in self.entries if x is not e]
        reason = self.lost(e.plans.sku, before, after, staying)
        if reason is None and self.facts.duplicate and not e.plans.mail <= after:
            reason = self._shared_address(e.plans.sku)
        return reason

    def _convert(self, unasked: list[Entry]) -> bool:
        """R13: what a deleted group cannot take away for a dependency becomes direct."""
        for e in unasked:
            reason = self.kept.get((e.plans.sku, e.slot))
            if e.slot not in self.facts.converts or not reason or reason.error != DEPENDENCY:
                continue
            at = self.entries.index(e)
            direct = next(
                (x for x in self.entries if x.slot == 0 and x.plans.sku == e.plans.sku), None
            )
            product = self.products[e.plans.sku]
            if direct is None:
                self.entries[at] = Entry(0, e.turn, e.plans, e.plans.disabled)
            else:
                plans = product.enabling(direct.plans.enabled | e.plans.enabled)
                off = tuple(p for p in direct.off or () if p not in e.plans.enabled)
                self.entries[self.entries.index(direct)] = direct._replace(plans=plans, off=off)
                del self.entries[at]
            return True
        return False

    # -- R12: changed plans
    def change_plans(self) -> bool:
        changed = False
        while self._change_pass():
            changed = True
        return changed

    def _change_pass(self) -> bool:
        self.unchanged.clear()
        changed = False
        for i, e in enumerate(self.entries):
            wish = self.wish(e)
            if wish is None or wish is e.plans:
                continue
            reason = self._change_refused(i, e, wish)
            if reason is None:
                self.entries[i] = e._replace(plans=wish)
                changed = True
            else:
                self.unchanged[e.plans.sku, e.slot] = reason
        return changed

    def _change_refused(self, i: int, e: Entry, wish: PlanSet) -> Reason | None:
        rest = [x.plans for j, x in enumerate(self.entries) if j != i]
        before = self.enabled()
        end = set().union(wish.enabled, *(plans.enabled for plans in rest))
        new = wish.enabled - e.plans.enabled
        reason = self.check(wish, new, end, rest) if new else None
        lost = self.lost(wish.sku, before, end, [*rest, wish])
        found = [r for r in (reason, lost) if r]
        return min(found, key=lambda r: ORDER[r.error], default=None)

    # -- R6–R8: admission
    def admit(self) -> bool:
        changed = False
        while self._admission_pass():
            changed = True
        return changed

    def _admission_pass(self) -> bool:
        self.refused.clear()
        self.probe.clear()
        changed = False
        have = {(e.slot, e.plans.sku) for e in self.entries}
        for slot, offer in enumerate(self.facts.asked, 1):
            missing = [plans for plans in offer.licenses if (slot, plans.sku) not in have]
            if missing and self._attempt(slot, missing):
                changed = True
        return changed

    def _attempt(self, slot: int, missing: list[PlanSet]) -> bool:
        """R6: all missing products of one group, or none."""
        end = self.enabled(plus=missing)
        others = [*(e.plans for e in self.entries), *missing]
        reasons = {p.sku: r for p in missing if (r := self.check(p, p.enabled, end, others))}
        seats: list[str] = []
        if not reasons:
            held = self.facts.held.union(e.plans.sku for e in self.entries)
            seats = [p.sku for p in missing if p.sku not in held]
            for sku in seats:
                if sku in self.facts.denied:
                    reasons[sku] = Reason(COUNT, (), messages.count(self.products, sku))
            if reasons:
                self.probe.update(s for s in seats if s not in reasons)
        if reasons:
            self._refuse(slot, missing, reasons)
            return False
        self.entries += [Entry(slot, self.turn, plans) for plans in missing]
        self.turn += 1
        self.need.update(seats)
        return True

    def _refuse(self, slot: int, missing: list[PlanSet], reasons: dict[str, Reason]) -> None:
        blocked_by = tuple(sorted(reasons))
        for plans in missing:
            reason = reasons.get(plans.sku)
            if reason is None:
                message = messages.other(self.products, plans.sku, blocked_by)
                reason = Reason(OTHER, (("blockedBy", blocked_by),), message)
            self.refused[plans.sku, slot] = (plans, reason)

    # -- section 7: states
    def outcome(self) -> Outcome:
        problems = [
            Problem(sku, slot, ERROR, plans.disabled, reason)
            for (sku, slot), (plans, reason) in self.refused.items()
        ]
        union = self.enabled()
        for e in self.entries:
            reason = self._trouble(e, union)
            if reason is not None:
                problems.append(
                    Problem(e.plans.sku, e.slot, ACTIVE_WITH_ERROR, e.plans.disabled, reason)
                )
        turns = {t: i for i, t in enumerate(sorted({e.turn for e in self.entries}))}
        entries = tuple(e._replace(turn=turns[e.turn]) for e in self.entries)
        return Outcome(
            entries,
            tuple(sorted(problems, key=lambda p: (p.sku, p.slot))),
            self.facts.asked,
            tuple(sorted(self.need)),
            tuple(sorted(self.probe)),
        )

    def _trouble(self, e: Entry, union: set[str]) -> Reason | None:
        key = (e.plans.sku, e.slot)
        if key in self.kept:
            return self.kept[key]
        where = self.facts.location
        drift = self.location(e.plans, e.plans.enabled) if where is not None else None
        lacking = self.dependency(e.plans, e.plans.enabled, union)
        found = [r for r in (drift, lacking, self.unchanged.get(key)) if r]
        return min(found, key=lambda r: ORDER[r.error], default=None)
