"""The limit on the licences of groups with which one user is evaluated (rules, *Limits*)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.domain.model import Entry, GroupLicenses
from engine.state.configuration import Configuration


def limit_groups(
    configuration: Configuration,
    groups: list[GroupLicenses],
    paths: list[str],
    entries: Sequence[Entry],
    entry_paths: tuple[str, ...],
) -> int:
    """Takes from ``groups`` and ``paths`` what exceeds the limits; returns how many licences.

    What the user has through a group stays (R5). The rest fits or does not, group by group in the
    order of R8.
    """
    limits = configuration.limits
    had: dict[str, set[str]] = {}
    for e in entries:
        if e.path_index:
            had.setdefault(entry_paths[e.path_index - 1], set()).add(e.plans.sku)
    kept = [len(had.get(path, set()).intersection(group.skus))
            for path, group in zip(paths, groups, strict=True)]  # fmt: skip
    room = limits.assignments - sum(kept)
    free_groups = limits.licensed_groups - sum(1 for n in kept if n)
    left_out = 0
    found: list[tuple[GroupLicenses, str]] = []
    for group, path, present in zip(groups, paths, kept, strict=True):
        extra = len(group.skus) - present
        if extra <= room and (present or free_groups > 0):
            room -= extra
            free_groups -= 0 if present else 1
            found.append((group, path))
            continue
        left_out += extra
        if present:
            sets = tuple([plans for plans in group.licenses if plans.sku in had[path]])
            found.append((configuration.license_set(sets, is_part=True), path))
    groups[:] = [group for group, _ in found]
    paths[:] = [path for _, path in found]
    return left_out
