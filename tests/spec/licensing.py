"""The licences and errors of one user: R1-R3, R5-R8, R11-R14, R16, R20 as pure functions.

`evaluate` moves the user's entries to a fixpoint and then describes it. Every error is computed
from that fixpoint, because the last attempt of each group saw exactly these entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.spec.facts import (
    CONFLICT,
    COUNT,
    DEPENDENCY,
    LOCATION,
    OTHER,
    R7_ORDER,
    UNIQUENESS,
    AssignmentState,
    Entry,
    EvaluationInput,
    Failure,
    Outcome,
    enabled_plans,
    held,
    listed,
    pairs,
    user_plans,
)


def licenses_of(facts: EvaluationInput, group: str) -> Mapping[str, frozenset[str]]:
    known = facts.groups.get(group)
    return {} if known is None or known.deleted else known.licenses


def asked_for(facts: EvaluationInput, entry: Entry) -> bool:
    """Returns True if the entry is still requested; a direct entry always is."""
    if entry.path is None:
        return True
    return entry.path in facts.memberships and entry.sku in licenses_of(facts, entry.path)


def lost_requirements(
    facts: EvaluationInput, before: tuple[Entry, ...], after: tuple[Entry, ...]
) -> list[tuple[str, list[object]]]:
    """Returns the plans that stay enabled and lose a requirement, as (skuId, [plan, [any of]])."""
    had, have = enabled_plans(before), enabled_plans(after)
    stay = set(pairs(before)) & set(pairs(after))
    return [
        (sku, [plan, sorted(any_of)])
        for sku, plan in sorted(stay)
        for any_of in facts.products[sku][plan].requires
        if any_of & had and not any_of & have
    ]


# ---- R7, checks 1 to 4


def check_location(facts: EvaluationInput, sku: str, plans: frozenset[str]) -> list[Failure]:
    where = facts.effective_location
    prohibited = any(where in facts.products[sku][plan].prohibited for plan in plans)
    return [(LOCATION, {"location": where})] if where is None or prohibited else []


def check_conflict(
    facts: EvaluationInput, sku: str, plans: frozenset[str], end: tuple[Entry, ...]
) -> list[Failure]:
    conflicts = [
        [plan, other_plan, other_sku]
        for plan in sorted(plans)
        for other_sku, other_plan in pairs(end)
        if other_sku != sku and other_plan != plan
        if facts.products[sku][plan].exclusive_sets
        & facts.products[other_sku][other_plan].exclusive_sets
    ]
    return [(CONFLICT, listed("conflicts", sorted(conflicts)))] if conflicts else []


def check_dependency(
    facts: EvaluationInput, sku: str, plans: frozenset[str], end: tuple[Entry, ...]
) -> list[Failure]:
    missing = [
        [plan, sorted(any_of)]
        for plan in sorted(plans)
        for any_of in facts.products[sku][plan].requires
        if not any_of & enabled_plans(end)
    ]
    return [(DEPENDENCY, listed("missing", missing))] if missing else []


def check_uniqueness(
    facts: EvaluationInput, sku: str, plans: frozenset[str], before: tuple[Entry, ...]
) -> list[Failure]:
    new_mail = [p for p in plans - enabled_plans(before) if facts.products[sku][p].mail]
    return [(UNIQUENESS, {})] if facts.duplicate and new_mail else []


def check(
    facts: EvaluationInput,
    sku: str,
    plans: frozenset[str],
    before: tuple[Entry, ...],
    end: tuple[Entry, ...],
) -> list[Failure]:
    """Returns the failures of these plans of the product in the end state, in R7's order."""
    return [
        *check_location(facts, sku, plans),
        *check_conflict(facts, sku, plans, end),
        *check_dependency(facts, sku, plans, end),
        *check_uniqueness(facts, sku, plans, before),
    ]


# ---- R11, R13: removal


def held_by_dependency(
    facts: EvaluationInput, entries: tuple[Entry, ...], entry: Entry
) -> list[tuple[str, list[object]]]:
    return lost_requirements(facts, entries, tuple(e for e in entries if e != entry))


