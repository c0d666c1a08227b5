"""The checks of R7.1 to R7.4, and R11's check for lost requirements, against a set of entries."""

from __future__ import annotations

from collections.abc import Iterable

from engine.domain import messages
from engine.domain.messages import (
    CONFLICT,
    DEPENDENCY,
    LOCATION,
    UNIQUENESS,
    Products,
)
from engine.domain.model import Entry, PlanSet
from engine.rules.outcome import Reason, Situation


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
