"""R27: changes of rules, applied to the users of a tenant one after the other.

A change reaches a partition with the group's configuration. It becomes the group's rule there, and
a fan-out applies it to all users of the tenant. The next change waits until that has ended, so that
what the members are never depends on how far a fan-out was when a rule was paused or taken away.
"""

from __future__ import annotations

from typing import Any, Final

from engine.domain.effects import Effects
from engine.domain.model import Group
from engine.membership_rules.rule_set import MembershipRule
from engine.state.configuration import Configuration
from engine.state.row_codecs import (
    GROUPS,
    MEMBERSHIP_RULE,
    GroupRow,
    encode_group,
    encode_membership_rules,
)
from engine.state.tenant_state import TenantState

MAX_PENDING_RULES: Final = 100
"""Changes of one group's rule that wait; beyond it the newest replaces the one before it."""


def receive_group(
    configuration: Configuration, effects: Effects, tenant: TenantState, id: str, row: GroupRow
) -> bool:
    """Takes a group's configuration and writes its row; True if all users are to be visited."""
    known = tenant.groups.get(id)
    rule = known.rule if known is not None else None
    pending = known.pending_rules if known is not None else ()
    wanted = (row.optional_facts or {}).get(MEMBERSHIP_RULE)
    last = rule.row() if rule is not None else None
    if pending:
        last = pending[-1]
    begins = False
    if wanted != last:
        rules = tenant.ensure_rules()
        if id in rules.walking:
            pending = (*pending[: MAX_PENDING_RULES - 1], wanted)
        else:
            rule = _rule(wanted)
            rules.put(id, rule)
            rules.walking.add(id)
            begins = True
    licenses = {sku: tuple(off) for sku, off in row.licenses.items()}
    tenant.groups[id] = configuration.group(row.version, licenses, row.deleted, rule, pending)
    _write_row(effects, tenant, id)
    return begins


def begin_next_rule(
    configuration: Configuration, effects: Effects, tenant: TenantState, id: str
) -> bool:
    """Ends a fan-out of the group's rule; True if the next change is to be applied by another."""
    rules = tenant.ensure_rules()
    group = tenant.groups.get(id)
    if group is None or not group.pending_rules:
        rules.walking.discard(id)
        return False
    rule = _rule(group.pending_rules[0])
    rules.put(id, rule)
    tenant.groups[id] = configuration.group(
        group.version, group.licenses, group.deleted, rule, group.pending_rules[1:]
    )
    _write_row(effects, tenant, id)
    return True


def _rule(row: list[Any] | None) -> MembershipRule | None:
    return None if row is None else MembershipRule(*row)


def _write_row(effects: Effects, tenant: TenantState, id: str) -> None:
    group: Group = tenant.groups[id]
    facts = encode_membership_rules(group.rule, group.pending_rules)
    row = encode_group(group.version, group.licenses, group.deleted, facts)
    effects.rows[GROUPS, f"{tenant.id}/{id}"] = row
