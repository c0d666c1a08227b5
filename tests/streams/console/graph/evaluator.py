"""A second reading of ``$filter``: over objects as they are shown, in plain Python, without SQL.

Also the generator of filters, and their spelling as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from streams.console.graph.filter_syntax import (
    GUID,
    Affix,
    Among,
    And,
    AnyOf,
    Compare,
    Node,
    Not,
    Or,
    Size,
    Value,
)

LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
IDS = ("id", "skuId", "assignedByGroup")


def folded(text: str) -> str:
    """Text without the case of its ASCII letters."""
    return text.translate(LOWER)


def prepared(name: str, value: Any, other: Any) -> tuple[Any, Any]:
    """Both sides of a comparison, folded where case does not count."""
    exact = name in IDS and not (isinstance(other, str) and GUID.fullmatch(other))
    if exact or not isinstance(other, str) or not isinstance(value, str):
        return value, other
    return folded(value), folded(other)


def compare(name: str, value: Any, op: str, other: Value) -> bool:
    value, other = prepared(name, value, other)
    if op in ("eq", "ne"):
        same = type(value) is type(other) and value == other
        return same is (op == "eq")
    if value is None or other is None:
        return False
    # SQLite compares texts by their UTF-8, which has the order of the code points.
    orders = {"gt": value > other, "ge": value >= other, "lt": value < other, "le": value <= other}
    return bool(orders[op])


def find(shown: Mapping[str, Any], path: tuple[str, ...], scope: Any) -> Any:
    if scope is None:
        found: Any = shown
        for step in path:
            found = found[step]
        return found
    return scope if len(path) == 1 else scope[path[1]]


def holds(node: Node, shown: Mapping[str, Any], scope: Any = None) -> bool:
    """True if the filter lets an object through."""
    match node:
        case And(parts):
            return all(holds(part, shown, scope) for part in parts)
        case Or(parts):
            return any(holds(part, shown, scope) for part in parts)
        case Not(part):
            return not holds(part, shown, scope)
        case Compare(path, op, value):
            return compare(path[-1], find(shown, path, scope), op, value)
        case Among(path, values):
            found = find(shown, path, scope)
            return any(compare(path[-1], found, "eq", value) for value in values)
        case Affix(function, path, value):
            found = find(shown, path, scope)
            if found is None:
                return False
            if path[-1] not in IDS:
                found, value = folded(found), folded(value)
            starts = found.startswith(value)
            return bool(starts if function == "startswith" else found.endswith(value))
        case Size(path, op, number):
            return compare("", len(find(shown, path, None)), op, number)
        case AnyOf(path, _, None):
            return bool(find(shown, path, None))
        case AnyOf(path, _, condition) if condition is not None:
            return any(holds(condition, shown, item) for item in find(shown, path, None))
    raise AssertionError(node)


# --- spelling ------------------------------------------------------------------------------------


def spelled_value(value: Value) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "null" if value is None else str(value).lower()


def spelled(node: Node) -> str:
    """A filter as a client writes it."""
    match node:
        case And(parts):
            return " and ".join(bracketed(part) for part in parts)
        case Or(parts):
            return " or ".join(bracketed(part) for part in parts)
        case Not(part):
            return f"not {bracketed(part)}"
        case Compare(path, op, value):
            return f"{'/'.join(path)} {op} {spelled_value(value)}"
        case Among(path, values):
            return f"{'/'.join(path)} in ({', '.join(map(spelled_value, values))})"
        case Affix(function, path, value):
            return f"{function}({'/'.join(path)}, {spelled_value(value)})"
        case Size(path, op, number):
            return f"{'/'.join(path)}/$count {op} {number}"
        case AnyOf(path, _, None):
            return f"{'/'.join(path)}/any()"
        case AnyOf(path, variable, condition) if condition is not None:
            return f"{'/'.join(path)}/any({variable}:{spelled(condition)})"
    raise AssertionError(node)


def bracketed(node: Node) -> str:
    return f"({spelled(node)})" if isinstance(node, And | Or | Not) else spelled(node)


# --- filters -------------------------------------------------------------------------------------

ORDERS = st.sampled_from(("eq", "ne", "gt", "ge", "lt", "le"))
EQUALITY = st.sampled_from(("eq", "ne"))


def texts_of(shown: list[dict[str, Any]]) -> list[str]:
    """The texts of objects and of their lists, and pieces of them."""
    found: set[str] = set()

    def visit(value: Any) -> None:
        if isinstance(value, str):
            found.update((value, value.upper(), value[:3], value[-3:]))
        elif isinstance(value, dict):
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(shown)
    return sorted(text for text in found if not re.search(r"\d{4}-\d\d-\d\dT", text))


def conditions(
    names: list[tuple[str, ...]], texts: st.SearchStrategy[str]
) -> st.SearchStrategy[Node]:
    """Comparisons of text properties."""
    path, value = st.sampled_from(names), st.one_of(texts, st.none())
    return st.one_of(
        st.builds(Compare, path, EQUALITY, value),
        st.builds(Compare, path, ORDERS, texts),
        st.builds(Among, path, st.lists(value, min_size=1, max_size=3).map(tuple)),
        st.builds(Affix, st.sampled_from(("startswith", "endswith")), path, texts),
    )


def combined(leaves: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """Trees over comparisons; no part of an ``and`` is an ``and``, since text cannot say that."""

    def more(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        parts = st.lists(nodes, min_size=2, max_size=3).map(tuple)
        return st.one_of(st.builds(And, parts), st.builds(Or, parts), st.builds(Not, nodes))

    return st.recursive(leaves, more, max_leaves=6)


def filters(
    shown: list[dict[str, Any]],
    properties: tuple[str, ...],
    collections: Mapping[str, tuple[str, ...]],
) -> st.SearchStrategy[Node]:
    """Filters of objects with these text properties, and lists with these members."""
    texts = st.one_of(
        st.sampled_from(texts_of(shown)),
        st.text(st.characters(exclude_characters="\0"), max_size=5),
    )
    leaves = [conditions([tuple(name.split("/")) for name in properties], texts)]
    for name, members in collections.items():
        path = st.just((name,))
        paths: list[tuple[str, ...]] = [("x", member) for member in members] or [("x",)]
        inner = st.one_of(st.none(), combined(conditions(paths, texts)))
        leaves.append(
            st.builds(
                lambda path, condition: AnyOf(path, "x" if condition else "", condition),
                path,
                inner,
            )
        )
        leaves.append(st.builds(Size, path, ORDERS, st.integers(-1, 3)))
    return combined(st.one_of(leaves))
