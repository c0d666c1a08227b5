"""R16: one direct licence change, checked on its end state, all or nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from engine.domain import messages
from engine.domain.limits import LISTED
from engine.domain.messages import Products, Rejection
from engine.domain.model import Entry, PlanSet
from engine.domain.vocabulary import COUNT, DEPENDENCY
from engine.rules.checks import (
    EligibilityChecks,
    enabled_plans,
    listed,
    missing_requirements,
)
from engine.rules.enabled_plans import EnabledPlans
from engine.rules.outcome import EvaluationInput

NO_CHANGE: Final = Rejection("NoChange", None, (), "The change adds nothing and removes nothing.")


class DirectChange(NamedTuple):
    """R16: products to add, each once with its disabled plans, and products to remove."""

    add: tuple[tuple[str, tuple[str, ...]], ...]
    remove: tuple[str, ...]


def change_direct(
    products: Products, facts: EvaluationInput, own_location: str | None, change: DirectChange
) -> tuple[tuple[Entry, ...], tuple[str, ...]] | Rejection:
    """Applies R16 to a known user, for defined products.

    Returns the new entries and the products that need a seat, or the rejection. The groups of
    ``facts`` are not considered: only the end state of the direct change is checked.
    """
    return (
        check_disabled_plans(products, change.add)
        or _check_removable(products, facts.entries, change)
        or _apply(products, facts, own_location, change)
    )


def replace_all(
    present: Mapping[str, Collection[str]], listed: tuple[tuple[str, tuple[str, ...]], ...]
) -> DirectChange:
    """Returns the change that leaves the listed licences of a user or a group, and no others (R28).

    ``present``: skuId to disabled plans. What is listed as it is present is not changed.
    """
    added = {
        sku: disabled
        for sku, disabled in listed
        if sku not in present or set(present[sku]) != set(disabled)
    }
    removed = present.keys() - dict(listed).keys()
    return DirectChange(tuple(added.items()), tuple(sorted(removed)))


def check_disabled_plans(
    products: Products, add: tuple[tuple[str, tuple[str, ...]], ...]
) -> Rejection | None:
    """InvalidDisabledPlan of R16 and R20: each disabled plan is a plan of its product."""
    for sku, disabled in sorted(add):
        for plan in disabled:
            if plan not in products[sku].plans:
                message = f"{plan} is not a plan of {products[sku].part_number}."
                return Rejection("InvalidDisabledPlan", sku, (("plan", plan),), message)
    return None


def check_group_prerequisites(
    products: Products, licenses: dict[str, list[str]], limit: int = LISTED
) -> Rejection | None:
    """R20: the licences of a group (skuId to disabled plans) meet what their plans require.

    ``limit``: how many requirements a rejection lists.
    """
    sets = [products[sku].without(disabled) for sku, disabled in sorted(licenses.items())]
    enabled = enabled_plans(sets)
    for plans in sets:
        missing = missing_requirements(plans, plans.enabled, enabled)
        if missing:
            first, total = missing[:limit], len(missing)
            message = messages.missing(products, plans.sku, first, total)
            message += " Add it to the same group."
            return Rejection(DEPENDENCY, plans.sku, listed("missing", first, total), message)
    return None


def _check_removable(
    products: Products, entries: tuple[Entry, ...], change: DirectChange
) -> Rejection | None:
    direct = {e.plans.sku for e in entries if e.path_index == 0}
    held = {e.plans.sku for e in entries}
    for sku in sorted(set(change.remove) - direct):
        name = messages.product_name(products, sku)
        if sku in held:
            message = f"The user has {name} through groups only: remove the user from them."
            return Rejection("InheritedLicense", sku, (), message)
        return Rejection("NotAssigned", sku, (), f"The user has no licence of {name}.")
    return None


def _apply(
    products: Products, facts: EvaluationInput, own_location: str | None, change: DirectChange
) -> tuple[tuple[Entry, ...], tuple[str, ...]] | Rejection:
    checks = EligibilityChecks(products, facts)
    if change.add and own_location is None:
        message = "A direct licence needs a usage location of the user's own."
        return Rejection("InvalidUsageLocation", min(change.add)[0], (), message)
    added = {sku: products[sku].without(disabled) for sku, disabled in change.add}
    disabled_plans = dict(change.add)
    entries = [
        e
        for e in facts.entries
        if e.path_index or (e.plans.sku not in change.remove) or e.plans.sku in added
    ]
    entries = [
        e._replace(plans=added[e.plans.sku], disabled_plans=disabled_plans[e.plans.sku])
        if e.path_index == 0 and e.plans.sku in added
        else e
        for e in entries
    ]
    present = {e.plans.sku for e in entries if e.path_index == 0}
    admission = 1 + max((e.admission_order for e in entries), default=-1)
    entries += [
        Entry(0, admission, added[sku], disabled_plans[sku])
        for sku in sorted(added)
        if sku not in present
    ]
    return _check_end_state(checks, entries, added, change)


def _check_end_state(
    checks: EligibilityChecks,
    entries: list[Entry],
    added: dict[str, PlanSet],
    change: DirectChange,
) -> tuple[tuple[Entry, ...], tuple[str, ...]] | Rejection:
    """Checks the ``entries`` that the change would leave; ``checks`` has those before it."""
    had, before = frozenset(checks.plans.enabled), checks.plans_before()
    checks.plans = EnabledPlans([e.plans for e in entries])
    end = checks.plans.enabled
    for sku in sorted(added):
        reason = checks.check(added[sku], added[sku].enabled, before)
        if reason:
            return Rejection(reason.error, sku, reason.details, reason.message)
    first = min((*change.remove, *added))
    # The difference with a view of keys is a set, which compiled code refuses as a frozenset.
    reason = checks.lost_requirements(first, had.difference(end), end - had)
    if reason:
        return Rejection(reason.error, first, reason.details, reason.message)
    held = checks.facts.held
    seats_needed = tuple(sku for sku in sorted(added) if sku not in held)
    for sku in seats_needed:
        if sku in checks.facts.denied:
            return Rejection(COUNT, sku, (), messages.count(checks.products, sku))
    return tuple(entries), seats_needed
