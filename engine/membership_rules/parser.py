"""The parser of membership rules: text in, syntax tree or the place of a mistake out.

One method for each rule of the grammar in docs/spec/membership-rules.md.
"""

from __future__ import annotations

import re
from typing import Final

from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.lexer import END, PUNCTUATION, TEXT, WORD, Token, tokenize
from engine.membership_rules.pattern import PatternError, compile_pattern
from engine.membership_rules.properties import (
    UNSUPPORTED,
    PropertyType,
    property_key,
    property_type,
)
from engine.membership_rules.syntax import (
    EQUALITY_OPERATORS,
    ITEM,
    LIST_OPERATORS,
    ORDER_OPERATORS,
    SPELLING,
    Comparison,
    Conjunction,
    Disjunction,
    Literal,
    Negation,
    Node,
    Quantified,
)

MAX_RULE_CHARACTERS: Final = 3072
MAX_DEPTH: Final = 50
QUANTIFIERS: Final = ("any", "all")
LOGICAL: Final = ("and", "or", "not")
NULLS: Final = ("null", "$null")
FLAGS: Final = ("true", "false")
WITH_MANY_VALUES: Final = (PropertyType.TEXTS, PropertyType.ANY)

OPERATORS: Final = ", ".join(SPELLING.values())
VALUE: Final = "a value (text in quotation marks, a number, true, false or null)"

_is_number: Final = re.compile(r"-?\d+(\.\d+)?", re.ASCII).fullmatch
_is_moment: Final = re.compile(
    r"\d{4}-\d\d-\d\d([Tt]\d\d:\d\d(:\d\d(\.\d{1,12})?)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
).fullmatch


def parse_rule(rule: str) -> Node:
    """Returns the syntax tree of a rule.

    Raises:
        MembershipRuleError: the rule cannot be read.
    """
    if len(rule) > MAX_RULE_CHARACTERS:
        raise MembershipRuleError(
            MAX_RULE_CHARACTERS + 1,
            f"the end of the rule, which may have {MAX_RULE_CHARACTERS} characters",
            f"{len(rule) - MAX_RULE_CHARACTERS} more",
        )
    for i, character in enumerate(rule):
        if "\ud800" <= character <= "\udfff":
            raise MembershipRuleError(i + 1, "a character", "half of one")
    return _Parser(tokenize(rule)).rule()


