"""Filters and searches as SQL. Every value is a parameter; the text is made of our own names only.

Conditions are never NULL, so that ``not`` is the opposite: a value that is absent equals null and
nothing else. Texts are compared without regard to the case of ASCII letters, as Graph does; ids are
Seatflow's own and compared exactly, unless they are GUIDs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from streams.console.graph.errors import bad_request, unsupported
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
from streams.console.graph.properties import Collection, Kind, Property

SIGNS = {"eq": "IS", "ne": "IS NOT", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str, type(None)),
    "text": (str, type(None)),
    "flag": (bool,),
    "number": (int,),
}
EXAMPLES = {"id": "text", "text": "text", "flag": "true or false", "number": "a whole number"}
_OF_SHAPE = (
    "coalesce(u.shape IN (SELECT z.shape FROM shapes z WHERE z.tenant = ?"
    " AND EXISTS (SELECT 1 FROM {} e{})), 0)"
)


class Sql(NamedTuple):
    """A condition and the values of its parameters, in their order."""

    text: str
    values: tuple[Any, ...] = ()


class Compiler:
    """Compiles filters of one kind of resource in one tenant."""

    def __init__(self, kind: Kind, tenant: str) -> None:
        self.kind, self.tenant = kind, tenant

    def compile(self, node: Node, scope: _Element | None = None) -> Sql:
        """Returns the SQL of a tree. ``scope``: the item of the ``any`` around it.

        Raises: GraphError.
        """
        match node:
            case And(parts):
                return self._joined(" AND ", parts, scope)
            case Or(parts):
                return self._joined(" OR ", parts, scope)
            case Not(part):
                inner = self.compile(part, scope)
                return Sql(f"NOT ({inner.text})", inner.values)
            case Compare(path, op, value):
                return compare(self._property(path, scope), "/".join(path), op, value)
            case Among(path, values):
                found = self._property(path, scope)
                each = [compare(found, "/".join(path), "eq", value) for value in values]
                return _join(" OR ", each)
            case Affix(function, path, value):
                return affix(self._property(path, scope), "/".join(path), function, value)
            case Size(path, op, number):
                collection = self._collection(path, scope)
                return Sql(f"coalesce({collection.size}, 0) {SIGNS[op]} ?", (number,))
            case AnyOf(path, variable, condition):
                return self._any(self._collection(path, scope), variable, condition)

    def _joined(self, word: str, parts: tuple[Node, ...], scope: _Element | None) -> Sql:
        return _join(word, [self.compile(part, scope) for part in parts])

    def _any(self, collection: Collection, variable: str, condition: Node | None) -> Sql:
        inner = Sql("")
        if condition is not None:
            inner = self.compile(condition, _Element(variable, collection))
            inner = Sql(f" WHERE {inner.text}", inner.values)
        if collection.by_shape:
            text = _OF_SHAPE.format(collection.elements, inner.text)
            return Sql(text, (self.tenant, *inner.values))
        return Sql(f"EXISTS (SELECT 1 FROM {collection.elements} e{inner.text})", inner.values)

    def _property(self, path: tuple[str, ...], scope: _Element | None) -> Property:
        if scope is not None:
            return scope.property(path)
        found = self.kind.find(path, "$filter")
        if isinstance(found, Collection):
            name = "/".join(path)
            raise bad_request(f"$filter: {name} is a list; use {name}/any(x:…) or {name}/$count.")
        return found

    def _collection(self, path: tuple[str, ...], scope: _Element | None) -> Collection:
        if scope is not None:
            raise unsupported("$filter: any(…) and $count within any(…) are not supported.")
        found = self.kind.find(path, "$filter")
        if isinstance(found, Property):
            raise bad_request(f"$filter: {'/'.join(path)} is no list.")
        return found


class _Element(NamedTuple):
    """The item that the variable of an ``any`` stands for."""

    variable: str
    collection: Collection

    def property(self, path: tuple[str, ...]) -> Property:
        """Returns the item, or a member of it, as a property. Raises: GraphError."""
        members = self.collection.members
        if path[0] != self.variable:
            raise bad_request(
                f"$filter: {'/'.join(path)!r} within any(…) must begin with its variable"
                f" {self.variable!r}."
            )
        if members is None:
            if len(path) > 1:
                raise bad_request(f"$filter: {self.variable} is text and has no members.")
            return Property("e.value", "text")
        by_lower_case = {name.lower(): name for name in members}
        name = by_lower_case.get("/".join(path[1:]).lower())
        if name is None:
            allowed = ", ".join(f"{self.variable}/{member}" for member in members)
            raise unsupported(f"$filter: within any(…) there are {allowed}.")
        return Property(f"e.value ->> '$.{name}'", members[name])


def _join(word: str, parts: list[Sql]) -> Sql:
    text = word.join(f"({part.text})" for part in parts)
    return Sql(text, tuple(value for part in parts for value in part.values))


def _collation(found: Property, value: Value) -> str:
    """Returns the collation by which a property is compared to a value."""
    if found.kind == "text":
        return " COLLATE NOCASE"
    if found.kind == "id" and isinstance(value, str) and GUID.fullmatch(value):
        return " COLLATE NOCASE"
    return ""


def compare(found: Property, name: str, op: str, value: Value) -> Sql:
    """Returns the SQL of a comparison. Raises: GraphError."""
    if type(value) not in PYTHON_TYPES[found.kind]:
        shown = orjson.dumps(value).decode()
        wanted = EXAMPLES[found.kind]
        raise bad_request(f"$filter: {name} is compared with {wanted}, not with {shown}.")
    if op not in ("eq", "ne"):
        if found.kind == "flag" or value is None:
            raise bad_request(f"$filter: {name} is compared with eq or ne here, not with {op}.")
        text = f"coalesce(({found.sql}) {SIGNS[op]} ?{_collation(found, value)}, 0)"
        return Sql(text, (value,))
    return Sql(f"({found.sql}) {SIGNS[op]} ?{_collation(found, value)}", (value,))


def affix(found: Property, name: str, function: str, value: str) -> Sql:
    """Returns the SQL of ``startswith`` and ``endswith``. Raises: GraphError."""
    if found.kind not in ("id", "text"):
        raise bad_request(f"$filter: {function} needs text, and {name} is none.")
    if value == "":
        return Sql(f"({found.sql}) IS NOT NULL")
    part = "1, length(?)" if function == "startswith" else "-length(?)"
    collation = " COLLATE NOCASE" if found.kind == "text" else ""
    return Sql(f"coalesce(substr({found.sql}, {part}) = ?{collation}, 0)", (value, value))
