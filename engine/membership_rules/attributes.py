"""The attributes of users as a partition keeps them: small, and quick to change and to read.

Users who have the same attributes share one :class:`Shape`, their names; a user's own part is one
tuple of values. Short values are interned: a department is one string, whoever has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any, Final

from engine.membership_rules.compiler import Value

Attributes = tuple[Any, ...]
"""A :class:`Shape` and the values in its order; empty for a user without attributes."""

quote: Final[Callable[[str], str]] = encode_basestring
"""Returns a text as JSON, without escapes for what is not ASCII."""
MAX_INTERNED_CHARACTERS: Final = 64
MAX_INTERNED_VALUES: Final = 1 << 16
MAX_SHAPES: Final = 1 << 12
FIRST_VALUE: Final = 1


class Shape:
    """The names of attributes in their order, and the index of each in the tuple of values.

    ``quoted_names``: as in JSON, with the colon.
    """

    __slots__ = ("index", "names", "quoted_names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.quoted_names = tuple([f'"{name}": ' for name in names])
        self.index = {name: i + FIRST_VALUE for i, name in enumerate(names)}


def value_of(attributes: Attributes, name: str) -> Value:
    """Returns the value of an attribute, None if there is none."""
    if not attributes:
        return None
    shape: Shape = attributes[0]
    index = shape.index.get(name)
    if index is None:
        return None
    value: Value = attributes[index]
    return value


def as_dict(attributes: Attributes) -> dict[str, Any]:
    """Returns the attributes by name."""
    if not attributes:
        return {}
    shape: Shape = attributes[0]
    return dict(zip(shape.names, attributes[FIRST_VALUE:], strict=True))


def as_json(attributes: Attributes) -> str:
    """Returns the attributes as the text of a JSON object, faster than the encoder.

    The names need no escapes.
    """
    if not attributes:
        return "{}"
    shape: Shape = attributes[0]
    parts: list[str] = []
    for name, value in zip(shape.quoted_names, attributes[FIRST_VALUE:], strict=True):
        parts.append(name + quote(value) if isinstance(value, str) else name + _json_list(value))
    return f"{{{', '.join(parts)}}}"


def _json_list(items: tuple[str, ...]) -> str:
    return f"[{', '.join([quote(item) for item in items])}]"


class AttributeTable:
    """The shapes and the interned values of one partition. Both tables are bounded."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._values: dict[str, str] = {}

    def of(self, values: Mapping[str, Any]) -> Attributes:
        """Returns the attributes with these values by name, which are text or lists of text."""
        if not values:
            return ()
        names = tuple(sorted(values))
        shape = self._shapes.get(names)
        if shape is None:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            shape = self._shapes[names] = Shape(tuple([self._shared(name) for name in names]))
        return (shape, *[self._value(values[name]) for name in names])

    def patch(
        self, present: Attributes, changes: tuple[tuple[str, Value], ...]
    ) -> tuple[Attributes, list[str]]:
        """Returns the attributes after a patch, and the names of those that it changed."""
        changed: list[str] = []
        shape: Shape | None = present[0] if present else None
        values: list[Any] = list(present)
        reshape: dict[str, Any] | None = None
        for name, value in changes:
            index = None if shape is None else shape.index.get(name)
            before = None if index is None else values[index]
            if value == before:
                continue
            changed.append(name)
            if index is not None and value is not None:
                values[index] = self._value(value)
            else:
                if reshape is None:
                    reshape = {}
                reshape[name] = value
        if not changed:
            return present, changed
        if reshape is None:
            return tuple(values), changed
        whole = as_dict(tuple(values)) | reshape
        return self.of({name: value for name, value in whole.items() if value is not None}), changed

    def _value(self, value: Any) -> Value:
        if isinstance(value, str):
            return self._shared(value) if len(value) <= MAX_INTERNED_CHARACTERS else value
        return tuple([self._shared(item) for item in value])

    def _shared(self, text: str) -> str:
        found = self._values.get(text)
        if found is None:
            if len(self._values) >= MAX_INTERNED_VALUES:
                self._values.clear()
            found = self._values[text] = text
        return found
