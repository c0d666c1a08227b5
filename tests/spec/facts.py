"""The facts and the outcome of one evaluation of a user, and the words for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LOCATION = "ProhibitedInUsageLocationViolation"
CONFLICT = "MutuallyExclusiveViolation"
DEPENDENCY = "DependencyViolation"
UNIQUENESS = "UniquenessViolation"
COUNT = "CountViolation"
OTHER = "Other"
R7_ORDER = (LOCATION, CONFLICT, DEPENDENCY, UNIQUENESS, COUNT, OTHER)

LISTED = 5  # conflicts, requirements, and products that details list (rules, Limits)
NO_PLANS: frozenset[str] = frozenset()
Failure = tuple[str, dict[str, object]]  # error, details


@dataclass(frozen=True)
class Plan:
    """One service plan, as its product defines it."""

    for_users: bool = True  # appliesTo User; company plans are never on a user
    exclusive_sets: frozenset[str] = NO_PLANS
    requires: tuple[frozenset[str], ...] = ()
    prohibited: frozenset[str] = NO_PLANS
    mail: bool = False


Product = Mapping[str, Plan]  # servicePlanId -> plan


@dataclass(frozen=True)
class Group:
    licenses: Mapping[str, frozenset[str]]  # skuId -> disabled plans
    deleted: bool = False


@dataclass(frozen=True)
class Entry:
    """One licence through one path: a group, or None for direct.

    Entries admitted together share one `admission_order`. `disabled_plans` is what a direct entry
    asks to be disabled; a group's entry asks its group.
    """

    sku: str
    path: str | None
    enabled: frozenset[str]
    admission_order: int
    disabled_plans: frozenset[str] = NO_PLANS


@dataclass(frozen=True)
class EvaluationInput:
    """All that one evaluation of one user depends on."""

    products: Mapping[str, Product]
    groups: Mapping[str, Group]
    memberships: tuple[str, ...] = ()  # group ids, ordered by since when, then group id
    entries: tuple[Entry, ...] = ()  # in the order of their admission
    location: str | None = None
    tenant_location: str | None = None
    on_group_deletion: str = "convert"
    duplicate: bool = False  # shares a proxy address with an earlier owner (R18)
    denied: frozenset[str] = NO_PLANS  # products of which no seat can be had
    held: frozenset[str] | None = None  # seats held at the beginning; None: those of the entries
    off: frozenset[str] = NO_PLANS  # products that are off (R15)
    most_groups: int = 1_000  # licensed groups of a user (rules, Limits)
    most_assignments: int = 2_000  # (group, product) pairs of a user

    @property
    def effective_location(self) -> str | None:
        return self.location if self.location is not None else self.tenant_location


@dataclass(frozen=True)
class AssignmentState:
    """One published licenseAssignmentState."""

    sku: str
    path: str | None
    state: str  # Active, Disabled, ActiveWithError or Error
    error: str = "None"
    disabled: frozenset[str] = NO_PLANS
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    entries: tuple[Entry, ...]
    states: tuple[AssignmentState, ...]  # sorted by skuId, then path with direct first
    seats_taken: frozenset[str]  # products held now that were not held at the beginning
    seats_freed: frozenset[str]


def listed(name: str, items: Sequence[object]) -> dict[str, object]:
    """Returns details: the first of the items, and how many there are if not all are listed."""
    some: dict[str, object] = {name: [*items[:LISTED]]}
    return some if len(items) <= LISTED else some | {f"{name}Total": len(items)}


# ---- the words of the rules


def user_plans(product: Product) -> frozenset[str]:
    return frozenset(plan for plan, facts in product.items() if facts.for_users)


def held(entries: Iterable[Entry]) -> frozenset[str]:
    """Returns the products that take a seat (R2)."""
    return frozenset(e.sku for e in entries)


def enabled_plans(entries: Iterable[Entry]) -> frozenset[str]:
    """Returns the plans that the user has (R1)."""
    return frozenset(plan for e in entries for plan in e.enabled)


def pairs(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Returns every (skuId, enabled plan) of the user."""
    return sorted({(e.sku, plan) for e in entries for plan in e.enabled})
