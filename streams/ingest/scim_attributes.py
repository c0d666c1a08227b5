"""The SCIM attributes that Seatflow uses, and requests without invalid values of any other.

Providers send managers as text, photos without a URL, addresses of odd shape. An attribute that
gives no fact of a user or group must not make its request fail: where its value is invalid, it is
left out; where it is valid, the receiver stores it. Files and the receiver both apply
:func:`tolerant`, so the same request gives the same events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pydantic import ValidationError
from scim2_models import Context, PatchOp, SCIMException

from streams.ingest.scim_resources import (
    ENTRA,
    ENTRA_USER,
    GROUP,
    RESOURCES,
    USER,
    NamedFacts,
)

# Attribute in lower case -> the sub-attributes that are used, also in lower case.
_USED: dict[str, dict[str, tuple[str, ...]]] = {
    "Users": {
        "username": (),
        "displayname": (),
        "externalid": (),
        "name": ("formatted",),
        "emails": ("value", "type", "primary"),
        "addresses": ("country", "type", "primary"),
    },
    "Groups": {
        "displayname": (),
        "externalid": (),
        "members": ("value", "type", "display"),
    },
}
_USED_OF_ENTRA = ("usagelocation", "mailnickname", "proxyaddresses")
_COMPLEX = ("name",)
# What identifies a resource or describes it; never part of a change.
_IDENTITY = ("id", "schemas", "meta")
_ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
_SCHEMAS = {each.lower(): each for each in (USER, GROUP, _ENTERPRISE, ENTRA_USER)}
_path = re.compile(r"([A-Za-z$][\w$-]*)(?:\[(.*)\])?(?:\.([\w$-]+))?", re.DOTALL).fullmatch


# Attribute -> the fact it gives, and by which sub-attribute.
_FACT_OF = {
    "username": ("userPrincipalName", ""),
    "displayname": ("displayName", ""),
    "name": ("displayName", "formatted"),
    "emails": ("mail", "value"),
    "addresses": ("usageLocation", "country"),
    "usagelocation": ("usageLocation", ""),
    "mailnickname": ("mailNickname", ""),
    "proxyaddresses": ("proxyAddresses", ""),
}
# Filters that choose the value that gives the fact, where there are several.
_chooses = re.compile(r"work|primary", re.IGNORECASE).search


# A PATCH must have an operation (RFC 7644, 3.5.2); unknown attributes are ignored.
_NO_CHANGE = {"op": "add", "path": "urn:seatflow:ignored:nothing", "value": True}


class Target(NamedTuple):
    """The target of a PATCH operation, by its path; ``attribute`` and ``sub`` in lower case.

    ``schema``: in lower case, or empty. ``attribute`` is empty for a whole extension.
    """

    schema: str
    attribute: str
    filter: str
    sub: str

    @property
    def is_entra(self) -> bool:
        """Returns True if it is part of Entra's extension, or all of it."""
        return self.schema == ENTRA_USER.lower()


def target_of(path: str) -> Target | None:
    """Returns what a path names, or None if it cannot be read."""
    schema = ""
    if path.lower().startswith("urn:"):
        schema = next((s for s in _SCHEMAS if re.match(re.escape(s) + "(:|$)", path.lower())), "")
        if not schema:
            schema, _, path = path.lower().rpartition(":")
        else:
            path = path[len(schema) + 1 :]
            if not path:
                return Target(schema, "", "", "")
    found = _path(path)
    if found is None:
        return None
    return Target(schema, found[1].lower(), found[2] or "", (found[3] or "").lower())


def is_used(kind: str, target: Target) -> bool:
    """Returns whether a change of the target can change a fact."""
    if target.is_entra:
        return target.attribute in ("", *_USED_OF_ENTRA)
    subs = _USED[kind].get(target.attribute)
    if subs is None or target.schema not in ("", USER.lower(), GROUP.lower()):
        return False
    return not target.sub or target.sub in subs


def used_attributes(user: dict[str, Any]) -> dict[str, Any]:
    """Returns the attributes of a whole user that are used."""
    return {
        name: value
        for name, value in user.items()
        if name == ENTRA_USER or name.lower() in _USED["Users"]
    }


def named_facts(operations: Iterable[Any], known: bool) -> NamedFacts:
    """Returns the facts that the operations of a user's PATCH are about.

    ``known``: the user's other attributes are known, so what remains after a removal is known, too.
    """
    stated: set[str] = set()
    touched: set[str] = set()
    for operation in operations:
        target = target_of(str(operation.path or ""))
        if target is None or not is_used("Users", target):
            continue
        if not target.attribute:
            stated.update(("usageLocation", "mailNickname", "proxyAddresses"))
            continue
        if target.attribute in _FACT_OF:
            fact, source = _FACT_OF[target.attribute]
            states = _states(operation, target, source, known)
            (stated if states else touched).add(fact)
    return NamedFacts(frozenset(stated), frozenset(touched))


def _states(operation: Any, target: Target, source: str, known: bool) -> bool:
    """Returns whether an operation sets or removes what gives the fact."""
    if target.sub not in ("", source):
        return known and operation.op.value == "remove"
    if operation.op.value == "remove" or operation.value in (None, "", []):
        chosen = not target.filter or _chooses(target.filter) is not None
        return known or not source or (target.attribute != "name" and chosen)
    if not source or target.sub:
        return True
    values = operation.value if isinstance(operation.value, list) else [operation.value]
    return any(source in map(str.lower, one) for one in values if isinstance(one, dict))


