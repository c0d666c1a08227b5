"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Final

FORMULA_CHARACTERS: Final = frozenset("=+-@;|\t\r\n＝＋－＠；｜")
"""Begin a formula, or with a semicolon another cell, in one spreadsheet or another."""
BLANKS: Final = " \u00a0\u200b\u2060\u3000\ufeff"
"""Characters that a spreadsheet may drop before it looks at the first one."""


def text_cell(text: str) -> str:
    """Returns a cell that is text; what would be a formula begins with an apostrophe."""
    return "'" + text if text.lstrip(BLANKS)[:1] in FORMULA_CHARACTERS else text
