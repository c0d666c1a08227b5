"""The members of an event that the contract does not know: allowed, but often misspelt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from streams.contract.event_types import EVENT_TYPES, EventType
from streams.contract.schemas import EVENTS, Schema
from streams.runtime.nearest import nearest


class UnknownMember(NamedTuple):
    """A member that is ignored. ``path``: without indexes; ``meant``: the nearest known name."""

    path: str
    meant: str | None

    def __str__(self) -> str:
        return self.path + (f" (did you mean {self.meant}?)" if self.meant else "")


class _Shape(NamedTuple):
    names: frozenset[str]
    nested: Mapping[str, Any]  # the shapes of objects, and of the objects in lists


def unknown_members(event_type: EventType, body: Mapping[str, Any]) -> list[UnknownMember]:
    """Returns the unknown members of an event's body, those of nested objects included."""
    shape = _SHAPES[event_type.topic, event_type.name]
    if not shape.nested and body.keys() <= shape.names:
        return []
    return list(dict.fromkeys(_unknown(shape, body, "")))


def _unknown(shape: _Shape, body: Mapping[str, Any], at: str) -> Iterator[UnknownMember]:
    for name in body.keys() - shape.names:
        yield UnknownMember(at + name, nearest(name, shape.names))
    for name, inner in shape.nested.items():
        value = body.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _unknown(inner, each, f"{at}{name}.")


def _shape(schema: Schema) -> _Shape:
    members: Mapping[str, Schema] = schema["properties"]
    nested = {}
    for name, member in members.items():
        inner = member.get("items", member)
        if "properties" in inner:
            nested[name] = _shape(inner)
    return _Shape(frozenset(members), nested)


_SHAPES = {
    (event_type.topic, event_type.name): _shape(message.schema)
    for event_type, message in zip(EVENT_TYPES, EVENTS, strict=True)
}
