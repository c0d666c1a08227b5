"""Evaluates one user, seats aside: facts become an input of the rules, the input an outcome."""

from __future__ import annotations

from typing import Any, Final

from engine.domain.messages import Rejection
from engine.domain.model import Entry, GroupLicenses
from engine.machines.adoption import Adoption, adopt
from engine.machines.evaluation_limits import limit_groups
from engine.rules.direct_change import DirectChange, change_direct
from engine.rules.evaluation import evaluate
from engine.rules.outcome import EMPTY_OUTCOME, EvaluationInput, Outcome
from engine.state.configuration import Configuration
from engine.state.tenant_state import TenantState, User
from engine.state.user_row_codecs import OptionalUserFacts

Facts = tuple[Any, ...]
"""The members of an :class:`EvaluationInput`, which is made only for facts not in the memo."""
MEMO_MAX_WEIGHT: Final = 100_000
"""Licences and paths of all outcomes in the memo together, each about 1 kB with its documents."""
NO_PATHS: Final[frozenset[int]] = frozenset()
UNRESTRICTED: Final = "anywhere that no plan prohibits"
"""Stands for every location that no plan prohibits, so that these users share outcomes."""
ANY_LOCATION: Final = "any"
"""Stands for the own location that a direct licence needs; a restored one does not (R22)."""
ADOPTION: Final = OptionalUserFacts.ADOPTION
RESTORATION: Final = OptionalUserFacts.RESTORATION
NO_DENIALS: Final[frozenset[str]] = frozenset()


class EvaluationResult:
    """An outcome with the group ids of its paths, path 1 first.

    ``required_seats``: products, in skuId order, whose seats must be reserved or denied before
    the outcome can be applied. ``rejection``: of the direct change under way, None if it can be
    made. ``adopted``: the licences that the outcome adopts (R25). ``not_restored``: the direct
    licences of a restored user that cannot be given (R22); None if no user is restored.
    ``left_out``: licences of the user's groups beyond the limits.
    """

    __slots__ = (
        "adopted",
        "left_out",
        "not_restored",
        "outcome",
        "paths",
        "rejection",
        "required_seats",
    )

    def __init__(
        self,
        outcome: Outcome,
        paths: tuple[str, ...],
        required_seats: tuple[str, ...],
        rejection: Rejection | None = None,
    ) -> None:
        self.outcome = outcome
        self.paths = paths
        self.required_seats = required_seats
        self.rejection = rejection
        self.adopted: Adoption | None = None
        self.left_out = 0
        self.not_restored: tuple[Rejection, ...] | None = None


EMPTY_RESULT: Final = EvaluationResult(EMPTY_OUTCOME, (), ())


