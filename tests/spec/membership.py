"""R27: which users a membership rule matches.

A rule is read straight into a function of a user's properties, by name in small letters. Of the
language this knows what the generated tenants and the scenarios use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Properties = Mapping[str, Any]
Condition = Callable[[Properties], bool]

TOKEN = re.compile(r"""\s*("(?:`.|[^"`])*"|'(?:[^']|'')*'|[()\[\],]|-?[\w.$]+)""")
NAMES = re.compile(
    r"user\.(objectid|userprincipalname|usagelocation|mail|mailnickname|proxyaddresses|othermails"
    r"|department|city|jobtitle|country|employeeid|displayname|usertype|accountenabled"
    r"|extensionattribute([1-9]|1[0-5]))"
)
POSITIVE: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda value, wanted: value == wanted,
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": lambda value, wanted: wanted in value,
    "match": lambda value, wanted: re.search(wanted, value, re.IGNORECASE) is not None,
    "le": lambda value, wanted: value <= wanted,
    "ge": lambda value, wanted: value >= wanted,
}
NEGATIVE = {"ne": "eq"} | {f"not{name}": name for name in ("startswith", "endswith")}
NEGATIVE |= {f"not{name}": name for name in ("contains", "match", "in")}


class UnreadableRuleError(ValueError):
    """The rule is no rule."""


def read_rule(text: str) -> Condition:
    """Returns the condition that the rule states, or raises UnreadableRuleError."""
    tokens, at = [], 0
    while text[at:].strip():
        found = TOKEN.match(text, at)
        if found is None:
            raise UnreadableRuleError(text[at:])
        tokens.append(found[1])
        at = found.end()
    reader = Reader(iter([*tokens, ""]))
    condition = reader.either()
    reader.want("")
    return condition


class Reader:
    def __init__(self, tokens: Iterator[str]) -> None:
        self.tokens = tokens
        self.token = next(tokens)

    def take(self) -> str:
        taken, self.token = self.token, next(self.tokens, "")
        return taken

    def want(self, token: str) -> None:
        if self.token != token:
            raise UnreadableRuleError(f"{self.token} is not {token}")
        self.take()

    def says(self, word: str) -> bool:
        return self.token.lower().lstrip("-") == word

    def either(self) -> Condition:
        some = [self.both()]
        while self.says("or"):
            self.take()
            some.append(self.both())
        return lambda user: any(one(user) for one in some)

    def both(self) -> Condition:
        some = [self.single()]
        while self.says("and"):
            self.take()
            some.append(self.single())
        return lambda user: all(one(user) for one in some)

    def single(self) -> Condition:
        if self.says("not"):
            self.take()
            other = self.single()
            return lambda user: not other(user)
        if self.token == "(":
            self.take()
            inner = self.either()
            self.want(")")
            return inner
        name = self.take().lower()
        if name != "_" and not NAMES.fullmatch(name):
            raise UnreadableRuleError(name)
        return self.about(name.removeprefix("user."))

    def about(self, name: str) -> Condition:
        operator = self.take().lower().lstrip("-")
        if operator in ("any", "all"):
            self.want("(")
            inner = self.either()
            self.want(")")
            decide = any if operator == "any" else all
            return lambda user: decide(inner({"_": item}) for item in items(user.get(name)))
        positive = NEGATIVE.get(operator, operator)
        if positive == "in":
            wanted = self.listed()
            test = POSITIVE["eq"]
        else:
            if positive not in POSITIVE:
                raise UnreadableRuleError(operator)
            value = self.value()
            if value is None:
                return lambda user: (user.get(name) is None) == (positive == operator)
            wanted, test = [value], POSITIVE[positive]
        if positive != "match":
            wanted = [one.casefold() for one in wanted]

        def holds(user: Properties) -> bool:
            have = [v if positive == "match" else v.casefold() for v in items(user.get(name))]
            return any(test(v, w) for v in have for w in wanted) == (positive == operator)

        return holds

    def listed(self) -> list[str]:
        self.want("[")
        found = [self.value() or ""]
        while self.token == ",":
            self.take()
            found.append(self.value() or "")
        self.want("]")
        return found

    def value(self) -> str | None:
        token = self.take()
        if token[:1] == '"':
            return re.sub(r"`(.)", r"\1", token[1:-1])
        if token[:1] == "'":
            return token[1:-1].replace("''", "'")
        if token in ("null", "$null"):
            return None
        if token in ("true", "false") or re.fullmatch(r"-?\d+(\.\d+)?", token):
            return token
        raise UnreadableRuleError(token)


def items(value: Any) -> list[str]:
    """Returns the values of a property, as text."""
    if value is None:
        return []
    return [as_text(one) for one in value] if isinstance(value, list) else [as_text(value)]


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
