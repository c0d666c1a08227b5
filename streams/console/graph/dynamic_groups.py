"""Groups with a membership rule (R27): of the type DynamicMembership, in Graph's words."""

from __future__ import annotations

from typing import Any, Final

from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.parser import MAX_RULE_CHARACTERS, parse_rule
from streams.console.graph import bodies
from streams.console.graph.errors import bad_request
from streams.console.graph.properties import DYNAMIC_MEMBERSHIP

TYPES: Final = "groupTypes"
RULE: Final = "membershipRule"
STATE: Final = "membershipRuleProcessingState"
MEMBERS: Final = (TYPES, RULE, STATE)


def rule_members(found: dict[str, Any], is_dynamic: bool) -> dict[str, Any]:
    """Returns what an event says of the rule; nothing if the body does not name it.

    ``is_dynamic``: the group has a rule already. Raises: GraphError.
    """
    rule = bodies.text(found, RULE, MAX_RULE_CHARACTERS)
    state = bodies.text(found, STATE)
    if TYPES in found:
        if found[TYPES] not in ([], [DYNAMIC_MEMBERSHIP]):
            raise bad_request(
                f"{TYPES} can only be empty or [{DYNAMIC_MEMBERSHIP!r}]: the groups of Seatflow are"
                " security groups."
            )
        is_dynamic = bool(found[TYPES])
        if is_dynamic and RULE in found and not rule:
            raise bad_request(f"A group of the type {DYNAMIC_MEMBERSHIP} needs {RULE}.")
    if (rule or state) and not is_dynamic:
        raise bad_request(f"{RULE} and {STATE} need {TYPES}: [{DYNAMIC_MEMBERSHIP!r}].")
    if rule:
        try:
            parse_rule(rule)
        except MembershipRuleError as error:
            raise bad_request(f"{RULE} cannot be read. {error}") from None
    members: dict[str, Any] = {}
    if RULE in found or (TYPES in found and not is_dynamic):
        members[RULE] = rule or None
    if state is not None:
        members[STATE] = state
    return members
