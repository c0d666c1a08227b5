"""SCIM 2.0 requests, checked: whole resources, patches, and the members that a patch names.

Shared by the two doors that SCIM comes through: files (``scim.py``) and HTTP (``http/scim.py``).
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from scim2_models import Context, Group, PatchOp, SCIMException

from streams.ingest.scim_resources import ENTRA, RESOURCES, members_of_group
from streams.runtime.errors import SenderError


class RequestError(SenderError):
    """A request from which no events can be built; the message is the reason."""


def resource_of(kind: str, data: Any) -> Any:
    """Returns a whole resource; ``kind``: "Users" or "Groups". Raises: RequestError."""
    resource = _valid(RESOURCES[kind], data, None)
    if not (resource.user_name if kind == "Users" else resource.display_name):
        raise RequestError(f"{'userName' if kind == 'Users' else 'displayName'} is missing")
    return resource


def patch_of(model: Any, data: Any) -> PatchOp[Any]:
    """Returns the operations of a PATCH of a ``model``. Raises: RequestError."""
    patch: PatchOp[Any] = _valid(PatchOp[model], data, Context.RESOURCE_PATCH_REQUEST)
    return patch


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
    return str(value_filter.value)


def _valid(model: Any, data: Any, context: Context | None) -> Any:
    if not isinstance(data, dict):
        raise RequestError("data is missing or not an object")
    try:
        return model.model_validate(data, scim_ctx=context, scim_policy=ENTRA)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise RequestError(f"{place}: {first['msg']}" if place else first["msg"]) from None
    except SCIMException as error:
        raise RequestError(str(error)) from None