def held_by_uniqueness(facts: EvaluationInput, entries: tuple[Entry, ...], entry: Entry) -> bool:
    others = enabled_plans(e for e in entries if e != entry)
    ends = [p for p in entry.enabled - others if facts.products[entry.sku][p].mail]
    return facts.duplicate and bool(ends)


def remove(facts: EvaluationInput, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Removes entries that nothing requests (R11), the latest admitted first, then by skuId."""
    while True:
        before = entries
        candidates = [e for e in entries if not asked_for(facts, e)]
        for entry in sorted(candidates, key=lambda e: (-e.admission_order, e.sku, e.path or "")):
            kept = held_by_dependency(facts, entries, entry)
            if not kept and not held_by_uniqueness(facts, entries, entry):
                entries = tuple(e for e in entries if e != entry)
        if entries == before:
            return entries


def convert(facts: EvaluationInput, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Makes the entries of a deleted group direct if a dependency holds them (R13)."""
    if facts.on_group_deletion != "convert":
        return entries
    for entry in entries:
        group = facts.groups.get(entry.path) if entry.path is not None else None
        if group is None or not group.deleted or asked_for(facts, entry):
            continue
        if held_by_dependency(facts, entries, entry):
            entries = make_direct(facts, entries, entry)
    return entries


def make_direct(
    facts: EvaluationInput, entries: tuple[Entry, ...], entry: Entry
) -> tuple[Entry, ...]:
    direct = next((e for e in entries if e.sku == entry.sku and e.path is None), None)
    if direct is None:
        off = user_plans(facts.products[entry.sku]) - entry.enabled
        new = replace(entry, path=None, disabled_plans=off)
        return tuple(new if e == entry else e for e in entries)
    enabled = direct.enabled | entry.enabled
    new = replace(direct, enabled=enabled, disabled_plans=direct.disabled_plans - enabled)
    return tuple(new if e == direct else e for e in entries if e != entry)


# ---- R12: changed plans


def requested_plans(facts: EvaluationInput, entry: Entry) -> frozenset[str]:
    off = entry.disabled_plans if entry.path is None else licenses_of(facts, entry.path)[entry.sku]
    return user_plans(facts.products[entry.sku]) - off


def check_change(facts: EvaluationInput, entries: tuple[Entry, ...], entry: Entry) -> list[Failure]:
    """Returns the failures that deny the entry the plans that its path requests, in R7's order."""
    requested = requested_plans(facts, entry)
    new = requested - entry.enabled
    end = tuple(replace(e, enabled=requested) if e == entry else e for e in entries)
    failures = check(facts, entry.sku, new, entries, end) if new else []
    lost = [what for _, what in lost_requirements(facts, entries, end)]
    if lost:
        failures.append((DEPENDENCY, listed("missing", lost)))
    return in_r7_order(failures)


def change_plans(facts: EvaluationInput, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    while True:
        before = entries
        for entry in before:
            if asked_for(facts, entry) and not check_change(facts, entries, entry):
                new = replace(entry, enabled=requested_plans(facts, entry))
                entries = tuple(new if e == entry else e for e in entries)
        if entries == before:
            return entries


# ---- R6, R8: admission


def attempt(
    facts: EvaluationInput, entries: tuple[Entry, ...], group: str
) -> tuple[tuple[Entry, ...], dict[str, Failure]]:
    """Returns the entries with all missing products of the group, and the failures, if any."""
    licenses = licenses_of(facts, group)
    missing = sorted(set(licenses) - {e.sku for e in entries if e.path == group})
    number = 1 + max((e.admission_order for e in entries), default=0)
    wanted = {sku: user_plans(facts.products[sku]) - licenses[sku] for sku in missing}
    end = entries + tuple(Entry(sku, group, wanted[sku], number) for sku in missing)
    errors: dict[str, Failure] = {}
    for sku in missing:
        failures = check(facts, sku, wanted[sku], entries, end)
        if failures:
            errors[sku] = failures[0]
    if not errors:
        errors = {sku: (COUNT, {}) for sku in missing if lacks_seat(facts, entries, sku)}
    if errors:
        blocked: Failure = (OTHER, listed("blockedBy", [*sorted(errors)]))
        errors = {sku: errors.get(sku, blocked) for sku in missing}
    return end, errors


def lacks_seat(facts: EvaluationInput, entries: tuple[Entry, ...], sku: str) -> bool:
    at_first = held(facts.entries) if facts.held is None else facts.held
    return sku in facts.denied and sku not in held(entries) and sku not in at_first


def admit(facts: EvaluationInput, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Admits the groups in order, pass after pass, until none admits anything more (R8)."""
    while True:
        before = entries
        for group in facts.memberships:
            end, errors = attempt(facts, entries, group)
            if not errors:
                entries = end
        if entries == before:
            return entries


# ---- the whole


def within_limits(facts: EvaluationInput) -> EvaluationInput:
    """Leaves out what exceeds the limits, in the order of R8; what the user has stays."""
    licensed = [g for g in facts.memberships if licenses_of(facts, g)]
    had = {
        g: {e.sku for e in facts.entries if e.path == g} & set(licenses_of(facts, g))
        for g in licensed
    }
    pairs_left = facts.most_assignments - sum(len(skus) for skus in had.values())
    groups_left = facts.most_groups - sum(1 for skus in had.values() if skus)
    groups, memberships = dict(facts.groups), []
    for g in licensed:
        missing = len(licenses_of(facts, g)) - len(had[g])
        if missing <= pairs_left and (had[g] or groups_left > 0):
            pairs_left -= missing
            groups_left -= 0 if had[g] else 1
        elif had[g]:
            kept = {sku: off for sku, off in licenses_of(facts, g).items() if sku in had[g]}
            groups[g] = replace(groups[g], licenses=kept)
        else:
            continue
        memberships.append(g)
    return replace(facts, groups=groups, memberships=tuple(memberships))


def evaluate(facts: EvaluationInput) -> Outcome:
    facts = within_limits(facts)
    entries = tuple(
        replace(e, enabled=e.enabled & user_plans(facts.products[e.sku])) for e in facts.entries
    )
    while True:
        before = entries
        entries = convert(facts, remove(facts, entries))
        entries = change_plans(facts, entries)
        entries = admit(facts, entries)
        if entries == before:
            break
    at_first = held(facts.entries) if facts.held is None else facts.held
    return Outcome(
        entries, describe(facts, entries), held(entries) - at_first, at_first - held(entries)
    )


def describe(facts: EvaluationInput, entries: tuple[Entry, ...]) -> tuple[AssignmentState, ...]:
    """Section 7 of the rules: the states published for these entries."""
    states = [entry_state(facts, entries, e) for e in entries]
    for group in facts.memberships:
        _, errors = attempt(facts, entries, group)
        for sku, (error, details) in errors.items():
            off = licenses_of(facts, group)[sku] & user_plans(facts.products[sku])
            states.append(AssignmentState(sku, group, "Error", error, off, details))
    return tuple(sorted(states, key=lambda s: (s.sku, s.path is not None, s.path or "")))


def entry_state(
    facts: EvaluationInput, entries: tuple[Entry, ...], entry: Entry
) -> AssignmentState:
    off = user_plans(facts.products[entry.sku]) - entry.enabled
    if asked_for(facts, entry):
        failures = in_r7_order(
            check_change(facts, entries, entry) + check_drift(facts, entries, entry)
        )
    else:
        lost = [what for _, what in held_by_dependency(facts, entries, entry)]
        failures = [(DEPENDENCY, listed("missing", lost))] if lost else [(UNIQUENESS, {})]
    if not failures:
        state = "Disabled" if entry.sku in facts.off else "Active"
        return AssignmentState(entry.sku, entry.path, state, "None", off)
    error, details = failures[0]
    return AssignmentState(entry.sku, entry.path, "ActiveWithError", error, off, details)


def check_drift(facts: EvaluationInput, entries: tuple[Entry, ...], entry: Entry) -> list[Failure]:
    """R14: a plan became prohibited where the user is, or lost what it requires."""
    where = facts.effective_location
    failures = check_dependency(facts, entry.sku, entry.enabled, entries)
    if any(where in facts.products[entry.sku][plan].prohibited for plan in entry.enabled):
        failures.append((LOCATION, {"location": where}))
    return failures


def in_r7_order(failures: list[Failure]) -> list[Failure]:
    return sorted(failures, key=lambda f: R7_ORDER.index(f[0]))
