"""Evaluates R1–R15 for one user: removals, changed plans and admissions, until nothing changes.

:func:`evaluate` implements R1 to R15 and is pure. :func:`trace_evaluation`
does the same and also says which rule decided what.
"""

from __future__ import annotations

from engine.domain import messages
from engine.domain.messages import Products
from engine.domain.model import Entry, PlanSet
from engine.domain.vocabulary import (
    ACTIVE_WITH_ERROR,
    COUNT,
    DEPENDENCY,
    DISABLED,
    ERROR,
    OTHER,
)
from engine.rules.checks import EligibilityChecks, enabled_plans
from engine.rules.outcome import (
    CHECK_ORDER,
    NO_ERROR,
    AssignmentProblem,
    ErrorReason,
    EvaluationInput,
    Outcome,
)
from engine.rules.trace import CheckResult, EvaluationTrace, TracedDecision


def evaluate(products: Products, facts: EvaluationInput) -> Outcome:
    """Returns the outcome of the facts."""
    return Evaluation(products, facts).run()


def trace_evaluation(products: Products, facts: EvaluationInput) -> tuple[Outcome, EvaluationTrace]:
    """Returns the outcome of the facts, and which rule decided what about each licence.

    The trace has a decision for every (product, path) that something asks for or that the user
    has: R7 with the results of all its checks for what was attempted, R11 to R13 for entries that
    were removed, changed or converted, R14 for every entry that is there in the end. Read it by
    ``trace.last(sku, path_index, rule)`` or ``trace.of(sku, path_index)``; path 0 is direct, path
    n the n-th of ``facts.group_licenses``. To see the seats' part (R7.5), put the products without
    a free seat into ``facts.denied``.
    """
    trace = EvaluationTrace()
    return Evaluation(products, facts, trace).run(), trace


