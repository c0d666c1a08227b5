"""The limits of a user's attributes (R27, rules section 8)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.domain.limits import Limits
from engine.domain.messages import Rejection, limit_exceeded
from engine.membership_rules.compiler import Value


def exceeds_limit(limits: Limits, values: Sequence[Value]) -> Rejection | None:
    """Returns the rejection of more attributes than a user may have, or of longer ones.

    ``values``: those of all of the user's attributes.
    """
    if len(values) > limits.attributes:
        return limit_exceeded("attributes of a user", limits.attributes, len(values))
    characters = 0
    for value in values:
        if isinstance(value, str):
            characters += len(value)
        elif value is not None:
            for item in value:
                characters += len(item)
    if characters > limits.attribute_characters:
        what = "characters in the attributes of a user"
        return limit_exceeded(what, limits.attribute_characters, characters)
    return None
