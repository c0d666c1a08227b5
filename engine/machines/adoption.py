"""R25: the licences that a snapshot says a user holds become entries, without checks or requests.

A licence is adopted by the first evaluation after the snapshot. If R11 then removes it although
the user is a member of its group, since no licences of that group have come here yet, or if its
product is not defined yet, it is kept as a fact and adopted later: the order in which products,
groups and users are loaded does not lose it.
"""

from __future__ import annotations

from typing import Any

from engine.domain.model import DIRECT, Entry
from engine.rules.outcome import Outcome
from engine.state.configuration import Configuration
from engine.state.tenant_state import User


class Adoption:
    """The entries that an evaluation begins with, adopted ones among them.

    ``paths``: the groups of their path indexes. ``skus``: products whose seats the user has by the
    adoption. ``since``: (skuId, group) -> milliseconds, where the snapshot tells it. ``waiting``:
    licences that wait, for their product or for their group; ``provisional``: adopted ones whose
    group has no licences here yet.
    """

    __slots__ = ("entries", "paths", "provisional", "since", "skus", "waiting")

    def __init__(self, entries: tuple[Entry, ...], paths: tuple[str, ...]) -> None:
        self.entries = entries
        self.paths = paths
        self.skus: frozenset[str] = frozenset()
        self.since: dict[tuple[str, str], int] = {}
        self.waiting: list[Any] = []
        self.provisional: list[Any] = []

    def remaining(self, outcome: Outcome, paths: tuple[str, ...]) -> list[Any]:
        """Returns the licences that are still to be adopted once the outcome is applied."""
        had = {(e.plans.sku, paths[e.path_index - 1]) for e in outcome.entries if e.path_index}
        gone = [held for held in self.provisional if (held[0], held[1]) not in had]
        return [*self.waiting, *gone]


def adopt(configuration: Configuration, user: User, fact: list[Any]) -> Adoption:
    """Returns what the user's adoption gives now.

    ``fact``: as :class:`engine.state.user_row_codecs.OptionalUserFacts` describes it.
    """
    snapshot, licenses = fact
    found = Adoption((), ()) if snapshot else Adoption(user.outcome.entries, user.paths)
    ready = []
    for held in licenses:
        sku, group, *_ = held
        unlicensed = group != DIRECT and group not in user.tenant.groups
        member = group in user.groups
        if sku not in configuration.products:
            if group == DIRECT or member:
                found.waiting.append(held)
        elif snapshot:
            ready.append(held)
            if unlicensed and member:
                found.provisional.append(held)
        elif unlicensed:
            if member:
                found.waiting.append(held)
        elif group == DIRECT or (member and sku in user.tenant.groups[group].licenses):
            ready.append(held)
    _add(found, configuration, ready)
    return found


def _add(found: Adoption, configuration: Configuration, licenses: list[Any]) -> None:
    if not licenses:
        return
    paths, entries = list(found.paths), list(found.entries)
    have = {(e.plans.sku, e.path_index) for e in entries}
    first = 1 + max((e.admission_order for e in entries), default=-1)
    ranks = {place: n for n, place in enumerate(sorted({_place(held) for held in licenses}))}
    added = set()
    for held in licenses:
        sku, group, disabled, since = held
        if group != DIRECT and group not in paths:
            paths.append(group)
        path_index = 0 if group == DIRECT else paths.index(group) + 1
        if (sku, path_index) in have:
            continue
        have.add((sku, path_index))
        added.add(sku)
        plans = configuration.products[sku].without(disabled)
        wanted = tuple(disabled) if group == DIRECT else None
        entries.append(Entry(path_index, first + ranks[_place(held)], plans, wanted))
        if since is not None:
            found.since[sku, group] = since
    entries.sort(key=lambda e: (e.admission_order, e.plans.sku, e.path_index))
    found.entries, found.paths, found.skus = tuple(entries), tuple(paths), frozenset(added)


def _place(held: Any) -> tuple[bool, int]:
    """The order of admission is that of the moments; unknown ones are the latest."""
    since = held[3]
    return since is None, since or 0
