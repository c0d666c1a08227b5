"""The tokens of a membership rule."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.membership_rules.errors import END_OF_RULE, MembershipRuleError, quoted

TEXT: Final = "text"
WORD: Final = "word"
PUNCTUATION: Final = "punctuation"
END: Final = "end"
CLOSING: Final = {'"': '"', "'": "'", "“": "”", "”": "”"}
"""The quotation marks that open a text, with those that close it."""
HYPHENS: Final = "-–—"
"""Word processors and Entra's own pages write longer dashes."""
ESCAPE: Final = "`"

# A number or a time; a property or a keyword; an operator with its hyphen, or a negative number.
_word: Final = re.compile(r"\d[\w.:+-]*|[A-Za-z_$][\w$.]*|[-–—]+[\w.]+", re.ASCII)


class Token(NamedTuple):
    """A token: ``kind``; its text, of a word as written; its place, counted from 1."""

    kind: str
    text: str
    position: int

    @property
    def found(self) -> str:
        """The token as messages name it."""
        if self.kind == END:
            return END_OF_RULE
        return f'the text "{quoted(self.text)}"' if self.kind == TEXT else quoted(self.text)

    @property
    def name(self) -> str:
        """An operator or a keyword in small letters, without its hyphen; "" for other tokens."""
        return self.text.lstrip(HYPHENS).lower() if self.kind == WORD else ""


def tokenize(rule: str) -> list[Token]:
    """Returns the tokens of a rule; the last one is its end.

    Raises:
        MembershipRuleError: a character that no token begins with, or a text without its end.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(rule):
        character = rule[at]
        if character.isspace():
            at += 1
        elif character in "()[],":
            tokens.append(Token(PUNCTUATION, character, at + 1))
            at += 1
        elif character in CLOSING:
            text, end = _text(rule, at)
            tokens.append(Token(TEXT, text, at + 1))
            at = end
        else:
            word = _word.match(rule, at)
            if word is None:
                expected = "a property, an operator, a value or a parenthesis"
                raise MembershipRuleError(at + 1, expected, quoted(character))
            tokens.append(Token(WORD, word[0], at + 1))
            at = word.end()
    tokens.append(Token(END, "", len(rule) + 1))
    return tokens


def _text(rule: str, at: int) -> tuple[str, int]:
    """Returns the text that begins at ``at``, and the place after its closing mark.

    A backtick makes the character after it part of the text; in single quotation marks, two of
    them are one.
    """
    closing = CLOSING[rule[at]]
    parts: list[str] = []
    i = at + 1
    while i < len(rule):
        character = rule[i]
        if character == ESCAPE and i + 1 < len(rule):
            parts.append(rule[i + 1])
            i += 2
        elif character != closing:
            parts.append(character)
            i += 1
        elif closing == "'" and rule[i + 1 : i + 2] == "'":
            parts.append("'")
            i += 2
        else:
            return "".join(parts), i + 1
    expected = f"{closing} at the end of the text that begins at character {at + 1}"
    raise MembershipRuleError(len(rule) + 1, expected, END_OF_RULE)
