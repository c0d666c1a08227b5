"""The limit on the licences of groups with which one user is evaluated (rules, *Limits*)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.domain.model import Entry, GroupLicenses
from engine.rules.outcome import Outcome
from engine.state.configuration import Configuration
from engine.state.tenant_state import User


def exceeds_limits(configuration: Configuration, user: User) -> bool:
    """Returns True if the groups of a user ask for more than a user may have."""
    limits, groups = configuration.limits, user.tenant.groups
    licensed = licenses = 0
    for id in user.groups:
        group = groups.get(id)
        if group is not None and group.license_set is not None:
            licensed += 1
            licenses += len(group.license_set.skus)
    return licensed > limits.licensed_groups or licenses > limits.assignments


def restored_parts(
    configuration: Configuration,
    asked: tuple[GroupLicenses | None, ...],
    outcome: Outcome,
) -> tuple[GroupLicenses | None, ...]:
    """Returns the licences of groups with which a restored user was evaluated.

    ``asked``: all licences of the user's paths. What was left out has no state in the outcome.
    """
    shown: dict[int, set[str]] = {}
    for state in outcome.states:
        shown.setdefault(state.path_index, set()).add(state.sku)
    parts: list[GroupLicenses | None] = []
    for index, group in enumerate(asked, 1):
        known = shown.get(index, set())
        if group is not None and not known.issuperset(group.skus):
            sets = tuple([plans for plans in group.licenses if plans.sku in known])
            group = configuration.license_set(sets, is_part=True)
        parts.append(group)
    return tuple(parts)


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
