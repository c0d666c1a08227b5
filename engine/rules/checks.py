"""The checks of R7.1 to R7.4, and of R11, R12 and R16 for lost requirements."""

from __future__ import annotations

from collections.abc import Iterable

from engine.domain import messages
from engine.domain.messages import Products
from engine.domain.model import Entry, PlanSet
from engine.domain.vocabulary import CONFLICT, DEPENDENCY, LOCATION, UNIQUENESS
from engine.rules.outcome import ErrorReason, EvaluationInput
from engine.rules.trace import CheckResult


def enabled_plans(sets: Iterable[PlanSet]) -> set[str]:
    """Returns the union of the plans that the sets enable (R1)."""
    return set().union(*[plans.enabled for plans in sets])


def missing_requirements(
    plans: PlanSet, new: frozenset[str], end: set[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns (plan, any-of list) for each requirement of ``new`` that ``end`` does not meet.

    Used for a user (R7.3, R14) and for a group's own licences (R20).
    """
    return tuple(
        (p, tuple(sorted(any_of)))
        for p, any_of in plans.requires
        if p in new and end.isdisjoint(any_of)
    )


class EligibilityChecks:
    """The entries of one user at one moment, before a change, and the checks against them.

    Each check returns the reason why it fails, or None if it passes.
    """

    def __init__(self, products: Products, facts: EvaluationInput) -> None:
        self.products = products
        self.facts = facts
        self.entries = list(facts.entries)

    def enabled(self, without: Entry | None = None, plus: Iterable[PlanSet] = ()) -> set[str]:
        """Returns the plans that the user has (R1), optionally without an entry or with others."""
        sets = [e.plans for e in self.entries if e is not without]
        return enabled_plans([*sets, *plus])

    def check(
        self, plans: PlanSet, new: frozenset[str], end: set[str], others: Iterable[PlanSet]
    ) -> ErrorReason | None:
        """Returns the first of R7.1–R7.4 that fails for the plans ``new`` of a product.

        ``end``: the plans enabled in the end state. ``others``: its plan sets.
        """
        return (
            self.check_location(plans, new)
            or self.check_conflict(plans, new, others)
            or self.check_dependency(plans, new, end)
            or self.check_uniqueness(plans, new)
        )

    def check_each(
        self, plans: PlanSet, new: frozenset[str], end: set[str], others: Iterable[PlanSet]
    ) -> tuple[CheckResult, ...]:
        """Returns the results of all four checks; :meth:`check` stops at the first failure."""
        return (
            CheckResult("R7.1", self.check_location(plans, new)),
            CheckResult("R7.2", self.check_conflict(plans, new, others)),
            CheckResult("R7.3", self.check_dependency(plans, new, end)),
            CheckResult("R7.4", self.check_uniqueness(plans, new)),
        )

    def check_location(self, plans: PlanSet, new: frozenset[str]) -> ErrorReason | None:
        """R7.1: there is a location, and no plan of ``new`` is prohibited in it."""
        where = self.facts.location
        prohibited = tuple(p for p, places in plans.prohibited if p in new and where in places)
        if where is not None and not prohibited:
            return None
        message = messages.location(self.products, plans.sku, prohibited, where)
        return ErrorReason(LOCATION, (("location", where),), message)

    def check_conflict(
        self, plans: PlanSet, new: frozenset[str], others: Iterable[PlanSet]
    ) -> ErrorReason | None:
        """R7.2: no plan of ``new`` shares an exclusive set with another plan of another product."""
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
        return ErrorReason(CONFLICT, (("conflicts", pairs),), message)

    def check_dependency(
        self, plans: PlanSet, new: frozenset[str], end: set[str]
    ) -> ErrorReason | None:
        """R7.3: every requirement of ``new`` is met by a plan enabled in the end state."""
        missing = missing_requirements(plans, new, end)
        if not missing:
            return None
        message = messages.missing(self.products, plans.sku, missing)
        return ErrorReason(DEPENDENCY, (("missing", missing),), message)

    def check_uniqueness(self, plans: PlanSet, new: frozenset[str]) -> ErrorReason | None:
        """R7.4: a user who shares a proxy address gets no mail plan that no entry enables yet."""
        if self.facts.duplicate is None or plans.mail.isdisjoint(new):
            return None
        if plans.mail & new <= self.enabled():
            return None  # another path to a mailbox that is there already claims nothing new
        return self.shared_address(plans.sku)

    def shared_address(self, sku: str) -> ErrorReason:
        """Returns the reason that names the shared proxy address and its earlier owner (R18)."""
        assert self.facts.duplicate is not None
        address, owner = self.facts.duplicate
        details = (("address", address), ("owner", owner))
        message = messages.duplicate(self.products, sku, address, owner)
        return ErrorReason(UNIQUENESS, details, message)

    def lost_requirements(
        self, sku: str, before: set[str], after: set[str], staying: Iterable[PlanSet]
    ) -> ErrorReason | None:
        """R11, R12, R16: no plan that stays enabled loses a requirement that is met now."""
        lost = {
            (p, tuple(sorted(any_of)))
            for plans in staying
            for p, any_of in plans.requires
            if p in before and not before.isdisjoint(any_of) and after.isdisjoint(any_of)
        }
        if not lost:
            return None
        found = tuple(sorted(lost))
        message = messages.needed_by_others(self.products, sku, found)
        return ErrorReason(DEPENDENCY, (("missing", found),), message)
