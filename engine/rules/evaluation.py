"""Evaluates R1–R15 for one user: removals, changed plans and admissions, until nothing changes.

:func:`evaluate` implements R1 to R15 and is pure. :func:`trace_evaluation`
does the same and also says which rule decided what.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from engine.domain import messages
from engine.domain.limits import LISTED
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
from engine.rules.checks import EligibilityChecks, first_checked, listed
from engine.rules.outcome import (
    NO_ERROR,
    AssignmentProblem,
    ErrorReason,
    EvaluationInput,
    Outcome,
)
from engine.rules.trace import CheckResult, EvaluationTrace, TracedDecision


def evaluate(products: Products, facts: EvaluationInput, limit: int = LISTED) -> Outcome:
    """Returns the outcome of the facts; a reason lists up to ``limit`` conflicts and the like."""
    return Evaluation(products, facts, None, limit).run()


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
    be changed (R12). ``refused``: the missing products of the paths that could not be admitted
    (R7). All three belong to the last pass. ``failed``: what was refused on the present entries,
    with the products whose seats are to be probed; groups that ask for the same are not attempted
    again until the entries change. ``trace``: None unless decisions are to be recorded.
    """

    def __init__(
        self,
        products: Products,
        facts: EvaluationInput,
        trace: EvaluationTrace | None = None,
        limit: int = LISTED,
    ) -> None:
        super().__init__(products, facts, limit)
        self.trace = trace
        self.kept: dict[tuple[str, int], ErrorReason] = {}
        self.unchanged: dict[tuple[str, int], ErrorReason] = {}
        self.refused: dict[int, tuple[PlanSet, ...]] = {}
        self.failed: dict[tuple[PlanSet, ...], list[str]] = {}
        self.held = {*facts.held, *[e.plans.sku for e in facts.entries]}
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
                self._set_plans(i, e, product.enabling(e.plans.enabled))

    def _set_plans(self, i: int, e: Entry, plans: PlanSet) -> None:
        self.plans.add(plans)
        self.plans.discard(e.plans)
        self.entries[i] = e._replace(plans=plans)
        self.failed.clear()

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
        unrequested = [e for e in self.entries if self.requested_plans(e) is None]
        if not unrequested:
            return False
        unrequested.sort(key=lambda e: (-e.admission_order, e.plans.sku, e.path_index))
        removed: set[tuple[str, int]] = set()
        for e in unrequested:
            reason = self._try_removal(e)
            if self.trace is not None:
                self._record("R11", e, reason)
            if reason is None:
                removed.add((e.plans.sku, e.path_index))
            else:
                self.kept[e.plans.sku, e.path_index] = reason
        if removed:
            self.entries = [e for e in self.entries if (e.plans.sku, e.path_index) not in removed]
            self.failed.clear()
            return True
        return self._convert(unrequested)

    def _try_removal(self, e: Entry) -> ErrorReason | None:
        """Takes the entry's plans away; puts them back and returns the reason if it has to stay."""
        vanished = self.plans.discard(e.plans)
        if not vanished:
            return None
        reason = self.lost_requirements(e.plans.sku, vanished)
        if reason is None and self.facts.duplicate and not e.plans.mail.isdisjoint(vanished):
            reason = self.shared_address(e.plans.sku)
        if reason is not None:
            self.plans.add(e.plans)
        return reason

    def _convert(self, unrequested: list[Entry]) -> bool:
        """R13: entries of a deleted group that a dependency keeps become direct.

        What the user has is the same afterwards, so none of them lets another one go.
        """
        changed = False
        for e in unrequested:
            reason = self.kept[e.plans.sku, e.path_index]
            if e.path_index not in self.facts.converted_paths or reason.error != DEPENDENCY:
                continue
            self._make_direct(e)
            changed = True
            if self.trace is not None:
                self._record("R13", e, None)
        return changed

    def _make_direct(self, e: Entry) -> None:
        at = direct_at = -1
        for i, x in enumerate(self.entries):
            if x is e:
                at = i
            elif x.path_index == 0 and x.plans.sku == e.plans.sku:
                direct_at = i
        if direct_at < 0:
            self.entries[at] = Entry(0, e.admission_order, e.plans, e.plans.disabled)
            return
        direct = self.entries[direct_at]
        plans = self.products[e.plans.sku].enabling(direct.plans.enabled | e.plans.enabled)
        disabled = tuple(p for p in direct.disabled_plans or () if p not in e.plans.enabled)
        self._set_plans(direct_at, direct._replace(disabled_plans=disabled), plans)
        self.plans.discard(e.plans)
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
            reason = self._try_change(e, requested)
            if self.trace is not None:
                self._record("R12", e, reason)
            if reason is None:
                self.entries[i] = e._replace(plans=requested)
                self.failed.clear()
                changed = True
            else:
                self.unchanged[e.plans.sku, e.path_index] = reason
        return changed

    def _try_change(self, e: Entry, requested: PlanSet) -> ErrorReason | None:
        """Counts the requested plans instead; takes that back and returns the reason if not."""
        before = self.plans_before()
        appeared = self.plans.add(requested)
        vanished = self.plans.discard(e.plans)
        new = requested.enabled - e.plans.enabled
        reason = self.check(requested, new, before) if new else None
        lost = self.lost_requirements(requested.sku, vanished, appeared)
        reason = first_checked(reason, lost)
        if reason is not None:
            self.plans.add(e.plans)
            self.plans.discard(requested)
        return reason

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
            missing = tuple(
                [plans for plans in group.licenses if (path_index, plans.sku) not in have]
            )
            if missing and self._attempt(path_index, missing):
                changed = True
        return changed

    def _attempt(self, path_index: int, missing: tuple[PlanSet, ...]) -> bool:
        """R6: all missing products of one group, or none."""
        to_probe = self.failed.get(missing) if self.trace is None else None
        if to_probe is None:
            to_probe = self._try_admission(path_index, missing)
            if to_probe is None:
                return True
            self.failed[missing] = to_probe
        self.seats_to_probe.update(to_probe)
        self.refused[path_index] = missing
        return False

    def _try_admission(self, path_index: int, missing: tuple[PlanSet, ...]) -> list[str] | None:
        """Admits the products if all pass; else returns those whose seats are to be probed."""
        before = self.plans_before()
        for plans in missing:
            self.plans.add(plans)
        passed = all(self.passes(plans, plans.enabled, before) for plans in missing)
        seats = [p.sku for p in missing if p.sku not in self.held] if passed else []
        denied = [sku for sku in seats if sku in self.facts.denied]
        if self.trace is not None:
            self._record_attempt(path_index, missing, seats, before)
        if denied or not passed:
            for plans in missing:
                self.plans.discard(plans)
            return [sku for sku in seats if sku not in denied] if denied else []
        self.entries += [Entry(path_index, self.next_admission, plans) for plans in missing]
        self.next_admission += 1
        self.failed.clear()
        if seats:
            self.seats_needed.update(seats)
            self.held.update(seats)
        return None

    def _refusals(self) -> Iterator[tuple[int, PlanSet, ErrorReason]]:
        """Yields path, plans and reason of each product that was refused, in the last pass."""
        known: dict[tuple[PlanSet, ...], list[ErrorReason]] = {}
        before = self.plans_before()
        for path_index, missing in self.refused.items():
            reasons = known.get(missing)
            if reasons is None:
                for plans in missing:
                    self.plans.add(plans)
                reasons = known[missing] = self._reasons(missing, before)
                for plans in missing:
                    self.plans.discard(plans)
            for plans, reason in zip(missing, reasons, strict=True):
                yield path_index, plans, reason

    def _reasons(self, missing: tuple[PlanSet, ...], before: AbstractSet[str]) -> list[ErrorReason]:
        """R6: why each was refused, where the missing products are counted for the moment."""
        reasons = {p.sku: r for p in missing if (r := self.check(p, p.enabled, before))}
        if not reasons:
            for plans in missing:
                if plans.sku in self.facts.denied and plans.sku not in self.held:
                    message = messages.count(self.products, plans.sku)
                    reasons[plans.sku] = ErrorReason(COUNT, (), message)
        first = tuple(sorted(reasons)[: self.limit])
        blocked_by = listed("blockedBy", first, len(reasons))
        return [
            reasons.get(p.sku)
            or ErrorReason(
                OTHER, blocked_by, messages.other(self.products, p.sku, first, len(reasons))
            )
            for p in missing
        ]

    # -- states (rules, section 7)
    def outcome(self) -> Outcome:
        """Returns the present entries, with their problems (rules, section 7)."""
        problems = [
            AssignmentProblem(plans.sku, path_index, ERROR, plans.disabled, reason)
            for path_index, plans, reason in self._refusals()
        ]
        drifts: dict[PlanSet, ErrorReason | None] = {}
        for e in self.entries:
            sku, path_index, disabled = e.plans.sku, e.path_index, e.plans.disabled
            reason = self._entry_error(e, drifts)
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

    def _entry_error(
        self, e: Entry, drifts: dict[PlanSet, ErrorReason | None]
    ) -> ErrorReason | None:
        """R11, R12, R14: what is wrong with an entry that the user has.

        ``drifts``: that of the plan sets looked at so far.
        """
        key = (e.plans.sku, e.path_index)
        if key in self.kept:
            return self.kept[key]
        if e.plans not in drifts:
            drifts[e.plans] = self._check_drift(e.plans)
        drift = drifts[e.plans]
        if self.trace is not None:
            self._record("R14", e, drift)
        return first_checked(drift, self.unchanged.get(key))

    def _check_drift(self, plans: PlanSet) -> ErrorReason | None:
        """R14: a missing location is no drift, only a prohibited plan is."""
        if self.facts.location is not None and plans.prohibited:
            reason = self.check_location(plans, plans.enabled)
            if reason is not None:
                return reason
        return self.check_dependency(plans, plans.enabled) if plans.requires else None

    # -- the trace
    def _record(self, rule: str, e: Entry, reason: ErrorReason | None) -> None:
        assert self.trace is not None
        self.trace.decisions.append(
            TracedDecision(rule, e.plans.sku, e.path_index, reason is None, reason)
        )

    def _record_attempt(
        self,
        path_index: int,
        missing: tuple[PlanSet, ...],
        seats: list[str],
        before: AbstractSet[str],
    ) -> None:
        """Records an attempt while its products are counted."""
        assert self.trace is not None
        reasons = self._reasons(missing, before)
        applied = all(reason.error == OTHER for reason in reasons)
        attempted = tuple(p.sku for p in missing)
        for p, reason in zip(missing, reasons, strict=True):
            checks = self.check_each(p, p.enabled, before)
            if p.sku in seats:
                checks = (*checks, CheckResult("R7.5", reason if reason.error == COUNT else None))
            self.trace.decisions.append(
                TracedDecision(
                    "R7", p.sku, path_index, applied, None if applied else reason, checks, attempted
                )
            )
