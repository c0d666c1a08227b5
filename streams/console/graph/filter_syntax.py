"""The syntax of ``$filter``: a small parser that makes a tree; it knows nothing of properties.

Precedence as in OData: ``not`` binds most, then ``and``, then ``or``. Length, depth and the number
of comparisons are bounded, so that no filter can exhaust the parser or the database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from streams.console.graph.errors import GraphError, bad_request, unsupported

MOST_CHARACTERS = 8_000
MOST_DEPTH = 20
MOST_COMPARISONS = 100
COMPARISONS = ("eq", "ne", "gt", "ge", "lt", "le")
AFFIXES = ("startswith", "endswith")
MOST_NUMBER = 1 << 53

GUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")

Value = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Compare:
    """``path op value``, for instance ``displayName eq 'Ann'``."""

    path: tuple[str, ...]
    op: str
    value: Value


@dataclass(frozen=True, slots=True)
class Among:
    """``path in (values)``."""

    path: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Affix:
    """``startswith(path, 'text')`` or ``endswith(path, 'text')``."""

    function: str
    path: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True)
class Size:
    """``path/$count op number``."""

    path: tuple[str, ...]
    op: str
    number: int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """``path/any(variable: condition)``; without a condition: the collection is not empty."""

    path: tuple[str, ...]
    variable: str
    condition: Node | None


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the parts, or more."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a part."""

    part: Node


Node = Compare | Among | Affix | Size | AnyOf | And | Or | Not


class Token(NamedTuple):
    """A piece of a filter. ``at``: its first character, counted from 1."""

    kind: str
    text: str
    at: int


_TOKENS = re.compile(
    r"(?P<space>[ \t]+)"
    r"|(?P<text>'(?:[^']|'')*')"
    rf"|(?P<guid>{GUID.pattern}(?![\w-]))"
    r"|(?P<number>-?\d+(?![\w.-]))"
    r"|(?P<word>[A-Za-z_@][\w.]*)"
    r"|(?P<count>\$count\b)"
    r"|(?P<sign>[(),:/])"
)


def tokens(text: str) -> list[Token]:
    """Returns the pieces of a filter. Raises: GraphError."""
    found, at = [], 0
    while at < len(text):
        hit = _TOKENS.match(text, at)
        if hit is None:
            raise bad_request(
                f"$filter cannot be read at character {at + 1}: {text[at : at + 20]!r}"
            )
        kind = hit.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, hit[0], at + 1))
        at = hit.end()
    return found


