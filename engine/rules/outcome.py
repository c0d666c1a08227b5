"""The input and the outcome of one evaluation of a user's licences.

Neither says who the user is: paths are numbers (see :class:`engine.domain.model.Entry`), so users
with equal facts share one input, and with it one outcome.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from engine.domain.messages import Details
from engine.domain.model import Entry, GroupLicenses
from engine.domain.vocabulary import (
    ACTIVE,
    CONFLICT,
    COUNT,
    DEPENDENCY,
    DISABLED,
    ERROR,
    LOCATION,
    NONE,
    OTHER,
    UNIQUENESS,
)

CHECK_ORDER: Final = {LOCATION: 1, CONFLICT: 2, DEPENDENCY: 3, UNIQUENESS: 4, COUNT: 5}
"""R7: of several errors the one that is checked first is published."""
GroupStats = tuple[bool, tuple[str, ...]]
"""What one user adds to a group's status: whether licensed by it, and the errors from it."""


class EvaluationInput(NamedTuple):
    """The facts of one evaluation, and the key by which outcomes are shared.

    ``group_licenses``: of the user's groups in the order of R8; the first one is path 1.
    ``converted_paths``: paths whose group is deleted under the policy ``convert`` (R13).
    ``location``: the effective one; locations that no plan prohibits are all the same.
    ``duplicate``: a shared address and its earlier owner (R18).
    ``denied``: products of which no seat can be had.
    ``held``: products whose seat the user has when the evaluation begins.
    ``off``: products of the tenant that are off (R15).
    """

    entries: tuple[Entry, ...]
    group_licenses: tuple[GroupLicenses, ...]
    converted_paths: frozenset[int]
    location: str | None
    duplicate: tuple[str, str] | None
    denied: frozenset[str]
    held: frozenset[str]
    off: frozenset[str] = frozenset()


class ErrorReason(NamedTuple):
    """An error code with its details (contract, section 3) and its sentence."""

    error: str
    details: Details
    message: str


class AssignmentProblem(NamedTuple):
    """A state that is not Active.

    It is that of an entry (ActiveWithError, Disabled) or of a missing product (Error).
    """

    sku: str
    path_index: int
    state: str
    disabled: tuple[str, ...]
    reason: ErrorReason


class AssignmentState(NamedTuple):
    """One ``licenseAssignmentState`` without the group's id and the time."""

    sku: str
    path_index: int
    disabled: tuple[str, ...]
    state: str
    reason: ErrorReason


NO_ERRORS: Final[AbstractSet[str]] = frozenset()


class OutcomeCache:
    """Values that other layers derive from an outcome once, for all users who share it.

    They live here since a lookup in side tables would cost more than making some of them.

    - ``document_template``: the :class:`engine.documents.user_documents.DocumentTemplate`.
    - ``row``: the part of the user's row that follows from the outcome (``engine.state``).
    - ``plans_written``: the plan sets of the entries have rows in this partition's changelog.
    """

    __slots__ = ("document_template", "plans_written", "row")

    def __init__(self) -> None:
        self.document_template: object = None
        self.plans_written = False
        self.row: tuple[str, list[object], str] | None = None


class Outcome:
    """The entries and problems that follow from an input, shared by all users who have it.

    ``seats_needed``: products that take a seat which the user did not hold. ``seats_to_probe``:
    products of a group that failed for want of another seat; their own availability decides
    between CountViolation and Other (R6). Both are in skuId order. The rest is derived once:

    - ``held``: products with an entry; ``waiting``: products that lack a seat; ``skus``: all.
    - ``mail``: whether a mail plan is enabled (R19). ``mail_wanted``: or asked for.
    - ``states``: what is published, by skuId and path. ``errors``: the kinds of error in it.
    - ``path_count``: number of paths, the direct one included.
    - ``group_stats``: what each path counts in its group's status, for path 1 first.
    """

    __slots__ = (
        "cache", "entries", "errors", "group_stats", "held", "mail", "mail_wanted", "path_count",
        "problems", "seats_needed", "seats_to_probe", "skus", "states", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        entries: tuple[Entry, ...],
        problems: tuple[AssignmentProblem, ...],
        group_licenses: tuple[GroupLicenses | None, ...],
        seats_needed: tuple[str, ...] = (),
        seats_to_probe: tuple[str, ...] = (),
    ) -> None:
        self.entries = entries
        self.problems = problems
        self.seats_needed = seats_needed
        self.seats_to_probe = seats_to_probe
        self.held = frozenset(e.plans.sku for e in entries)
        self.waiting = tuple(sorted({p.sku for p in problems if p.reason.error == COUNT}))
        self.mail = any(e.plans.mail for e in entries)
        self.mail_wanted = (
            self.mail
            or any(
                plans.mail
                for group in group_licenses
                if group is not None
                for plans in group.licenses
            )
            or any(
                e.plans.product.without(e.disabled_plans or ()).mail
                for e in entries
                if not e.path_index and e.plans.product is not None
            )
        )
        self.skus = self.held.union(p.sku for p in problems)
        self.states = self._states()
        self.errors = tuple(sorted({p.reason.error for p in problems if p.state != DISABLED}))
        self.path_count = 1 + max(len(group_licenses), *(s.path_index for s in self.states), 0)
        self.group_stats = self._stats(group_licenses)
        self.cache = OutcomeCache()

    def _states(self) -> tuple[AssignmentState, ...]:
        found = {(p.sku, p.path_index): p for p in self.problems}
        states = [
            AssignmentState(p.sku, p.path_index, p.disabled, p.state, p.reason)
            for p in self.problems
            if p.state == ERROR
        ]
        for e in self.entries:
            p = found.get((e.plans.sku, e.path_index))
            state, reason = (p.state, p.reason) if p else (ACTIVE, NO_ERROR)
            states.append(
                AssignmentState(e.plans.sku, e.path_index, e.plans.disabled, state, reason)
            )
        return tuple(sorted(states, key=lambda s: (s.sku, s.path_index)))

    def _stats(self, group_licenses: tuple[GroupLicenses | None, ...]) -> tuple[GroupStats, ...]:
        """Other counts only where it is the user's only error from the group (contract, 3)."""
        errors: dict[int, set[str]] = {}
        active: dict[int, set[str]] = {}
        for s in self.states:
            if s.reason.error != NONE:
                errors.setdefault(s.path_index, set()).add(s.reason.error)
            elif s.state == ACTIVE:
                active.setdefault(s.path_index, set()).add(s.sku)
        found = []
        for path in range(1, self.path_count):
            kinds: AbstractSet[str] = errors.get(path, NO_ERRORS)
            if len(kinds) > 1:
                kinds = kinds - {OTHER}
            wanted = group_licenses[path - 1] if path <= len(group_licenses) else None
            licensed = (
                wanted is not None
                and not wanted.is_part
                and bool(wanted.skus)
                and path in active
                and active[path].issuperset(wanted.skus)
            )
            found.append((licensed, tuple(sorted(kinds)) if kinds else ()))
        return tuple(found)


NO_ERROR: Final = ErrorReason(NONE, (), "")
EMPTY_OUTCOME: Final = Outcome((), (), ())
