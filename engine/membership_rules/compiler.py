"""Compiles syntax trees to functions of attribute values.

A value is text, a tuple of texts, or None where the user has none. Numbers, true and false are
compared by their text. An operator that begins with *not* is the negation of the one without.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from engine.membership_rules.pattern import compile_pattern
from engine.membership_rules.syntax import (
    ITEM,
    Comparison,
    Conjunction,
    Literal,
    Negation,
    Node,
    Quantified,
)

Value = str | tuple[str, ...] | None
"""The value of an attribute."""
Predicate = Callable[[Sequence[Value]], bool]
"""A compiled rule: it gets the values of the rule's properties, in the order of their keys."""
Test = Callable[[str], bool]

NEGATIVE: Final = {
    "ne": "eq",
    "notstartswith": "startswith",
    "notendswith": "endswith",
    "notcontains": "contains",
    "notmatch": "match",
    "notin": "in",
}

_is_number: Final = re.compile(r"-?\d+(\.\d+)?", re.ASCII).fullmatch


def properties_of(node: Node) -> frozenset[str]:
    """Returns the keys of the properties on which a rule depends."""
    if isinstance(node, (Comparison, Quantified)):
        return frozenset((node.property,))
    if isinstance(node, Negation):
        return properties_of(node.operand)
    return frozenset().union(*map(properties_of, node.operands))


def compile_rule(node: Node, keys: Sequence[str]) -> Predicate:
    """Returns the function of a rule. ``keys``: the properties whose values it is given."""
    if isinstance(node, Comparison):
        return _comparison(node, keys.index(node.property))
    if isinstance(node, Quantified):
        return _quantified(node, keys.index(node.property))
    if isinstance(node, Negation):
        return _negation(compile_rule(node.operand, keys))
    operands = [compile_rule(operand, keys) for operand in node.operands]
    return _conjunction(operands) if isinstance(node, Conjunction) else _disjunction(operands)


def _negation(operand: Predicate) -> Predicate:
    def holds(values: Sequence[Value]) -> bool:
        return not operand(values)

    return holds


def _conjunction(operands: list[Predicate]) -> Predicate:
    def holds(values: Sequence[Value]) -> bool:
        for operand in operands:  # noqa: SIM110 - a generator takes twice as long
            if not operand(values):
                return False
        return True

    return holds


def _disjunction(operands: list[Predicate]) -> Predicate:
    def holds(values: Sequence[Value]) -> bool:
        for operand in operands:  # noqa: SIM110
            if operand(values):
                return True
        return False

    return holds


def _quantified(node: Quantified, index: int) -> Predicate:
    condition = compile_rule(node.condition, (ITEM,))
    any_is_enough = node.quantifier == "any"

    def holds(values: Sequence[Value]) -> bool:
        value = values[index]
        items: tuple[str, ...] = ()
        if isinstance(value, str):
            items = (value,)
        elif value is not None:
            items = value
        for item in items:
            if condition((item,)) is any_is_enough:
                return any_is_enough
        return not any_is_enough

    return holds


def _comparison(node: Comparison, index: int) -> Predicate:
    positive = NEGATIVE.get(node.operator, node.operator)
    negated = positive != node.operator
    if not node.values:

        def is_null(values: Sequence[Value]) -> bool:
            return (values[index] is None) is not negated

        return is_null
    test = _test(positive, node.values)

    def holds(values: Sequence[Value]) -> bool:
        value = values[index]
        if isinstance(value, str):
            return test(value) is not negated
        if value is None:
            return negated
        for item in value:
            if test(item):
                return not negated
        return negated

    return holds


# -- tests of one text
def _test(operator: str, literals: tuple[Literal, ...]) -> Test:
    wanted = literals[0].text.casefold()
    if operator == "eq":
        return _equal(wanted)
    if operator == "startswith":
        return lambda value: value.casefold().startswith(wanted)
    if operator == "endswith":
        return lambda value: value.casefold().endswith(wanted)
    if operator == "contains":
        return lambda value: wanted in value.casefold()
    if operator == "match":
        return compile_pattern(literals[0].text)
    if operator == "in":
        choices = frozenset(literal.text.casefold() for literal in literals)
        return lambda value: value.casefold() in choices
    return _ordered(literals[0].text, 1 if operator == "ge" else -1)


def _equal(wanted: str) -> Test:
    moment = _moment(wanted)
    if moment is None:
        return lambda value: value.casefold() == wanted

    def same(value: str) -> bool:
        return value.casefold() == wanted or _moment(value) == moment

    return same


def _ordered(wanted: str, sign: int) -> Test:
    """Compares numbers as numbers, times as times, and all else as text."""
    text, number, moment = wanted.casefold(), _number(wanted), _moment(wanted)

    def ordered(value: str) -> bool:
        if number is not None and (own_number := _number(value)) is not None:
            return own_number >= number if sign > 0 else own_number <= number
        if moment is not None and (own_moment := _moment(value)) is not None:
            return own_moment >= moment if sign > 0 else own_moment <= moment
        own = value.casefold()
        return own >= text if sign > 0 else own <= text

    return ordered


def _number(text: str) -> float | None:
    return float(text) if _is_number(text) else None


def _moment(text: str) -> datetime | None:
    """Returns the time that the text is; without an offset, in UTC."""
    if len(text) < 10 or text[4:5] != "-":
        return None
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
