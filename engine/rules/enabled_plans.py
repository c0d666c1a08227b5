"""The plans that a user's licences enable (R1), counted: a change costs its own size alone.

A user may have thousands of licences, most of them through equal plan sets. Each distinct plan set
is counted once, and only the first and the last of a kind change what is enabled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final

from engine.domain.model import PlanSet

FEW_SETS: Final = 8
"""Up to so many plan sets a scan of all is faster than an index."""
Conflict = tuple[str, str, str]
"""A plan, another plan that excludes it, and the product of the latter (R7.2)."""


class ExclusiveSets:
    """The enabled plans, with their products, that are in one of some exclusive sets (R7.2)."""

    __slots__ = ("_counts", "_order", "_plans_of", "_products", "_total")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._order: list[str] = []  # the plans, sorted
        self._products: dict[str, list[str]] = {}  # of each plan, sorted
        self._plans_of: dict[str, int] = {}
        self._total = 0

    def add(self, plan: str, sku: str) -> None:
        """Adds a plan that an entry of the product enables."""
        count = self._counts.get((plan, sku), 0)
        self._counts[plan, sku] = count + 1
        if count:
            return
        skus = self._products.get(plan)
        if skus is None:
            self._products[plan] = [sku]
            insort(self._order, plan)
        else:
            insort(skus, sku)
        self._plans_of[sku] = self._plans_of.get(sku, 0) + 1
        self._total += 1

    def discard(self, plan: str, sku: str) -> None:
        """Takes back one :meth:`add`."""
        count = self._counts[plan, sku] = self._counts[plan, sku] - 1
        if count:
            return
        del self._counts[plan, sku]
        skus = self._products[plan]
        del skus[bisect_left(skus, sku)]
        if not skus:
            del self._products[plan]
            del self._order[bisect_left(self._order, plan)]
        self._plans_of[sku] -= 1
        self._total -= 1

    def include(self, other: ExclusiveSets) -> None:
        """Adds what another index has and this one has not."""
        for (plan, sku), count in other._counts.items():
            if (plan, sku) not in self._counts:
                self.add(plan, sku)
                self._counts[plan, sku] = count

    def count(self, plan: str, sku: str) -> int:
        """Returns how many (other plan, other product) pairs exclude the plan of the product."""
        same_plan = len(self._products.get(plan, ()))
        same_product = self._plans_of.get(sku, 0) - ((plan, sku) in self._counts)
        return self._total - same_plan - same_product

    def conflicts(self, plan: str, sku: str) -> Iterator[Conflict]:
        """Yields the conflicts of the plan of the product, sorted."""
        for other in self._order:
            if other != plan:
                for other_sku in self._products[other]:
                    if other_sku != sku:
                        yield plan, other, other_sku


class EnabledPlans:
    """The plan sets of a user's entries. ``enabled``: the union of what they enable, always new.

    ``sets``: the distinct plan sets, and of how many entries. Indexes for many plan sets are made
    when they are first needed: by exclusive sets, and by a plan that others require.
    """

    __slots__ = (
        "_by_names", "_counts", "_requiring", "_skus", "_unindexed", "_watching", "enabled", "sets",
    )  # fmt: skip

    def __init__(self, sets: Iterable[PlanSet] = ()) -> None:
        self.sets: dict[PlanSet, int] = {}
        self._counts: dict[str, int] = {}  # plan -> number of distinct plan sets
        self._skus: dict[str, int] = {}  # product -> number of distinct plan sets
        self.enabled: AbstractSet[str] = self._counts.keys()
        self._by_names: dict[frozenset[str], ExclusiveSets] | None = None
        # By the name of an exclusive set: its own index first, then those of several names.
        self._watching: dict[str, list[ExclusiveSets]] = {}
        self._requiring: dict[str, list[tuple[PlanSet, str, frozenset[str]]]] = {}
        self._unindexed: list[PlanSet] = []
        for plans in sets:
            self.add(plans)

    def add(self, plans: PlanSet) -> Collection[str]:
        """Adds the plan set of an entry; returns the plans that it newly enables."""
        known = self.sets.get(plans)
        if known is not None:
            self.sets[plans] = known + 1
            return ()
        counts, sku = self._counts, plans.sku
        self.sets[plans] = 1
        self._skus[sku] = self._skus.get(sku, 0) + 1
        if plans.requires:
            self._unindexed.append(plans)
        if self._by_names is not None:
            self._index(plans, True)
        if not counts:
            counts.update(dict.fromkeys(plans.enabled, 1))
            return plans.enabled
        appeared = []
        for plan in plans.enabled:
            count = counts.get(plan, 0)
            counts[plan] = count + 1
            if not count:
                appeared.append(plan)
        return appeared

    def discard(self, plans: PlanSet) -> Collection[str]:
        """Removes the plan set of an entry; returns the plans that are no longer enabled."""
        entries = self.sets[plans] - 1
        if entries:
            self.sets[plans] = entries
            return ()
        del self.sets[plans]
        counts, sku = self._counts, plans.sku
        if self._skus[sku] == 1:
            del self._skus[sku]
        else:
            self._skus[sku] -= 1
        if self._by_names is not None:
            self._index(plans, False)
        if not self.sets:
            counts.clear()
            return plans.enabled
        vanished = []
        for plan in plans.enabled:
            count = counts[plan] - 1
            if count:
                counts[plan] = count
            else:
                del counts[plan]
                vanished.append(plan)
        return vanished

    # -- R7.2: exclusive sets
    def has_conflict(self, plans: PlanSet, new: frozenset[str]) -> bool:
        """Returns True if a plan of ``new`` and another plan of another product exclude another."""
        if not plans.exclusive or len(self._skus) == (plans.sku in self._skus):
            return False
        if len(self.sets) > FEW_SETS:
            return any(index.count(plan, plans.sku) for plan, index in self._indexes(plans, new))
        for _ in self._scan(plans, new):
            return True
        return False

    def conflicts(
        self, plans: PlanSet, new: frozenset[str], listed: int
    ) -> tuple[int, tuple[Conflict, ...]]:
        """Returns the number of conflicts, and the first ``listed`` of them, sorted."""
        if len(self.sets) <= FEW_SETS:
            all_of_them = sorted(set(self._scan(plans, new)))
            return len(all_of_them), tuple(all_of_them[:listed])
        total = 0
        found: list[Conflict] = []
        for plan, index in self._indexes(plans, new):  # plan sets have their plans in order
            total += index.count(plan, plans.sku)
            if len(found) < listed:
                found += islice(index.conflicts(plan, plans.sku), listed - len(found))
        return total, tuple(found)

    def _scan(self, plans: PlanSet, new: frozenset[str]) -> Iterator[Conflict]:
        own = plans.exclusive_names
        for other in self.sets:
            if other.sku == plans.sku or own.isdisjoint(other.exclusive_names):
                continue
            for other_plan, other_names in other.exclusive:
                if not own.isdisjoint(other_names):
                    for plan, names in plans.exclusive:
                        if plan != other_plan and plan in new and not names.isdisjoint(other_names):
                            yield plan, other_plan, other.sku

    def _indexes(self, plans: PlanSet, new: frozenset[str]) -> Iterator[tuple[str, ExclusiveSets]]:
        if self._by_names is None:
            self._by_names = {}
            for known in self.sets:
                self._index(known, True)
        for plan, names in plans.exclusive:
            if plan in new:
                yield plan, self._by_names.get(names) or self._index_of(names)

    def _index_of(self, names: frozenset[str]) -> ExclusiveSets:
        """Returns a new index of the plans in any of the exclusive sets."""
        watching = [self._watching.setdefault(name, [ExclusiveSets()]) for name in names]
        found = watching[0][0]
        if len(names) > 1:
            found = ExclusiveSets()
            for indexes in watching:
                found.include(indexes[0])
                indexes.append(found)
        assert self._by_names is not None
        self._by_names[names] = found
        return found

    def _index(self, plans: PlanSet, added: bool) -> None:
        for plan, names in plans.exclusive:
            indexes: dict[int, ExclusiveSets] = {}
            for name in names:
                for index in self._watching.setdefault(name, [ExclusiveSets()]):
                    indexes[id(index)] = index
            for index in indexes.values():
                index.add(plan, plans.sku) if added else index.discard(plan, plans.sku)

    # -- R11, R12, R16: requirements
    def lost_requirements(
        self, vanished: Collection[str], appeared: Collection[str]
    ) -> list[tuple[str, tuple[str, ...]]]:
        """Returns the requirements, sorted, that plans which stay enabled have lost.

        ``vanished`` and ``appeared``: the plans that a change has disabled and enabled.
        """
        lost = {
            (plan, tuple(sorted(any_of)))
            for plans, plan, any_of in self._requirements(vanished)
            if plans in self.sets and plan not in appeared and self.enabled.isdisjoint(any_of)
        }
        return sorted(lost)

    def _requirements(
        self, vanished: Collection[str]
    ) -> Iterator[tuple[PlanSet, str, frozenset[str]]]:
        """Yields the requirements that one of the plans met; maybe those of former entries too."""
        if len(self.sets) <= FEW_SETS:
            for plans in self.sets:
                if not plans.required.isdisjoint(vanished):
                    for plan, any_of in plans.requires:
                        if not any_of.isdisjoint(vanished):
                            yield plans, plan, any_of
            return
        while self._unindexed:
            plans = self._unindexed.pop()
            for plan, any_of in plans.requires:
                for required in any_of:
                    self._requiring.setdefault(required, []).append((plans, plan, any_of))
        for gone in vanished:
            yield from self._requiring.get(gone, ())
