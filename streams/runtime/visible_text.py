"""Text of other people's for a terminal or a page: nothing in it acts, and nothing is hidden."""

from __future__ import annotations

import re
from typing import Any

# Zero-width spaces, directional marks, embeddings, overrides and isolates, the word joiner and
# invisible operators, the byte order mark, annotations, tags. Not the joiners U+200C and U+200D:
# names in Persian or Hindi, and emoji, are spelt with them.
_hidden = re.compile(
    "[\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible_line(text: object) -> str:
    """Returns a text for the terminal: escape sequences and invisible characters as ``\\x1b``.

    Lines and tabs stay.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in shown
    )


def visible_name(text: str) -> str:
    """Returns a name for a page: a character that hides or reorders others is shown by its code."""
    return _hidden.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", text)


def visible_value(value: Any) -> Any:
    """Returns a value as a page shows it, for a template's ``finalize``; markup as it is."""
    return visible_name(value) if type(value) is str else value
