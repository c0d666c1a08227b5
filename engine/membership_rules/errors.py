"""The error of a rule that cannot be read."""

from __future__ import annotations

from typing import Final

END_OF_RULE: Final = "the end of the rule"
QUOTED_CHARACTERS: Final = 40


class MembershipRuleError(Exception):
    """A rule cannot be read: at which character (from 1), and what was expected there."""

    def __init__(self, position: int, expected: str, found: str) -> None:
        super().__init__(f"At character {position}: expected {expected}, found {found}.")
        self.position = position
        self.expected = expected
        self.found = found


def quoted(text: str) -> str:
    """Returns a part of a rule as a message quotes it: in one line, and not too long."""
    cut = text if len(text) <= QUOTED_CHARACTERS else text[: QUOTED_CHARACTERS - 1] + "…"
    return "".join(c if c.isprintable() else " " for c in cut)
