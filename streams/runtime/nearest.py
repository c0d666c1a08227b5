"""The known name that a misspelt one most likely stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.8
"""Of difflib's ratio: one or two letters of a word are wrong."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name nearest to a misspelt one, or None if none is near.

    Capitals, dots, hyphens and underscores count for nothing: `usagelocation` is `usageLocation`.
    """
    by_letters = {_letters(each): each for each in known}
    found = get_close_matches(_letters(name), by_letters, n=1, cutoff=CUTOFF)
    return by_letters[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the question to be put behind a sentence about a misspelt name, or an empty text."""
    found = nearest(name, known)
    return f": did you mean {found}?" if found else ""


def _letters(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).lower()
