"""R27 at a group's owner: an event's membership rule is checked, and becomes the group's."""

from __future__ import annotations

from typing import Any, Final

from engine.domain.events import ABSENT, GroupUpserted
from engine.domain.messages import Rejection
from engine.domain.vocabulary import RuleProcessingState
from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.parser import parse_rule
from engine.state.group_state import GroupState

INVALID_RULE: Final = "InvalidMembershipRule"


def names_rule(event: GroupUpserted) -> bool:
    """Returns True if the event says something of the rule, so that it is answered."""
    return event.membership_rule is not ABSENT or event.processing_state is not ABSENT


def check_rule(event: GroupUpserted) -> Rejection | None:
    """Returns the rejection of a rule that cannot be read: the place, and what was expected."""
    text = event.membership_rule
    if not isinstance(text, str):
        return None
    try:
        parse_rule(text)
    except MembershipRuleError as error:
        details = (
            ("position", error.position),
            ("expected", error.expected),
            ("found", error.found),
        )
        return Rejection(
            INVALID_RULE, None, details, f"The membership rule cannot be read. {error}"
        )
    return None


def change_rule(state: GroupState, event: GroupUpserted, timestamp_ms: int, offset: int) -> None:
    """Patches the group's rule. A state without a rule has no effect."""
    old = state.rule
    text: Any = old[0] if old is not None else None
    paused: Any = old is not None and old[1]
    if event.membership_rule is not ABSENT:
        text = event.membership_rule
    if event.processing_state is not ABSENT:
        paused = event.processing_state == RuleProcessingState.PAUSED
    if text is None:
        state.rule = None
    elif old is None or old[:2] != [text, paused]:
        state.rule = [text, paused, timestamp_ms, offset]
