"""SCIM 2.0 requests, checked: whole resources, patches, and the members that a patch names.

Shared by the two doors that SCIM comes through: files (``scim.py``) and HTTP (``http/scim.py``).
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from scim2_models import Context, Group, PatchOp, SCIMException

from streams.ingest.event_builder import normalized_id
from streams.ingest.scim_attributes import tolerant
from streams.ingest.scim_resources import ENTRA, RESOURCES, members_of_group
from streams.runtime.errors import SenderError


class RequestError(SenderError):
    """A request from which no events can be built; the message is the reason."""


def resource_of(kind: str, data: Any) -> Any:
    """Returns a whole resource; ``kind``: "Users" or "Groups". Raises: RequestError."""
    try:
        resource = _valid(RESOURCES[kind], data, None)
    except RequestError:
        resource = _valid(RESOURCES[kind], tolerant(kind, "POST", data), None)
    if not (resource.user_name if kind == "Users" else resource.display_name):
        raise RequestError(f"{'userName' if kind == 'Users' else 'displayName'} is missing")
    return resource


def patch_of(kind: str, data: Any, current: Any = None) -> PatchOp[Any]:
    """Returns the operations of a PATCH, each with a path. ``current``: as in ``tolerant``.

    Raises: RequestError.
    """
    body = tolerant(kind, "PATCH", data, current)
    model: Any = RESOURCES[kind]
    patch: PatchOp[Any] = _valid(PatchOp[model], body, Context.RESOURCE_PATCH_REQUEST)
    return patch


def apply_patch(patch: PatchOp[Any], resource: Any) -> None:
    """Applies a PATCH to a resource. Raises: RequestError."""
    try:
        with ENTRA:
            patch.patch(resource)
    except ValidationError as error:
        raise RequestError(_reason(error)) from None
    except SCIMException as error:
        cause = error.__cause__
        reason = _reason(cause) if isinstance(cause, ValidationError) else str(error)
        raise RequestError(reason) from None


def members_of(value: Any) -> dict[str, str | None]:
    """Returns the users, with their display names, in a value of ``members``, a list or one object.

    Raises: RequestError.
    """
    listed = value if isinstance(value, list) else [value]
    try:
        group = Group.model_validate({"members": listed}, scim_policy=ENTRA)
    except ValidationError:
        raise RequestError("a member is an object with a value, the id of a user") from None
    return members_of_group(group)


def filtered_member(value_filter: Any) -> str:
    """Returns the user that ``members[value eq "id"]`` names. Raises: RequestError."""
    attribute = str(getattr(getattr(value_filter, "attr_path", None), "attr", ""))
    if attribute.lower() != "value" or value_filter.op != "eq":
        raise RequestError('a filter of members must be [value eq "id"]')
    return str(normalized_id(value_filter.value))


def _valid(model: Any, data: Any, context: Context | None) -> Any:
    if not isinstance(data, dict):
        raise RequestError("data is missing or not an object")
    try:
        return model.model_validate(data, scim_ctx=context, scim_policy=ENTRA)
    except ValidationError as error:
        raise RequestError(_reason(error)) from None
    except SCIMException as error:
        raise RequestError(str(error)) from None


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(each) for each in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
