"""The attributes of users in Microsoft Graph that membership rules and reports read (R27)."""

from __future__ import annotations

from typing import Any, Final

from engine.membership_rules.properties import (
    EXTENSION_ATTRIBUTES,
    GIVEN,
    OBJECT_ID,
    property_key,
    property_type,
)
from streams.ingest.graph_pages import Object, UnreadableError, list_of_texts, wrong_type

PHONES: Final = "businessPhones"
_PARTS: Final = {
    "onPremisesExtensionAttributes": EXTENSION_ATTRIBUTES,
    "employeeOrgData": ("costCenter", "division"),
}
"""Properties that are objects, and the attributes in them."""
_OTHER_FACTS: Final = frozenset((OBJECT_ID, *GIVEN))


def attributes(entity: Object) -> dict[str, Any]:
    """Returns the attributes that a user object has; null clears one. Raises: UnreadableError."""
    found: dict[str, Any] = {}
    for name, value in entity.items():
        if name == PHONES:
            found["telephoneNumber"] = next(iter(list_of_texts(entity, name)), None)
        elif name in _PARTS:
            if value is not None and not isinstance(value, dict):
                raise UnreadableError(wrong_type(name, value, "an object"))
            found |= _part(name, value)
        elif _is_attribute(name):
            found[name] = value
    return found


def _is_attribute(name: str) -> bool:
    key = property_key(name)
    return key not in _OTHER_FACTS and property_type(key) is not None


def _part(name: str, value: Object | None) -> dict[str, Any]:
    if value is None:
        return dict.fromkeys(_PARTS[name])
    return {each: value[each] for each in _PARTS[name] if each in value}


def selected(entity: Object) -> set[str]:
    """Returns the keys of the properties that a user object has, whatever their values are."""
    found = {property_key(name) for name in entity}
    if PHONES in entity:
        found.add("telephonenumber")
    for name in _PARTS.keys() & entity.keys():
        found |= {property_key(each) for each in _PARTS[name]}
    return found
