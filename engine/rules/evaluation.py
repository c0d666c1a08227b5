"""Evaluates R1–R15 for one user. Pure: :func:`evaluate` is the whole of sections 2 to 4."""

from __future__ import annotations

from engine.domain import messages
from engine.domain.messages import COUNT, DEPENDENCY, OTHER, Products
from engine.domain.model import Entry, PlanSet
from engine.rules.checks import Shelf
from engine.rules.outcome import (
    ACTIVE_WITH_ERROR,
    ERROR,
    ORDER,
    Outcome,
    Problem,
    Reason,
    Situation,
)


def evaluate(products: Products, facts: Situation) -> Outcome:
    """Removals, changed plans and admissions, until nothing changes any more (R9)."""
    run = _Run(products, facts)
    run.follow_catalogue()
    while run.remove() | run.change_plans() | run.admit():
        pass
    return run.outcome()


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