class UserEvaluator:
    """Evaluates users. Users with equal facts share one outcome, by a memo."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.memo: dict[Facts, Outcome] = {}
        self.memo_weight = 0
        self.memo_max_weight = MEMO_MAX_WEIGHT
        self.evaluations = 0
        self.hits = 0
        # So many groups cannot exceed the limits, which need not be looked at then.
        limits = configuration.limits
        self._groups_without_limit = min(
            limits.licensed_groups, limits.assignments // limits.products
        )
        self.left_out = 0  # licences beyond the limits of the user evaluated last

    def clear_memo(self) -> None:
        """Forgets all outcomes, since a product has changed, or the memo is full."""
        self.memo.clear()
        self.memo_weight = 0

    def evaluate(self, user: User, denied: frozenset[str] = NO_DENIALS) -> EvaluationResult:
        """Evaluates the user's present facts; ``denied``: products without a seat to be had."""
        self.left_out = 0
        optional = user.optional_facts
        if optional is not None and user.is_returning:
            found = self._evaluate_returning(user, denied, optional)
        else:
            facts, paths = self._facts(user, denied, user.outcome.entries, user.paths)
            found = self._evaluate_facts(user, facts, paths)
        if self.left_out:
            if found is EMPTY_RESULT:  # it is shared
                found = EvaluationResult(EMPTY_OUTCOME, (), ())
            found.left_out = self.left_out
        return found

    def _evaluate_returning(
        self, user: User, denied: frozenset[str], optional: dict[str, Any]
    ) -> EvaluationResult:
        """Evaluates a user whose licences are adopted (R25) or who is restored (R22)."""
        adoption: Adoption | None = None
        entries, entry_paths, held = user.outcome.entries, user.paths, user.outcome.held
        if ADOPTION in optional:
            adoption = adopt(self.configuration, user, optional[ADOPTION])
            entries, entry_paths = adoption.entries, adoption.paths
            held |= adoption.skus
        known, paths = self._facts(user, denied, entries, entry_paths)
        facts = EvaluationInput(*known)._replace(held=held)
        if RESTORATION in optional:
            found = self._restore_direct(facts, paths, optional[RESTORATION][1])
        else:
            shared = self._evaluate_facts(user, facts, paths)
            found = EvaluationResult(
                shared.outcome, shared.paths, shared.required_seats, shared.rejection
            )
        found.adopted = adoption
        return found

    def _restore_direct(
        self, facts: EvaluationInput, paths: tuple[str, ...], licenses: list[Any]
    ) -> EvaluationResult:
        """R22: memberships as they stand, then each direct licence by R16, in skuId order."""
        outcome = self._outcome(facts)
        required = {*outcome.seats_needed, *outcome.seats_to_probe}
        rejections = []
        for sku, disabled in sorted(licenses):
            facts = facts._replace(entries=outcome.entries, held=facts.held | outcome.held)
            change = DirectChange(((sku, tuple(disabled)),), ())
            changed = change_direct(self.configuration.products, facts, ANY_LOCATION, change)
            if isinstance(changed, Rejection):
                rejections.append(changed)
                continue
            entries, needed = changed
            facts = facts._replace(entries=entries, held=facts.held.union(needed))
            outcome = self._outcome(facts)
            required.update(needed, outcome.seats_needed, outcome.seats_to_probe)
        found = EvaluationResult(outcome, paths, tuple(sorted(required)))
        found.not_restored = tuple(rejections)
        return found

    def _evaluate_facts(self, user: User, facts: Facts, paths: tuple[str, ...]) -> EvaluationResult:
        change = user.pending_work.change if user.pending_work is not None else None
        if not paths and not change and not facts[0]:
            return EMPTY_RESULT
        if change is None or change[1] is None:  # a reprocess changes nothing itself
            outcome = self._outcome(facts)
            required = outcome.seats_needed
            if outcome.seats_to_probe:
                required = tuple(sorted({*required, *outcome.seats_to_probe}))
            return EvaluationResult(outcome, paths, required)
        return self._with_change(user, facts, paths, change)

    def _with_change(
        self, user: User, known: Facts, paths: tuple[str, ...], change: list[Any]
    ) -> EvaluationResult:
        """R16: the direct change first, then the re-evaluation of R9 on the entries it leaves."""
        facts = EvaluationInput(*known)
        _, add, remove, _ = change
        wish = DirectChange(
            tuple((sku, tuple(disabled)) for sku, disabled in add),
            tuple(remove),
        )
        changed = change_direct(self.configuration.products, facts, user.location, wish)
        rejection: Rejection | None = None
        needed: tuple[str, ...] = ()
        if isinstance(changed, Rejection):
            rejection = changed
        else:
            entries, needed = changed
            facts = facts._replace(entries=entries, held=facts.held.union(needed))
        outcome = self._outcome(facts)
        required = tuple(sorted({*needed, *outcome.seats_needed, *outcome.seats_to_probe}))
        return EvaluationResult(outcome, paths, required, rejection)

    def _outcome(self, facts: Facts) -> Outcome:
        self.evaluations += 1
        outcome = self.memo.get(facts)
        if outcome is None:
            outcome = evaluate(self.configuration.products, EvaluationInput(*facts))
            weight = len(facts[0]) + len(outcome.states) + outcome.path_count
            if self.memo_weight + weight > self.memo_max_weight:
                self.clear_memo()
            self.memo[facts] = outcome
            self.memo_weight += weight
        else:
            self.hits += 1
        return outcome

    def _facts(
        self,
        user: User,
        denied: frozenset[str],
        entries: tuple[Entry, ...],
        entry_paths: tuple[str, ...],
    ) -> tuple[Facts, tuple[str, ...]]:
        """Returns the input of the rules and its paths.

        ``entries`` are those that the evaluation begins with, ``entry_paths`` the groups of their
        path indexes.
        """
        tenant = user.tenant
        group_licenses: list[GroupLicenses] = []
        paths: list[str] = []
        for id in user.groups:
            group = tenant.groups.get(id)
            if group is not None and group.license_set is not None:
                group_licenses.append(group.license_set)
                paths.append(id)
        converted = NO_PATHS
        if len(paths) > self._groups_without_limit:
            self.left_out = limit_groups(
                self.configuration, group_licenses, paths, entries, entry_paths
            )
        if entries:
            entries, converted = self._renumbered(tenant, entries, entry_paths, paths)
        # Not by length: a group that the user left may stand in for one without licences.
        path_ids = tuple(paths)
        if path_ids == user.groups:
            path_ids = user.groups  # one tuple for both, and for all users who have it
        facts = (
            entries,
            tuple(group_licenses),
            converted,
            self._location(user.location or tenant.settings.location),
            user.duplicate if user.pending_work is not None else None,
            denied,
            user.outcome.held,
            tenant.products_off,
        )
        return facts, path_ids

    def _location(self, location: str | None) -> str | None:
        if location is None or location in self.configuration.prohibited:
            return location
        return UNRESTRICTED

    def _renumbered(
        self,
        tenant: TenantState,
        old: tuple[Entry, ...],
        old_paths: tuple[str, ...],
        paths: list[str],
    ) -> tuple[tuple[Entry, ...], frozenset[int]]:
        """Returns the entries with the present path indexes, and R13's converted paths.

        Groups that no longer ask for anything are appended to ``paths``.
        """
        indexes: dict[int, int] = {0: 0}
        converted = set()
        for e in old:
            if e.path_index in indexes:
                continue
            id = old_paths[e.path_index - 1]
            if id not in paths:
                paths.append(id)
                group = tenant.groups.get(id)
                if group is not None and group.deleted and tenant.settings.convert:
                    converted.add(len(paths))
            indexes[e.path_index] = paths.index(id) + 1
        if all(now == before for before, now in indexes.items()):
            return old, frozenset(converted) if converted else NO_PATHS
        entries = tuple(e._replace(path_index=indexes[e.path_index]) for e in old)
        return entries, frozenset(converted)