def parse_filter(text: str) -> Node:
    """Returns the tree of a filter. Raises: GraphError."""
    if len(text) > MOST_CHARACTERS:
        raise bad_request(f"$filter has {len(text):,} characters; it may have {MOST_CHARACTERS:,}")
    if "\0" in text:
        raise bad_request("$filter must not contain the character NUL")
    parser = _Parser(tokens(text))
    found = parser.alternatives(0)
    if parser.next is not None:
        raise parser.unexpected("and, or, or the end")
    return found


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, found: list[Token]) -> None:
        self._tokens, self._place, self._comparisons = found, 0, 0

    @property
    def next(self) -> Token | None:
        """The token at hand; None at the end."""
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def unexpected(self, expected: str) -> GraphError:
        """Returns the error of a token that must not be here."""
        token = self.next
        where = "its end" if token is None else f"character {token.at} ({token.text[:40]})"
        return bad_request(f"$filter cannot be read at {where}: expected {expected}")

    def _is(self, kind: str, text: str) -> bool:
        token = self.next
        return token is not None and token.kind == kind and token.text.lower() == text

    def _take(self, kind: str, text: str) -> bool:
        if self._is(kind, text):
            self._place += 1
            return True
        return False

    def _need(self, sign: str) -> None:
        if not self._take("sign", sign):
            raise self.unexpected(sign)

    def alternatives(self, depth: int) -> Node:
        """Reads parts with ``or`` between them."""
        parts = [self._conjunction(depth)]
        while self._take("word", "or"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _conjunction(self, depth: int) -> Node:
        parts = [self._negation(depth)]
        while self._take("word", "and"):
            parts.append(self._negation(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negation(self, depth: int) -> Node:
        if depth > MOST_DEPTH:
            raise bad_request(f"$filter is nested more than {MOST_DEPTH} deep")
        if self._take("word", "not"):
            return Not(self._negation(depth + 1))
        if self._take("sign", "("):
            found = self.alternatives(depth + 1)
            self._need(")")
            return found
        return self._comparison(depth)

    def _comparison(self, depth: int) -> Node:
        self._count()
        name = self._word("a property, a function or (")
        if self._is("sign", "("):
            return self._function(name)
        path = [name]
        while self._take("sign", "/"):
            if self._take("count", "$count"):
                return Size(tuple(path), self._operator(), self._number())
            step = self._word("a property, any or $count")
            if self._is("sign", "(") and step.lower() in ("any", "all"):
                return self._any(tuple(path), step, depth)
            path.append(step)
        if self._take("word", "in"):
            return Among(tuple(path), self._values())
        return Compare(tuple(path), self._operator(), self._value())

    def _count(self) -> None:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise bad_request(f"$filter has more than {MOST_COMPARISONS} comparisons")

    def _word(self, expected: str) -> str:
        token = self.next
        if token is None or token.kind != "word":
            raise self.unexpected(expected)
        self._place += 1
        return token.text

    def _operator(self) -> str:
        token = self.next
        if token is None or token.kind != "word" or token.text.lower() not in COMPARISONS:
            raise self.unexpected(f"one of {', '.join(COMPARISONS)}, in")
        self._place += 1
        return token.text.lower()

    def _value(self) -> Value:
        token = self.next
        if token is None:
            raise self.unexpected("a value")
        if token.kind == "text":
            value: Value = token.text[1:-1].replace("''", "'")
        elif token.kind == "guid":
            value = token.text
        elif token.kind == "number":
            value = self._bounded(token)
        elif token.kind == "word" and token.text.lower() in ("true", "false", "null"):
            value = {"true": True, "false": False, "null": None}[token.text.lower()]
        else:
            raise self.unexpected("a value: text is in single quotes")
        self._place += 1
        return value

    def _bounded(self, token: Token) -> int:
        if len(token.text) > 17 or abs(int(token.text)) > MOST_NUMBER:
            raise self.unexpected("a smaller number")
        return int(token.text)

    def _number(self) -> int:
        value = self._value()
        if type(value) is not int:
            self._place -= 1
            raise self.unexpected("a number")
        return value

    def _values(self) -> tuple[Value, ...]:
        self._need("(")
        found = [self._value()]
        while self._take("sign", ","):
            self._count()
            found.append(self._value())
        self._need(")")
        return tuple(found)

    def _function(self, name: str) -> Node:
        function = name.lower()
        if function not in AFFIXES:
            raise unsupported(f"$filter: the function {name} is not supported; {_FUNCTIONS}")
        self._need("(")
        path = [self._word("a property")]
        while self._take("sign", "/"):
            path.append(self._word("a property"))
        self._need(",")
        value = self._value()
        if not isinstance(value, str):
            self._place -= 1
            raise self.unexpected("text in single quotes")
        self._need(")")
        found = Affix(function, tuple(path), value)
        if self._is("word", "eq") or self._is("word", "ne"):
            is_equal, wanted = self._operator() == "eq", self._value()
            if not isinstance(wanted, bool):
                self._place -= 1
                raise self.unexpected("true or false")
            return found if wanted is is_equal else Not(found)
        return found

    def _any(self, path: tuple[str, ...], step: str, depth: int) -> Node:
        if step.lower() == "all":
            raise unsupported("$filter: all(…) is not supported; use not …/any(…)")
        self._need("(")
        if self._take("sign", ")"):
            return AnyOf(path, "", None)
        variable = self._word("a variable, as in assignedLicenses/any(x:x/skuId eq …)")
        self._need(":")
        condition = self.alternatives(depth + 1)
        self._need(")")
        return AnyOf(path, variable, condition)


_FUNCTIONS = f"there are {', '.join(AFFIXES)}"
