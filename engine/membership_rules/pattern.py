"""Regular expressions of tenants, by RE2: their time is linear in the text that they search.

The standard library's engine takes exponential time for some expressions, and a tenant's
expression must hold nobody else up. Expressions that need such an engine (look-ahead, references
back) are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import re2

MAX_PATTERN_CHARACTERS: Final = 256
MAX_COMPILED_BYTES: Final = 1 << 15


class PatternError(Exception):
    """The expression cannot be used; the text says why."""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Returns a function that searches a text for the expression, without regard to case.

    Raises:
        PatternError: the expression is too long, too large, or not in the syntax of RE2.
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise PatternError(f"it has {len(pattern)} characters; {MAX_PATTERN_CHARACTERS} are read")
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MAX_COMPILED_BYTES
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(text) from None

    def found(text: str) -> bool:
        return search(text) is not None

    return found
