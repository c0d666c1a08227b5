"""R27: the memberships that rules make, of the users of one partition.

A user's rules are evaluated with the event that changes what they depend on, so the memberships
follow in the same evaluation. A change of a rule is applied to each user of the tenant by a fan-out
(:mod:`engine.machines.rule_walks`); an event of a user who is not reached yet applies it first.

Memberships by events of a group with a rule are kept aside, in the user's optional facts, and do
not count until the rule goes.
"""

from __future__ import annotations

from typing import Any, Final

from engine.domain.events import ABSENT, AttributePatch, UserUpserted
from engine.domain.messages import Rejection
from engine.machines.attribute_limits import exceeds_limit
from engine.machines.outcome_applier import OutcomeApplier
from engine.membership_rules import properties
from engine.membership_rules.attributes import as_dict, value_of
from engine.membership_rules.compiler import Value
from engine.membership_rules.rule_set import RuleClass
from engine.state.configuration import Configuration
from engine.state.tenant_state import User, order_key
from engine.state.user_row_codecs import OptionalUserFacts

KEPT: Final = OptionalUserFacts.KEPT_MEMBERSHIPS
NO_MEMBERSHIPS: Final[dict[str, str]] = {}


def property_value(user: User, key: str) -> Value:
    """Returns the value of a property: a fact of the user's own, or an attribute."""
    value: Value = None
    if key == properties.OBJECT_ID:
        return user.id
    if key == properties.USER_PRINCIPAL_NAME:
        value = user.upn
    elif key == properties.USAGE_LOCATION:
        value = user.location
    elif key == properties.MAIL:
        value = user.mail
    elif key == properties.MAIL_NICKNAME:
        value = user.mail_nickname
    elif key == properties.PROXY_ADDRESSES:
        value = user.addresses or None
    return value_of(user.attributes, key) if value is None else value


def kept_memberships(user: User) -> dict[str, str]:
    """Returns the memberships by events that do not count: order keys as text, by group."""
    facts = user.optional_facts
    kept: dict[str, str] = NO_MEMBERSHIPS
    if facts is not None:
        kept = facts.get(KEPT, NO_MEMBERSHIPS)
    return kept


