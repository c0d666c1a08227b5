"""The syntax tree of a membership rule, and its text.

Trees are immutable and compare by content. :func:`print_rule` gives a text that reads as the same
tree: ``parse_rule(print_rule(tree)) == tree``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a rule. ``quoted``: it is text; otherwise a number, a time, true or false."""

    text: str
    quoted: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """A property, or an item of one, compared with a value, a list of values, or null.

    ``property``: its key (see :mod:`engine.membership_rules.properties`); ``ITEM`` inside a
    quantified condition. ``operator``: without hyphen, in small letters. ``values``: one, or those
    of a list; none for null.
    """

    property: str
    operator: str
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Quantified:
    """A condition on the items of a property with many values. ``quantifier``: any or all."""

    property: str
    quantifier: str
    condition: Node


@dataclass(frozen=True, slots=True)
class Negation:
    """``-not``."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Conjunction:
    """``-and`` of two or more operands."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Disjunction:
    """``-or`` of two or more operands."""

    operands: tuple[Node, ...]


Node = Comparison | Quantified | Negation | Conjunction | Disjunction

ITEM: Final = "_"
"""The property of a comparison that is about one item of a collection."""
SPELLING: Final = {
    "eq": "-eq",
    "ne": "-ne",
    "startswith": "-startsWith",
    "notstartswith": "-notStartsWith",
    "endswith": "-endsWith",
    "notendswith": "-notEndsWith",
    "contains": "-contains",
    "notcontains": "-notContains",
    "match": "-match",
    "notmatch": "-notMatch",
    "in": "-in",
    "notin": "-notIn",
    "le": "-le",
    "ge": "-ge",
}
"""The operators that compare, as Entra spells them, by their names in small letters."""
LIST_OPERATORS: Final = frozenset(("in", "notin"))
ORDER_OPERATORS: Final = frozenset(("le", "ge"))
EQUALITY_OPERATORS: Final = frozenset(("eq", "ne"))


def print_rule(node: Node) -> str:
    """Returns the text of a rule."""
    if isinstance(node, Comparison):
        return _print_comparison(node)
    if isinstance(node, Quantified):
        return f"{_name(node.property)} -{node.quantifier} ({print_rule(node.condition)})"
    if isinstance(node, Negation):
        return f"-not {_operand(node.operand, Disjunction, Conjunction)}"
    if isinstance(node, Conjunction):
        return " -and ".join(_operand(o, Disjunction, Conjunction) for o in node.operands)
    return " -or ".join(_operand(o, Disjunction) for o in node.operands)


def _operand(node: Node, *looser: type) -> str:
    """Returns the text of an operand, in parentheses if it binds less than its operator."""
    return f"({print_rule(node)})" if isinstance(node, looser) else print_rule(node)


def _name(property: str) -> str:
    return property if property == ITEM else f"user.{property}"


def _print_comparison(node: Comparison) -> str:
    operator = SPELLING[node.operator]
    if node.operator in LIST_OPERATORS:
        operand = f"[{', '.join(map(_print_literal, node.values))}]"
    else:
        operand = _print_literal(node.values[0]) if node.values else "null"
    return f"{_name(node.property)} {operator} {operand}"


def _print_literal(literal: Literal) -> str:
    if not literal.quoted:
        return literal.text
    return '"' + literal.text.replace("`", "``").replace('"', '`"') + '"'
