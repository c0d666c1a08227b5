"""What follows for one user, seats aside: facts become a signature, the signature an outcome."""

from __future__ import annotations

from typing import Any, Final

from engine.domain.model import Entry, Offer
from engine.rules.direct_change import DirectChange, Rejection, change_direct
from engine.rules.evaluation import evaluate
from engine.rules.outcome import NOTHING, Outcome, Situation
from engine.state.configuration import Configuration
from engine.state.tenant_state import User

Facts = tuple[Any, ...]
"""The members of a :class:`Situation`, which is made only where they are new."""
MEMO: Final = 100_000
NO_SLOTS: Final[frozenset[int]] = frozenset()
ANYWHERE: Final = "anywhere that no plan prohibits"
NOBODY: Final[frozenset[str]] = frozenset()


class Decision:
    """An outcome with the group ids of its slots.

    ``wanted``: products, in skuId order, whose seats must be had or known to be denied before it
    can be applied. ``rejection``: of the direct change under way, None if it goes through.
    """

    __slots__ = ("outcome", "paths", "rejection", "wanted")

    def __init__(
        self,
        outcome: Outcome,
        paths: tuple[str, ...],
        wanted: tuple[str, ...],
        rejection: Rejection | None = None,
    ) -> None:
        self.outcome = outcome
        self.paths = paths
        self.wanted = wanted
        self.rejection = rejection


NOTHING_ASKED: Final = Decision(NOTHING, (), ())


class Decider:
    """Evaluates users, sharing outcomes by signature (architecture, section 3)."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.memo: dict[Facts, Outcome] = {}
        self.evaluations = 0
        self.hits = 0

    def forget(self) -> None:
        """A product has changed: everything may follow differently."""
        self.memo.clear()

    def decide(self, user: User, denied: frozenset[str] = NOBODY) -> Decision:
        facts, paths = self._facts(user, denied)
        change = user.more.change if user.more is not None else None
        if not paths and not change and not user.outcome.entries:
            return NOTHING_ASKED
        if change is None or change[1] is None:  # a reprocess changes nothing itself
            outcome = self._evaluate(facts)
            wanted = outcome.need
            if outcome.probe:
                wanted = tuple(sorted({*wanted, *outcome.probe}))
            return Decision(outcome, paths, wanted)
        return self._with_change(user, facts, paths, change)

    def _with_change(
        self, user: User, known: Facts, paths: tuple[str, ...], change: list[Any]
    ) -> Decision:
        """R16: the direct change first, then the re-evaluation of R9 on what it leaves."""
        facts = Situation(*known)
        _, add, remove, _ = change
        wish = DirectChange(
            tuple((sku, tuple(off)) for sku, off in add),
            tuple(remove),
        )
        made = change_direct(self.configuration.products, facts, user.location, wish)
        rejection: Rejection | None = None
        need: tuple[str, ...] = ()
        if isinstance(made, Rejection):
            rejection = made
        else:
            entries, need = made
            facts = facts._replace(entries=entries, held=facts.held.union(need))
        outcome = self._evaluate(facts)
        wanted = tuple(sorted({*need, *outcome.need, *outcome.probe}))
        return Decision(outcome, paths, wanted, rejection)

    def _evaluate(self, facts: Facts) -> Outcome:
        self.evaluations += 1
        outcome = self.memo.get(facts)
        if outcome is None:
            if len(self.memo) >= MEMO:
                self.memo.clear()
            outcome = evaluate(self.configuration.products, Situation(*facts))
            self.memo[facts] = outcome
        else:
            self.hits += 1
        return outcome

    def _facts(self, user: User, denied: frozenset[str]) -> tuple[Facts, tuple[str, ...]]:
        tenant = user.tenant
        offers: list[Offer] = []
        paths: list[str] = []
        for id in user.groups:
            group = tenant.groups.get(id)
            if group is not None and group.offer is not None:
                offers.append(group.offer)
                paths.append(id)
        old = user.outcome
        entries, converts = old.entries, NO_SLOTS
        if entries:
            entries, converts = self._placed(user, paths)
        # Not by length: a group that the user left may stand in for one without licences.
        slots = tuple(paths)
        if slots == user.groups:
            slots = user.groups  # one tuple for both, and for all who have it
        facts = (
            entries,
            tuple(offers),
            converts,
            self._where(user.location or tenant.settings.location),
            user.duplicate if user.more is not None else None,
            denied,
            old.held,
        )
        return facts, slots

    def _where(self, location: str | None) -> str | None:
        """Locations that nothing prohibits are all the same: one signature for all of them."""
        if location is None or location in self.configuration.prohibited:
            return location
        return ANYWHERE

    def _placed(self, user: User, paths: list[str]) -> tuple[tuple[Entry, ...], frozenset[int]]:
        """The user's entries with the slots of now; what no group asks for comes at the end."""
        tenant = user.tenant
        old = user.outcome.entries
        slots: dict[int, int] = {0: 0}
        converts = set()
        for e in old:
            if e.slot in slots:
                continue
            id = user.paths[e.slot - 1]
            if id not in paths:
                paths.append(id)
                group = tenant.groups.get(id)
                if group is not None and group.deleted and tenant.settings.convert:
                    converts.add(len(paths))
            slots[e.slot] = paths.index(id) + 1
        if all(now == before for before, now in slots.items()):
            return old, frozenset(converts) if converts else NO_SLOTS
        placed = tuple(e._replace(slot=slots[e.slot]) for e in old)
        return placed, frozenset(converts)
