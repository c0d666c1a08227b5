"""The checks of R7.1 to R7.4, and of R11, R12 and R16 for lost requirements."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from engine.domain import messages
from engine.domain.limits import LISTED
from engine.domain.messages import Details, Products
from engine.domain.model import PlanSet
from engine.domain.vocabulary import CONFLICT, DEPENDENCY, LOCATION, UNIQUENESS
from engine.rules.enabled_plans import EnabledPlans
from engine.rules.outcome import CHECK_ORDER, ErrorReason, EvaluationInput
from engine.rules.trace import CheckResult

NO_PLANS: Final[frozenset[str]] = frozenset()


def enabled_plans(sets: Iterable[PlanSet]) -> set[str]:
    """Returns the union of the plans that the sets enable (R1)."""
    return set().union(*[plans.enabled for plans in sets])


def missing_requirements(
    plans: PlanSet, new: frozenset[str], end: AbstractSet[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns (plan, any-of list) for each requirement of ``new`` that ``end`` does not meet.

    Used for a user (R7.3, R14) and for a group's own licences (R20).
    """
    return tuple(
        (p, tuple(sorted(any_of)))
        for p, any_of in plans.requires
        if p in new and end.isdisjoint(any_of)
    )


def listed(name: str, items: tuple[object, ...], total: int) -> Details:
    """Returns details that list ``items``; what was left out is a number, ``…Total``."""
    return ((name, items),) if total == len(items) else ((name, items), (f"{name}Total", total))


def first_checked(a: ErrorReason | None, b: ErrorReason | None) -> ErrorReason | None:
    """Returns the reason that is first in R7's order; None if there is none."""
    if a is None or b is None:
        return a or b
    return b if CHECK_ORDER[b.error] < CHECK_ORDER[a.error] else a


class EligibilityChecks:
    """The entries of one user at one moment, as counted plans, and the checks against them.

    The checks of R7 are made on an end state: ``plans`` holds it while they are made. Each returns
    the reason why it fails, or None if it passes. ``limit``: how many conflicts or requirements
    a reason lists.
    """

    def __init__(self, products: Products, facts: EvaluationInput, limit: int = LISTED) -> None:
        self.products = products
        self.facts = facts
        self.limit = limit
        self.entries = list(facts.entries)
        self.plans = EnabledPlans([e.plans for e in facts.entries])

    def plans_before(self) -> AbstractSet[str]:
        """Returns the plans enabled now, for R7.4; none if it is not going to look at them."""
        return NO_PLANS if self.facts.duplicate is None else frozenset(self.plans.enabled)

    def passes(self, plans: PlanSet, new: frozenset[str], before: AbstractSet[str]) -> bool:
        """Returns True if :meth:`check` finds nothing; much faster, since it describes nothing."""
        where = self.facts.location
        if where is None:
            return False
        for plan, places in plans.prohibited:
            if where in places and plan in new:
                return False
        enabled = self.plans.enabled
        for plan, any_of in plans.requires:
            if plan in new and enabled.isdisjoint(any_of):
                return False
        return not self._claims_address(plans, new, before) and not self.plans.has_conflict(
            plans, new
        )

    def check(
        self, plans: PlanSet, new: frozenset[str], before: AbstractSet[str]
    ) -> ErrorReason | None:
        """Returns the first of R7.1–R7.4 that fails for the plans ``new`` of a product.

        ``before``: from :meth:`plans_before`, before the end state was made.
        """
        return (
            self.check_location(plans, new)
            or self.check_conflict(plans, new)
            or self.check_dependency(plans, new)
            or self.check_uniqueness(plans, new, before)
        )

    def check_each(
        self, plans: PlanSet, new: frozenset[str], before: AbstractSet[str]
    ) -> tuple[CheckResult, ...]:
        """Returns the results of all four checks; :meth:`check` stops at the first failure."""
        return (
            CheckResult("R7.1", self.check_location(plans, new)),
            CheckResult("R7.2", self.check_conflict(plans, new)),
            CheckResult("R7.3", self.check_dependency(plans, new)),
            CheckResult("R7.4", self.check_uniqueness(plans, new, before)),
        )

    def check_location(self, plans: PlanSet, new: frozenset[str]) -> ErrorReason | None:
        """R7.1: there is a location, and no plan of ``new`` is prohibited in it."""
        where = self.facts.location
        prohibited = tuple(p for p, places in plans.prohibited if p in new and where in places)
        if where is not None and not prohibited:
            return None
        message = messages.location(self.products, plans.sku, prohibited, where, self.limit)
        return ErrorReason(LOCATION, (("location", where),), message)

    def check_conflict(self, plans: PlanSet, new: frozenset[str]) -> ErrorReason | None:
        """R7.2: no plan of ``new`` shares an exclusive set with another plan of another product."""
        if not self.plans.has_conflict(plans, new):
            return None
        total, pairs = self.plans.conflicts(plans, new, self.limit)
        message = messages.conflict(self.products, plans.sku, pairs, total)
        return ErrorReason(CONFLICT, listed("conflicts", pairs, total), message)

    def check_dependency(self, plans: PlanSet, new: frozenset[str]) -> ErrorReason | None:
        """R7.3: every requirement of ``new`` is met by a plan enabled in the end state."""
        missing = missing_requirements(plans, new, self.plans.enabled)
        if not missing:
            return None
        first = missing[: self.limit]
        message = messages.missing(self.products, plans.sku, first, len(missing))
        return ErrorReason(DEPENDENCY, listed("missing", first, len(missing)), message)

    def check_uniqueness(
        self, plans: PlanSet, new: frozenset[str], before: AbstractSet[str]
    ) -> ErrorReason | None:
        """R7.4: a user who shares a proxy address gets no mail plan that no entry enables yet."""
        return self.shared_address(plans.sku) if self._claims_address(plans, new, before) else None

    def _claims_address(
        self, plans: PlanSet, new: frozenset[str], before: AbstractSet[str]
    ) -> bool:
        # Another path to a mailbox that is there already claims nothing new.
        return self.facts.duplicate is not None and not plans.mail & new <= before

    def shared_address(self, sku: str) -> ErrorReason:
        """Returns the reason that names the shared proxy address and its earlier owner (R18)."""
        assert self.facts.duplicate is not None
        address, owner = self.facts.duplicate
        details = (("address", address), ("owner", owner))
        message = messages.duplicate(self.products, sku, address, owner)
        return ErrorReason(UNIQUENESS, details, message)

    def lost_requirements(
        self, sku: str, vanished: Collection[str], appeared: Collection[str] = ()
    ) -> ErrorReason | None:
        """R11, R12, R16: no plan that stays enabled loses a requirement that is met now.

        ``vanished`` and ``appeared``: the plans that the change has disabled and enabled.
        """
        lost = self.plans.lost_requirements(vanished, appeared) if vanished else None
        if not lost:
            return None
        first = tuple(lost[: self.limit])
        message = messages.needed_by_others(self.products, sku, first, len(lost))
        return ErrorReason(DEPENDENCY, listed("missing", first, len(lost)), message)