class RuleMembers:
    """Evaluates the rules of users, and makes the memberships theirs."""

    def __init__(self, configuration: Configuration, applier: OutcomeApplier) -> None:
        self.configuration = configuration
        self.applier = applier

    # -- attributes
    def patch(self, user: User, event: UserUpserted, given: Any) -> tuple[list[str], Any]:
        """Patches the attributes; returns the properties that changed, and a rejection or None.

        ``given``: the facts of :func:`engine.state.user_mail.given_facts` before the event.
        """
        changed: list[str] = []
        rejection: Rejection | None = None
        patch = event.attributes
        if patch is None:
            changed.extend(as_dict(user.attributes))
            user.attributes = ()
        elif patch is not ABSENT:
            found, names = self.configuration.attributes.patch(
                user.attributes,
                patch,  # type: ignore[arg-type]
            )
            rejection = exceeds_limit(self.configuration.limits, found[1:])
            if rejection is None:
                user.attributes = found
                changed.extend(names)
        now = (user.upn, user.location, user.mail, user.mail_nickname, user.addresses)
        location, upn, mail, addresses, nickname = given
        before = (upn, location, mail, nickname, addresses)
        for key, old, new in zip(properties.GIVEN, before, now, strict=True):
            if old != new:
                changed.append(key)
        return changed, rejection

    def replace(self, user: User, attributes: AttributePatch) -> None:
        """Replaces the attributes by those of a snapshot (R25)."""
        user.attributes = self.configuration.attributes.of(
            {name: value for name, value in attributes if value is not None}
        )

    # -- memberships that follow from attributes
    def update(self, user: User, changed: list[str], timestamp_ms: int, offset: int) -> bool:
        """Evaluates the rules that depend on the properties; True if a membership changed."""
        rules = user.tenant.rules
        if rules is None or not rules.ruled or not user.known:
            return False
        return self._apply(user, rules.classes_of(changed), timestamp_ms, offset)

    def update_all(self, user: User, timestamp_ms: int, offset: int) -> bool:
        """Evaluates all rules of a user who is new, restored, or replaced by a snapshot."""
        rules = user.tenant.rules
        if rules is None or not rules.ruled or not user.known:
            return False
        return self._apply(user, rules.classes(), timestamp_ms, offset)

    def _apply(self, user: User, classes: list[RuleClass], timestamp_ms: int, offset: int) -> bool:
        moved, since = False, order_key(timestamp_ms, offset)
        for rules in classes:
            wanted = rules.matching(tuple([property_value(user, key) for key in rules.keys]))
            have = user.rule_groups
            if have:
                for group in have:
                    if group in rules.groups and group not in wanted:
                        self._leave(user, group, timestamp_ms)
                        moved = True
            for group in wanted:
                if group not in user.rule_groups:
                    self._join(user, group, since, timestamp_ms)
                    moved = True
        return moved

    def _join(self, user: User, group: str, since: bytes, timestamp_ms: int) -> None:
        user.rule_groups = tuple(sorted((*user.rule_groups, group)))
        if user.join(group, since):
            self.applier.joined(user, group, timestamp_ms)

    def _leave(self, user: User, group: str, timestamp_ms: int) -> None:
        user.rule_groups = tuple([g for g in user.rule_groups if g != group])
        if user.leave(group):
            self.applier.left(user, group, timestamp_ms)

    def leave_all(self, user: User, timestamp_ms: int) -> None:
        """Ends what rules made, since the user is deleted: only known users are members."""
        for group in user.rule_groups:
            self._leave(user, group, timestamp_ms)

    # -- changes of rules
    def apply_rule(self, user: User, group: str, timestamp_ms: int) -> bool:
        """Applies the present rule of a group, or that it has none; True if a membership changed.

        Applying it twice changes nothing.
        """
        found = user.tenant.groups.get(group)
        rule = found.rule if found is not None else None
        if rule is None:
            return self._count_kept(user, group, timestamp_ms)
        moved = False
        if group in user.groups and group not in user.rule_groups:
            moved = self._keep_aside(user, group, timestamp_ms)
        if rule.holds is None or not user.known:
            return moved
        wanted = rule.holds([property_value(user, key) for key in rule.keys])
        has = group in user.rule_groups
        if wanted and not has:
            self._join(user, group, order_key(rule.since_ms, rule.offset), timestamp_ms)
        elif has and not wanted:
            self._leave(user, group, timestamp_ms)
        return moved or wanted is not has

    def _keep_aside(self, user: User, group: str, timestamp_ms: int) -> bool:
        """Keeps a membership by events aside; a known user stays a member until the rule says."""
        self.keep(user, group, user.memberships()[group])
        if user.known:
            user.rule_groups = tuple(sorted((*user.rule_groups, group)))
            self.applier.work.dirty_users[user] = None
            return False
        user.leave(group)
        self.applier.left(user, group, timestamp_ms)
        return True

    def _count_kept(self, user: User, group: str, timestamp_ms: int) -> bool:
        """The rule is gone: what it made goes, and what events say counts again."""
        made = group in user.rule_groups
        kept = kept_memberships(user).get(group)
        if kept is None:
            if made:
                self._leave(user, group, timestamp_ms)
            return made
        self.release(user, group)
        since = bytes.fromhex(kept)
        if made:
            user.rule_groups = tuple([g for g in user.rule_groups if g != group])
            same = user.memberships()[group] == since
            user.leave(group)
            user.join(group, since)
            return not same
        user.join(group, since)
        self.applier.joined(user, group, timestamp_ms)
        return True

    # -- memberships by events
    def is_ruled(self, user: User, group: str) -> bool:
        """Returns True if the group has a rule, so that events about members do not count."""
        rules = user.tenant.rules
        return rules is not None and group in rules.ruled

    def keep(self, user: User, group: str, since: bytes) -> None:
        """Keeps a membership that does not count; one that is kept already stays."""
        kept = kept_memberships(user)
        if group not in kept:
            user.set_optional_fact(KEPT, {**kept, group: since.hex()})
        self.applier.work.dirty_users[user] = None

    def release(self, user: User, group: str) -> None:
        """Forgets a membership that was kept."""
        others = {g: since for g, since in kept_memberships(user).items() if g != group}
        user.set_optional_fact(KEPT, others or None)
        self.applier.work.dirty_users[user] = None
