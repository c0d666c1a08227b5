"""R25: licences that a snapshot says are held become entries: no checks, no requests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tests.spec.facts import Entry, Group, Product, user_plans


@dataclass(frozen=True)
class Adopted:
    """One licence held, as a snapshot lists it; `since` in milliseconds, None if it is not told."""

    sku: str
    path: str | None
    disabled: frozenset[str]
    since: int | None


def adopt(
    entries: tuple[Entry, ...], licenses: Iterable[Adopted], products: Mapping[str, Product]
) -> tuple[Entry, ...]:
    """Returns the entries with the licences added, in the order of their moments."""
    moments: dict[float, list[Adopted]] = {}
    for one in licenses:
        moments.setdefault(float("inf") if one.since is None else one.since, []).append(one)
    for moment in sorted(moments):
        number = 1 + max((e.admission_order for e in entries), default=0)
        have = {(e.sku, e.path) for e in entries}
        for one in moments[moment]:
            if (one.sku, one.path) not in have:
                plans = user_plans(products[one.sku]) - one.disabled
                off = one.disabled if one.path is None else frozenset()
                entries = (*entries, Entry(one.sku, one.path, plans, number, off))
    return entries


def ready(
    one: Adopted,
    products: Collection[str],
    groups: Mapping[str, Group],
    licensed: Collection[str],
    memberships: Collection[str],
) -> bool | None:
    """Says of a licence that was not adopted with the snapshot if it is now; None: never.

    `licensed`: groups of which a licence change or the deletion has been applied.
    """
    if one.path is not None and one.path not in memberships:
        return None
    if one.sku not in products or (one.path is not None and one.path not in licensed):
        return False
    if one.path is not None and one.sku not in groups[one.path].licenses:
        return None
    return True