def tolerant(kind: str, method: str, data: Any, current: Any = None) -> Any:
    """Returns the data of a request without invalid values of attributes that are not used.

    ``kind``: "Users" or "Groups". ``current``: the resource that a PATCH changes, if it is known.
    Data that is invalid in what is used is returned with that error, to be reported by validation.
    """
    if not isinstance(data, dict) or kind not in RESOURCES:
        return data
    if method == "PATCH":
        return _tolerant_patch(kind, data, current)
    return data if _is_valid(kind, data) else _tolerant_resource(kind, data)


def _is_valid(kind: str, data: dict[str, Any]) -> bool:
    try:
        RESOURCES[kind].model_validate(data, scim_policy=ENTRA)
    except (ValidationError, SCIMException):
        return False
    return True


def _tolerant_resource(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in data.items():
        target = target_of(name)
        if name.lower() == "schemas" and not _is_valid(kind, {name: value}):
            continue
        if _is_valid(kind, {name: value}) or name.lower() == "id" or target is None:
            kept[name] = value
        elif ":" in name and isinstance(value, dict):
            kept[name] = {sub: one for sub, one in value.items() if _stays(kind, name, sub, one)}
        elif is_used(kind, target):
            kept[name] = _used_part(kind, target, value)
    return {name: value for name, value in kept.items() if value is not NOTHING}


def _stays(kind: str, extension: str, sub: str, value: Any) -> bool:
    target = target_of(f"{extension}:{sub}")
    used = target is not None and is_used(kind, target)
    return used or _is_valid(kind, {extension: {sub: value}})


NOTHING: Any = object()
"""The rest of a value of which no part is used."""


def _used_part(kind: str, target: Target, value: Any) -> Any:
    """Returns the part of a value that is used, or NOTHING."""
    subs = _USED[kind].get(target.attribute, ())
    if not subs or target.sub or value in (None, "", []):
        return value
    if target.attribute in _COMPLEX or (target.filter and isinstance(value, dict)):
        return _used_members(subs, value)
    listed = value if isinstance(value, list) else [value]
    found = [part for each in listed if (part := _used_members(subs, each)) is not NOTHING]
    return found or NOTHING


def _used_members(subs: tuple[str, ...], value: Any) -> Any:
    """Returns one value with its used sub-attributes; the first in ``subs`` gives the fact."""
    if not isinstance(value, dict):
        # An address or a name as a text has no country or formatted name; others are in error.
        return NOTHING if subs[0] in ("country", "formatted") else value
    kept = {name: one for name, one in value.items() if name.lower() in subs}
    for name, one in list(kept.items()):
        lower = name.lower()
        if (lower in ("type", "display") and not isinstance(one, str)) or (
            lower == "primary" and str(one).lower() not in ("true", "false")
        ):
            del kept[name]
    return kept or NOTHING


def _tolerant_patch(kind: str, data: dict[str, Any], current: Any) -> dict[str, Any]:
    name = next((name for name in data if name.lower() == "operations"), None)
    if name is None or not isinstance(data[name], list):
        return data
    operations = [each for one in data[name] for each in _single_targets(one)]
    model = RESOURCES[kind]
    resource = model.model_construct() if current is None else current.model_copy(deep=True)
    if kind == "Users" and not _applies(model, resource, operations):
        resource = model.model_construct() if current is None else current.model_copy(deep=True)
        operations = [each for one in operations for each in _applicable(model, resource, one)]
    elif kind == "Groups":
        operations = [each for one in operations for each in _of_group(one)]
    return {**data, name: operations or ([_NO_CHANGE] if data[name] else [])}


def _single_targets(operation: Any) -> Iterator[Any]:
    """Yields an operation without a path as one operation for each attribute in its value."""
    value = operation.get("value") if isinstance(operation, dict) else None
    if not isinstance(value, dict) or operation.get("path"):
        yield operation
        return
    op = {name: one for name, one in operation.items() if name not in ("path", "value")}
    for name, one in value.items():
        target = target_of(name)
        if target is None or name.lower() in _IDENTITY:
            continue
        if target.schema and not target.attribute and isinstance(one, dict):
            for sub, each in one.items():
                yield {**op, "path": f"{name}:{sub}", "value": each}
        else:
            yield {**op, "path": name, "value": one}


def _applicable(model: Any, resource: Any, operation: Any) -> Iterator[Any]:
    """Yields the operation, or its used part; nothing if it is invalid and not used."""
    target = target_of(operation["path"]) if _has_path(operation) else None
    if _applies(model, resource, [operation]) or target is None or target.attribute == "id":
        yield operation
    elif is_used("Users", target):
        part = _used_part("Users", target, operation.get("value"))
        if part is not NOTHING:
            reduced = {**operation, "value": part}
            _applies(model, resource, [reduced])  # the next operation is tried on its result
            yield reduced


def _of_group(operation: Any) -> Iterator[Any]:
    target = target_of(operation["path"]) if _has_path(operation) else None
    if target is None:
        yield operation
    elif target.attribute == "id" or is_used("Groups", target):
        part = _used_part("Groups", target, operation.get("value"))
        yield operation if part is NOTHING else {**operation, "value": part}


def _has_path(operation: Any) -> bool:
    return isinstance(operation, dict) and isinstance(operation.get("path"), str)


def _applies(model: Any, resource: Any, operations: list[Any]) -> bool:
    """Applies operations to a resource; returns whether they are valid."""
    data = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations}
    try:
        patch = PatchOp[model].model_validate(
            data, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=ENTRA
        )
        with ENTRA:
            patch.patch(resource)
    except (ValidationError, SCIMException):
        return False
    return True
