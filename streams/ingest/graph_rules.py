"""Membership rules of groups in Microsoft Graph (R27): which of them the feed carries, and why not.

A rule is carried if it can be read here, and if a list of users has every property that it names:
one that the export left out would match nobody, and take the licences of all members away. A group
without its rule keeps the members that the pages list.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.parser import parse_rule
from engine.membership_rules.properties import GIVEN, OBJECT_ID, property_key
from engine.membership_rules.rule_set import MembershipRule
from streams.contract.field_checks import check_attributes
from streams.contract.rejection import DecodeError
from streams.ingest.graph_pages import Object, UnreadableError, list_of_texts, wrong_type

RULE: Final = "membershipRule"
STATE: Final = "membershipRuleProcessingState"
GROUP_TYPES: Final = "groupTypes"
DYNAMIC: Final = "DynamicMembership"


class GroupRule(NamedTuple):
    """The rule of a group on a page. ``text``: None if it has no rule, or none any more."""

    text: str | None
    state: str | None


def rule_of(entity: Object) -> GroupRule | None:
    """Returns the rule of a group; None if the page does not tell. Raises: UnreadableError."""
    if RULE not in entity:
        return None
    text = entity[RULE]
    if text is not None and not isinstance(text, str):
        raise UnreadableError(wrong_type(RULE, text, "a text"))
    # A group that was made an assigned one keeps the text of its former rule.
    if not text or (GROUP_TYPES in entity and DYNAMIC not in list_of_texts(entity, GROUP_TYPES)):
        return GroupRule(None, None)
    state = entity.get(STATE)
    return GroupRule(text, state if isinstance(state, str) else None)


class CompiledRule:
    """A rule that can be read. ``keys``: of the properties that it names."""

    def __init__(self, rule: GroupRule) -> None:
        self._rule = MembershipRule(rule.text or "", rule.state == "Paused", 0, 0)
        self.keys = self._rule.keys

    def matches(self, id: str, members: dict[str, Any]) -> bool:
        """Returns whether the rule holds for a user with these members of an event."""
        if self._rule.holds is None:  # paused: the members stay as they are
            return True
        try:
            attributes = check_attributes(members.get("attributes", {}))
        except DecodeError:  # the event of this user is refused, with the reason
            return True
        values = {OBJECT_ID: id, **dict(attributes if isinstance(attributes, tuple) else ())}
        for name, value in members.items():
            if value and (key := property_key(name)) in GIVEN:
                values[key] = tuple(value) if isinstance(value, list) else value
        return self._rule.holds([values.get(key) for key in self.keys])


def compiled(rule: GroupRule) -> CompiledRule | str:
    """Returns the rule; the reason, if it cannot be read."""
    try:
        parse_rule(rule.text or "")
    except MembershipRuleError as error:
        return f"the membership rule cannot be read here: {error}"
    return CompiledRule(rule)
