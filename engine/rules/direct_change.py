"""R16: one direct licence change, checked on its end state, all or nothing."""

from __future__ import annotations

from typing import NamedTuple

from engine.domain import messages
from engine.domain.messages import COUNT, Details, Products
from engine.domain.model import Entry, PlanSet
from engine.rules.checks import Shelf
from engine.rules.outcome import Situation


class Rejection(NamedTuple):
    """A direct change or a group's licence change that cannot be made, and why."""

    error: str
    sku: str | None
    details: Details
    message: str


class DirectChange(NamedTuple):
    """R16: products to add with their disabled plans, one each, and products to remove."""

    add: tuple[tuple[str, tuple[str, ...]], ...]
    remove: tuple[str, ...]


def change_direct(
    products: Products, facts: Situation, own_location: str | None, change: DirectChange
) -> tuple[tuple[Entry, ...], tuple[str, ...]] | Rejection:
    """R16 for a known user and defined products: the new entries and the seats that they need.

    ``facts.asked`` is not used: the end state of the direct change alone is checked.
    """
    return (
        disabled_plans_exist(products, change.add)
        or _removable(products, facts.entries, change)
        or _end_state(products, facts, own_location, change)
    )


def disabled_plans_exist(
    products: Products, add: tuple[tuple[str, tuple[str, ...]], ...]
) -> Rejection | None:
    """InvalidDisabledPlan of R16 and R20."""
    for sku, disabled in sorted(add):
        for plan in disabled:
            if plan not in products[sku].plans:
                message = f"{plan} is not a plan of {products[sku].part_number}."
                return Rejection("InvalidDisabledPlan", sku, (("plan", plan),), message)
    return None


def _removable(
    products: Products, entries: tuple[Entry, ...], change: DirectChange
) -> Rejection | None:
    direct = {e.plans.sku for e in entries if e.slot == 0}
    held = {e.plans.sku for e in entries}
    for sku in sorted(set(change.remove) - direct):
        name = messages.product_name(products, sku)
        if sku in held:
            message = f"The user has {name} through groups only: remove the user from them."
            return Rejection("InheritedLicense", sku, (), message)
        return Rejection("NotAssigned", sku, (), f"The user has no licence of {name}.")
    return None


def _end_state(
    products: Products, facts: Situation, own_location: str | None, change: DirectChange
) -> tuple[tuple[Entry, ...], tuple[str, ...]] | Rejection:
    shelf = Shelf(products, facts)
    if change.add and own_location is None:
        message = "A direct licence needs a usage location of the user's own."
        return Rejection("InvalidUsageLocation", min(change.add)[0], (), message)
    before = shelf.enabled()
    added = {sku: products[sku].without(off) for sku, off in change.add}
    wishes = dict(change.add)
    entries = [
        e
        for e in facts.entries
        if e.slot or (e.plans.sku not in change.remove) or e.plans.sku in added
    ]
    entries = [
        e._replace(plans=added[e.plans.sku], off=wishes[e.plans.sku])
        if e.slot == 0 and e.plans.sku in added
        else e
        for e in entries
    ]
    present = {e.plans.sku for e in entries if e.slot == 0}
    turn = 1 + max((e.turn for e in entries), default=-1)
    entries += [
        Entry(0, turn, added[sku], wishes[sku]) for sku in sorted(added) if sku not in present
    ]
    shelf.entries = entries
    return _checked(shelf, before, added, change)


def _checked(
    shelf: Shelf, before: set[str], added: dict[str, PlanSet], change: DirectChange
) -> tuple[tuple[Entry, ...], tuple[str, ...]] | Rejection:
    end = shelf.enabled()
    sets = [e.plans for e in shelf.entries]
    for sku in sorted(added):
        reason = shelf.check(added[sku], added[sku].enabled, end, sets)
        if reason:
            return Rejection(reason.error, sku, reason.details, reason.message)
    named = min((*change.remove, *added))
    reason = shelf.lost(named, before, end, sets)
    if reason:
        return Rejection(reason.error, named, reason.details, reason.message)
    held = shelf.facts.held
    need = tuple(sku for sku in sorted(added) if sku not in held)
    for sku in need:
        if sku in shelf.facts.denied:
            return Rejection(COUNT, sku, (), messages.count(shelf.products, sku))
    return tuple(shelf.entries), need