class _Parser:
    """Reads the tokens from left to right; the tokens looked at and not taken begin at ``at``."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.in_items = False  # inside the condition of -any or -all

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        if token.kind != END:
            self.at += 1
        return token

    def expect(self, punctuation: str, expected: str) -> None:
        token = self.next
        if token.kind != PUNCTUATION or token.text != punctuation:
            raise self.mistake(expected)
        self.at += 1

    def mistake(self, expected: str, token: Token | None = None) -> MembershipRuleError:
        token = token or self.next
        return MembershipRuleError(token.position, expected, token.found)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.mistake(f"at most {MAX_DEPTH} levels of parentheses and -not")

    # -- the grammar
    def rule(self) -> Node:
        node = self.disjunction()
        if self.next.kind != END:
            raise self.mistake("-and, -or or the end of the rule")
        return node

    def disjunction(self) -> Node:
        operands = [self.conjunction()]
        while self.next.name == "or":
            self.take()
            operands.append(self.conjunction())
        return operands[0] if len(operands) == 1 else Disjunction(tuple(operands))

    def conjunction(self) -> Node:
        operands = [self.negation()]
        while self.next.name == "and":
            self.take()
            operands.append(self.negation())
        return operands[0] if len(operands) == 1 else Conjunction(tuple(operands))

    def negation(self) -> Node:
        if self.next.name != "not":
            return self.primary()
        self.deeper()
        self.take()
        operand = Negation(self.negation())
        self.depth -= 1
        return operand

    def primary(self) -> Node:
        if self.next.kind == PUNCTUATION and self.next.text == "(":
            self.deeper()
            self.take()
            node = self.disjunction()
            self.expect(")", "-and, -or or )")
            self.depth -= 1
            return node
        name = self.take()
        key, kind = self.property(name)
        operator = self.next
        if operator.name in QUANTIFIERS:
            return self.quantified(key, kind)
        if operator.name not in SPELLING:
            raise self.mistake(f"an operator ({OPERATORS})")
        self.take()
        values = self.operand(operator.name, kind)
        return Comparison(key, operator.name, values)

    def property(self, name: Token) -> tuple[str, PropertyType]:
        """Returns the key and the type of the property that a token names."""
        key = name.text.lower() if name.kind == WORD else ""
        if self.in_items:
            if key != ITEM:
                raise self.mistake("_, which stands for an item, -not or (", name)
            return ITEM, PropertyType.ANY
        prefix, _, key = key.partition(".")
        if prefix != "user" or not key:
            raise self.mistake("a property like user.department, -not or (", name)
        if key in UNSUPPORTED:
            raise self.mistake(f"another property: {UNSUPPORTED[key]}", name)
        key = property_key(key)
        kind = property_type(key)
        if kind is None:
            raise self.mistake(
                "a property of Entra's rules for users, like user.department,"
                " user.extensionAttribute1 or user.extension_<application>_<name>",
                name,
            )
        return key, kind

    def quantified(self, key: str, kind: PropertyType) -> Node:
        if self.in_items or kind not in WITH_MANY_VALUES:
            raise self.mistake(f"an operator for one value ({OPERATORS})")
        quantifier = self.take().name
        self.expect("(", "( and a condition on _, which stands for an item")
        self.deeper()
        self.in_items = True
        condition = self.disjunction()
        self.in_items = False
        self.expect(")", "-and, -or or )")
        self.depth -= 1
        return Quantified(key, quantifier, condition)

    # -- values
    def operand(self, operator: str, kind: PropertyType) -> tuple[Literal, ...]:
        """Returns the values that a property is compared with; none for null."""
        self.check_operator(operator, kind)
        if operator in LIST_OPERATORS:
            return self.list_of_values(kind)
        if self.next.kind == WORD and self.next.text.lower() in NULLS:
            if operator not in EQUALITY_OPERATORS:
                raise self.mistake("a value: null is compared by -eq and -ne alone")
            self.take()
            return ()
        token = self.next
        literal = self.literal(kind)
        if operator in ("match", "notmatch"):
            try:
                compile_pattern(literal.text)
            except PatternError as error:
                expected = f"a regular expression in the syntax of RE2 ({error})"
                raise self.mistake(expected, token) from None
        return (literal,)

    def check_operator(self, operator: str, kind: PropertyType) -> None:
        """Refuses operators that make no sense for the type; the operator is taken already."""
        token = self.tokens[self.at - 1]
        if kind is PropertyType.FLAG and operator not in EQUALITY_OPERATORS | LIST_OPERATORS:
            raise self.mistake("-eq or -ne, since the property is true or false", token)
        if kind is PropertyType.MOMENT and operator not in EQUALITY_OPERATORS | ORDER_OPERATORS:
            raise self.mistake("-eq, -ne, -le or -ge, since the property is a time", token)

    def list_of_values(self, kind: PropertyType) -> tuple[Literal, ...]:
        self.expect("[", "[ and a list of values")
        values = [self.literal(kind)]
        while self.next.kind == PUNCTUATION and self.next.text == ",":
            self.take()
            values.append(self.literal(kind))
        self.expect("]", ", or ]")
        return tuple(values)

    def literal(self, kind: PropertyType) -> Literal:
        token = self.next
        literal = self.any_literal(token)
        text = literal.text
        if kind is PropertyType.FLAG and text.lower() not in FLAGS:
            raise self.mistake("true, false or null")
        if kind is PropertyType.MOMENT and not _is_moment(text):
            raise self.mistake("a time like 2026-11-24T08:00:00Z")
        if kind in (PropertyType.TEXT, PropertyType.TEXTS) and text in FLAGS and not literal.quoted:
            raise self.mistake("text in quotation marks, since the property is text")
        self.take()
        return literal

    def any_literal(self, token: Token) -> Literal:
        if token.kind == TEXT:
            return Literal(token.text)
        lower = token.text.lower()
        if token.kind != WORD:
            raise self.mistake(VALUE)
        if lower in FLAGS:
            return Literal(lower, quoted=False)
        if _is_number(token.text) or _is_moment(token.text):
            return Literal(token.text, quoted=False)
        if lower == "system.now":
            raise self.mistake("a fixed time: members do not depend on the clock")
        raise self.mistake(VALUE)