class Evaluation(EligibilityChecks):
    """One evaluation under way.

    ``kept``: entries that could not be removed (R11). ``unchanged``: entries whose plans could not
    be changed (R12). ``refused``: products that could not be admitted (R7). All three belong to
    the last pass. ``trace``: None unless decisions are to be recorded.
    """

    def __init__(
        self, products: Products, facts: EvaluationInput, trace: EvaluationTrace | None = None
    ) -> None:
        super().__init__(products, facts)
        self.trace = trace
        self.kept: dict[tuple[str, int], ErrorReason] = {}
        self.unchanged: dict[tuple[str, int], ErrorReason] = {}
        self.refused: dict[tuple[str, int], tuple[PlanSet, ErrorReason]] = {}
        self.seats_needed: set[str] = set()
        self.seats_to_probe: set[str] = set()
        self.next_admission = 1 + max((e.admission_order for e in facts.entries), default=-1)

    def run(self) -> Outcome:
        """Repeats removals, changes and admissions until none changes anything (R8, R9)."""
        self.drop_removed_plans()
        while self.remove() | self.change_plans() | self.admit():
            pass
        return self.outcome()

    def drop_removed_plans(self) -> None:
        """R12: a plan that the catalog removes is gone from every entry."""
        for i, e in enumerate(self.entries):
            product = self.products[e.plans.sku]
            if e.plans.product is not product:
                self.entries[i] = e._replace(plans=product.enabling(e.plans.enabled))

    def requested_plans(self, e: Entry) -> PlanSet | None:
        """Returns the plans that the entry's path asks for; None if it asks for nothing (R11)."""
        if e.path_index == 0:
            return self.products[e.plans.sku].without(e.disabled_plans or ())
        if e.path_index <= len(self.facts.group_licenses):
            return self.facts.group_licenses[e.path_index - 1].by_sku.get(e.plans.sku)
        return None

    # -- R11, R13: removal
    def remove(self) -> bool:
        """R11, R13: removes or converts entries that nothing asks for; True if any changed."""
        changed = False
        while self._remove_pass():
            changed = True
        return changed

    def _remove_pass(self) -> bool:
        self.kept.clear()
        changed = False
        unrequested = [e for e in self.entries if self.requested_plans(e) is None]
        unrequested.sort(key=lambda e: (-e.admission_order, e.plans.sku, e.path_index))
        for e in unrequested:
            reason = self._check_removal(e)
            if self.trace is not None:
                self._record("R11", e, reason)
            if reason is None:
                self.entries.remove(e)
                changed = True
            else:
                self.kept[e.plans.sku, e.path_index] = reason
        return changed or self._convert(unrequested)

    def _check_removal(self, e: Entry) -> ErrorReason | None:
        before, after = self.enabled(), self.enabled(without=e)
        staying = [x.plans for x in self.entries if x is not e]
        reason = self.lost_requirements(e.plans.sku, before, after, staying)
        if reason is None and self.facts.duplicate and not e.plans.mail <= after:
            reason = self.shared_address(e.plans.sku)
        return reason

    def _convert(self, unrequested: list[Entry]) -> bool:
        """R13: an entry of a deleted group that a dependency keeps becomes direct."""
        for e in unrequested:
            reason = self.kept.get((e.plans.sku, e.path_index))
            if (
                e.path_index not in self.facts.converted_paths
                or not reason
                or reason.error != DEPENDENCY
            ):
                continue
            self._make_direct(e)
            if self.trace is not None:
                self._record("R13", e, None)
            return True
        return False

    def _make_direct(self, e: Entry) -> None:
        at = self.entries.index(e)
        direct = next(
            (x for x in self.entries if x.path_index == 0 and x.plans.sku == e.plans.sku), None
        )
        if direct is None:
            self.entries[at] = Entry(0, e.admission_order, e.plans, e.plans.disabled)
            return
        plans = self.products[e.plans.sku].enabling(direct.plans.enabled | e.plans.enabled)
        disabled = tuple(p for p in direct.disabled_plans or () if p not in e.plans.enabled)
        self.entries[self.entries.index(direct)] = direct._replace(
            plans=plans, disabled_plans=disabled
        )
        del self.entries[at]

    # -- R12: changed plans
    def change_plans(self) -> bool:
        """R12: gives entries the plans that their paths now ask for; True if any changed."""
        changed = False
        while self._change_pass():
            changed = True
        return changed

    def _change_pass(self) -> bool:
        self.unchanged.clear()
        changed = False
        for i, e in enumerate(self.entries):
            requested = self.requested_plans(e)
            if requested is None or requested is e.plans:
                continue
            reason = self._check_change(i, e, requested)
            if self.trace is not None:
                self._record("R12", e, reason)
            if reason is None:
                self.entries[i] = e._replace(plans=requested)
                changed = True
            else:
                self.unchanged[e.plans.sku, e.path_index] = reason
        return changed

    def _check_change(self, i: int, e: Entry, requested: PlanSet) -> ErrorReason | None:
        rest = [x.plans for j, x in enumerate(self.entries) if j != i]
        before = self.enabled()
        end = enabled_plans([requested, *rest])
        new = requested.enabled - e.plans.enabled
        reason = self.check(requested, new, end, rest) if new else None
        lost = self.lost_requirements(requested.sku, before, end, [*rest, requested])
        return first_checked(reason, lost)

    # -- R6–R8: admission
    def admit(self) -> bool:
        """R6–R8: admits the missing products of the groups in order; True if any was."""
        changed = False
        while self._admission_pass():
            changed = True
        return changed

    def _admission_pass(self) -> bool:
        self.refused.clear()
        self.seats_to_probe.clear()
        changed = False
        have = {(e.path_index, e.plans.sku) for e in self.entries}
        for path_index, group in enumerate(self.facts.group_licenses, 1):
            missing = [plans for plans in group.licenses if (path_index, plans.sku) not in have]
            if missing and self._attempt(path_index, missing):
                changed = True
        return changed

    def _attempt(self, path_index: int, missing: list[PlanSet]) -> bool:
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
                    reasons[sku] = ErrorReason(COUNT, (), messages.count(self.products, sku))
            if reasons:
                self.seats_to_probe.update(s for s in seats if s not in reasons)
        if reasons:
            self._refuse(path_index, missing, reasons)
        if self.trace is not None:
            self._record_attempt(path_index, missing, seats, reasons)
        if reasons:
            return False
        self.entries += [Entry(path_index, self.next_admission, plans) for plans in missing]
        self.next_admission += 1
        self.seats_needed.update(seats)
        return True

    def _refuse(
        self, path_index: int, missing: list[PlanSet], reasons: dict[str, ErrorReason]
    ) -> None:
        blocked_by = tuple(sorted(reasons))
        for plans in missing:
            reason = reasons.get(plans.sku)
            if reason is None:
                message = messages.other(self.products, plans.sku, blocked_by)
                reason = ErrorReason(OTHER, (("blockedBy", blocked_by),), message)
            self.refused[plans.sku, path_index] = (plans, reason)

    # -- states (rules, section 7)
    def outcome(self) -> Outcome:
        """Returns the present entries, with their problems (rules, section 7)."""
        problems = [
            AssignmentProblem(sku, path_index, ERROR, plans.disabled, reason)
            for (sku, path_index), (plans, reason) in self.refused.items()
        ]
        union = self.enabled()
        for e in self.entries:
            sku, path_index, disabled = e.plans.sku, e.path_index, e.plans.disabled
            reason = self._entry_error(e, union)
            if reason is not None:
                problems.append(
                    AssignmentProblem(sku, path_index, ACTIVE_WITH_ERROR, disabled, reason)
                )
            elif sku in self.facts.off:  # R15
                problems.append(AssignmentProblem(sku, path_index, DISABLED, disabled, NO_ERROR))
        numbers = {n: i for i, n in enumerate(sorted({e.admission_order for e in self.entries}))}
        entries = tuple(
            e._replace(admission_order=numbers[e.admission_order]) for e in self.entries
        )
        return Outcome(
            entries,
            tuple(sorted(problems, key=lambda p: (p.sku, p.path_index))),
            self.facts.group_licenses,
            tuple(sorted(self.seats_needed)),
            tuple(sorted(self.seats_to_probe)),
        )

    def _entry_error(self, e: Entry, union: set[str]) -> ErrorReason | None:
        """R11, R12, R14: what is wrong with an entry that the user has."""
        key = (e.plans.sku, e.path_index)
        if key in self.kept:
            return self.kept[key]
        drift = self._check_drift(e, union)
        if self.trace is not None:
            self._record("R14", e, drift)
        return first_checked(drift, self.unchanged.get(key))

    def _check_drift(self, e: Entry, union: set[str]) -> ErrorReason | None:
        """R14: a missing location is no drift, only a prohibited plan is."""
        if self.facts.location is not None:
            reason = self.check_location(e.plans, e.plans.enabled)
            if reason is not None:
                return reason
        return self.check_dependency(e.plans, e.plans.enabled, union)

    # -- the trace
    def _record(self, rule: str, e: Entry, reason: ErrorReason | None) -> None:
        assert self.trace is not None
        self.trace.decisions.append(
            TracedDecision(rule, e.plans.sku, e.path_index, reason is None, reason)
        )

    def _record_attempt(
        self,
        path_index: int,
        missing: list[PlanSet],
        seats: list[str],
        reasons: dict[str, ErrorReason],
    ) -> None:
        assert self.trace is not None
        end = self.enabled(plus=missing)
        others = [*(e.plans for e in self.entries), *missing]
        attempted = tuple(p.sku for p in missing)
        for p in missing:
            checks = self.check_each(p, p.enabled, end, others)
            if p.sku in seats:
                checks = (*checks, CheckResult("R7.5", reasons.get(p.sku)))
            reason = self.refused[p.sku, path_index][1] if reasons else None
            self.trace.decisions.append(
                TracedDecision("R7", p.sku, path_index, not reasons, reason, checks, attempted)
            )


def first_checked(a: ErrorReason | None, b: ErrorReason | None) -> ErrorReason | None:
    """Returns the reason that is first in R7's order; None if there is none."""
    if a is None or b is None:
        return a or b
    return b if CHECK_ORDER[b.error] < CHECK_ORDER[a.error] else a
