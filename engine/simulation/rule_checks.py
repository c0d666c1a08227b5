"""The checks of a settled simulation that are about membership rules (R27)."""

from __future__ import annotations

from collections.abc import Mapping

from engine.machines.rule_members import kept_memberships, property_value
from engine.membership_rules.compiler import compile_rule, properties_of
from engine.membership_rules.parser import parse_rule
from engine.partition_machine import PartitionMachine
from engine.simulation.invariants import require
from engine.state.tenant_state import User


def verify_rules(machines: list[PartitionMachine], users: Mapping[str, User]) -> None:
    """Every partition has the group's rule, and the members are those whom it matches.

    Raises:
        Violation: if they are not.
    """
    rules: dict[tuple[str, str], list[object] | None] = {}
    for owner in machines:
        for state in owner.groups.groups.values():
            rules[state.tenant, state.group] = state.rule
            for machine in machines if state.version else ():
                group = machine.configuration.tenant(state.tenant).groups.get(state.group)
                here = group.rule.row() if group is not None and group.rule is not None else None
                waiting = group.pending_rules if group is not None else ()
                same = here == state.rule and not waiting
                require(same, "R27 same rule", state.key, here, waiting, state.rule)
    for key, user in users.items():
        _members(key, user, rules)


def _members(key: str, user: User, rules: Mapping[tuple[str, str], list[object] | None]) -> None:
    made = set(user.rule_groups)
    require(made <= set(user.groups), "R27 members", key, made, user.groups)
    require(user.known or not made, "R27 known users only", key, made)
    ruled = {group for (tenant, group), rule in rules.items() if tenant == user.tenant.id and rule}
    require(made == ruled & set(user.groups), "R27 events do not count", key, made, user.groups)
    kept = set(kept_memberships(user))
    require(kept <= ruled, "R27 kept memberships", key, kept, ruled)
    for group in ruled if user.known else ():
        rule = rules[user.tenant.id, group]
        assert rule is not None
        text, paused = rule[:2]
        if paused:
            continue
        tree = parse_rule(str(text))
        keys = sorted(properties_of(tree))
        matches = compile_rule(tree, keys)([property_value(user, name) for name in keys])
        require(matches == (group in made), "R27 matches", key, group, text, user.attributes)
