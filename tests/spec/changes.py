"""Changes that are answered directly: of a user's licences (R16) and of a group's (R20)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.spec.facts import COUNT, DEPENDENCY, Entry, EvaluationInput, Product, user_plans
from tests.spec.licensing import check, lacks_seat, lost_requirements

USER_NOT_FOUND = "UserNotFound"
GROUP_DELETED = "GroupDeleted"
INVALID_DISABLED_PLAN = "InvalidDisabledPlan"
INHERITED_LICENSE = "InheritedLicense"
NOT_ASSIGNED = "NotAssigned"
INVALID_USAGE_LOCATION = "InvalidUsageLocation"
NO_CHANGE = "NoChange"

Licenses = Mapping[str, frozenset[str]]  # skuId -> disabled plans


@dataclass(frozen=True)
class Rejection:
    error: str
    sku: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def undefined_products(products: Mapping[str, Product], named: set[str]) -> list[str]:
    """R21: a change that names one of these is deferred."""
    return sorted(named - set(products))


def check_disabled_plans(products: Mapping[str, Product], added: Licenses) -> Rejection | None:
    for sku in sorted(added):
        strange = sorted(added[sku] - set(products[sku]))
        if strange:
            return Rejection(INVALID_DISABLED_PLAN, sku, {"plans": strange})
    return None


def change_direct(
    facts: EvaluationInput,
    added: Licenses,
    removed: frozenset[str],
    *,
    needs_own_location: bool = True,
) -> tuple[Entry, ...] | Rejection:
    """Returns the new entries, or the first rejection (R16); user and products are known."""
    if not added and not removed:
        return Rejection(NO_CHANGE)
    end = direct_end_state(facts, added, removed)
    return (
        check_disabled_plans(facts.products, added)
        or check_removable(facts, removed)
        or (own_location_missing(facts, added) if needs_own_location else None)
        or invalid_addition(facts, added, end)
        or stranded_plan(facts, end)
        or seat_missing(facts, added)
        or end
    )


def direct_end_state(
    facts: EvaluationInput, added: Licenses, removed: frozenset[str]
) -> tuple[Entry, ...]:
    """Returns the entries that the user would have.

    A replaced entry keeps its place; a new one comes last.
    """
    number = 1 + max((e.admission_order for e in facts.entries), default=0)
    end = [e for e in facts.entries if e.path is not None or e.sku not in removed]
    for sku in sorted(added):
        enabled = user_plans(facts.products[sku]) - added[sku]
        old = next((e for e in end if e.sku == sku and e.path is None), None)
        if old is None:
            end.append(Entry(sku, None, enabled, number, added[sku]))
        else:
            new = replace(old, enabled=enabled, disabled_plans=added[sku])
            end[end.index(old)] = new
    return tuple(end)


def check_removable(facts: EvaluationInput, removed: frozenset[str]) -> Rejection | None:
    for sku in sorted(removed):
        paths = [e.path for e in facts.entries if e.sku == sku]
        if None not in paths:
            return Rejection(INHERITED_LICENSE if paths else NOT_ASSIGNED, sku)
    return None


def own_location_missing(facts: EvaluationInput, added: Licenses) -> Rejection | None:
    """Returns the rejection of an addition without a location; a removal needs none."""
    if added and facts.location is None:
        return Rejection(INVALID_USAGE_LOCATION, min(added))
    return None


def invalid_addition(
    facts: EvaluationInput, added: Licenses, end: tuple[Entry, ...]
) -> Rejection | None:
    for sku in sorted(added):
        plans = user_plans(facts.products[sku]) - added[sku]
        for error, details in check(facts, sku, plans, facts.entries, end):
            return Rejection(error, sku, details)
    return None


def stranded_plan(facts: EvaluationInput, end: tuple[Entry, ...]) -> Rejection | None:
    lost = lost_requirements(facts, facts.entries, end)
    if not lost:
        return None
    sku = lost[0][0]
    return Rejection(DEPENDENCY, sku, {"missing": [what for of, what in lost if of == sku]})


def seat_missing(facts: EvaluationInput, added: Licenses) -> Rejection | None:
    for sku in sorted(added):
        if lacks_seat(facts, facts.entries, sku):
            return Rejection(COUNT, sku)
    return None


def change_group(
    products: Mapping[str, Product], present: Licenses, added: Licenses, removed: frozenset[str]
) -> dict[str, frozenset[str]] | Rejection:
    """Returns the group's new licences, or the rejection (R20); the products are defined."""
    if not added and not removed:
        return Rejection(NO_CHANGE)
    rejected = check_disabled_plans(products, added)
    if rejected:
        return rejected
    result = {sku: off for sku, off in present.items() if sku not in removed} | dict(added)
    plans = {sku: user_plans(products[sku]) - off for sku, off in result.items()}
    enabled = frozenset(plan for some in plans.values() for plan in some)
    for sku in sorted(plans):
        missing = [
            [plan, sorted(any_of)]
            for plan in sorted(plans[sku])
            for any_of in products[sku][plan].requires
            if not any_of & enabled
        ]
        if missing:
            return Rejection(DEPENDENCY, sku, {"missing": missing})
    return result
