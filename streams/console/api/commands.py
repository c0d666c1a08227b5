"""Commands over HTTP: each response is the workers' answer to the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse

from streams.console.api.dependencies import (
    KNOWN_PARAMETERS,
    NO_GROUP,
    NO_USER,
    RESPONSES,
    CurrentService,
    Operator,
    found_or_404,
    send,
)
from streams.console.api.models import AssignLicense, GroupBody, PathId, SubscriptionBody, UserBody
from streams.console.commands import definitions
from streams.console.commands.definitions import Command
from streams.console.commands.dispatcher import Operation
from streams.console.read_model import queries
from streams.console.security.auth import Principal
from streams.console.security.middleware import error_body
from streams.console.service import Service

RESULT = "@seatflow.operation"
LATER: dict[int | str, dict[str, Any]] = {
    202: {"description": "Sent, but still pending or deferred; `Location` leads to its progress."}
}
router = APIRouter(prefix="/v1", responses={**RESPONSES, **LATER}, dependencies=[KNOWN_PARAMETERS])


async def execute(
    service: Service, principal: Principal, tenant: str, command: Command, show: Callable[[], Any]
) -> Response:
    """Runs a command; the response is the workers' answer, or 202 with a link to its progress.

    ``show`` returns the object to answer with after the change; None for 204.
    """
    operation = await send(service, principal, tenant, command)
    if operation.status == "rejected":
        return rejection(operation)
    body = operation.to_json()
    if operation.status == "applied":
        shown = show()
        return JSONResponse({**shown, RESULT: body}) if shown else Response(status_code=204)
    url = f"/v1/tenants/{tenant}/operations/{operation.id}"
    return JSONResponse({RESULT: body}, 202, {"location": url, "retry-after": "1"})


def rejection(operation: Operation) -> Response:
    """Returns a rejected operation as an error in Graph's form, in the rule's own words."""
    found = operation.result or {}
    code, message = found.get("error") or "Rejected", found.get("message") or "It was rejected."
    details = [{"code": code, "target": found.get("skuId"), "message": message}]
    details[0] |= found.get("details") or {}
    body = {**error_body(code, message, details), RESULT: operation.to_json()}
    return JSONResponse(body, 404 if code == "UserNotFound" else 400)


Show = Callable[[], Any]


def _user(service: Service, tenant: str, user: str) -> Show:
    return lambda: queries.user(service.store.read_connection(), tenant, user)


def _group_shown(service: Service, tenant: str, group: str) -> Show:
    return lambda: queries.group(service.store.read_connection(), tenant, group)


def _nothing() -> None:
    return None


def _listed(body: AssignLicense) -> tuple[list[dict[str, Any]], list[str]]:
    return [item.model_dump() for item in body.addLicenses], body.removeLicenses


@router.post("/tenants/{tenant}/users/{user}/assignLicense", summary="Change direct licences")
async def assign_user(
    tenant: PathId, user: PathId, body: AssignLicense, service: CurrentService, principal: Operator
) -> Response:
    """Changes a user's direct licences, all or none."""
    command = definitions.assign_user(user, *_listed(body))
    return await execute(service, principal, tenant, command, _user(service, tenant, user))


@router.post(
    "/tenants/{tenant}/users/{user}/reprocessLicenseAssignment",
    summary="Retry licences in error",
)
async def reprocess_user(
    tenant: PathId, user: PathId, service: CurrentService, principal: Operator
) -> Response:
    """Retries a user's licences that are in error."""
    command = definitions.reprocess_user(user)
    return await execute(service, principal, tenant, command, _user(service, tenant, user))


@router.post("/tenants/{tenant}/groups/{group}/assignLicense", summary="Change a group's licences")
async def assign_group(
    tenant: PathId, group: PathId, body: AssignLicense, service: CurrentService, principal: Operator
) -> Response:
    """Changes a group's licences."""
    command = definitions.assign_group(group, *_listed(body))
    return await execute(service, principal, tenant, command, _group_shown(service, tenant, group))


@router.post("/tenants/{tenant}/groups/{group}/reprocess", summary="Re-evaluate all members")
async def reprocess_group(
    tenant: PathId, group: PathId, service: CurrentService, principal: Operator
) -> Response:
    """Re-evaluates all members of a group."""
    command = definitions.reprocess_group(group)
    return await execute(service, principal, tenant, command, _group_shown(service, tenant, group))


@router.put("/tenants/{tenant}/subscriptions/{skuId}", summary="Set the units bought")
async def put_subscription(
    tenant: PathId,
    skuId: PathId,  # noqa: N803
    body: SubscriptionBody,
    service: CurrentService,
    principal: Operator,
) -> Response:
    """Sets the units bought of a product."""
    command = definitions.put_subscription(skuId, body.prepaidUnits.model_dump())

    def show() -> Any:
        """Returns the product as the read model has it after the command."""
        return queries.sku(service.store.read_connection(), tenant, skuId)

    return await execute(service, principal, tenant, command, show)


@router.put("/tenants/{tenant}/users/{user}", summary="Create or change a user (a patch)")
async def put_user(
    tenant: PathId, user: PathId, body: UserBody, service: CurrentService, principal: Operator
) -> Response:
    """Creates or patches a user: absent members stay, null clears."""
    command = definitions.put_user(user, body.model_dump(exclude_unset=True))
    return await execute(service, principal, tenant, command, _user(service, tenant, user))


@router.delete("/tenants/{tenant}/users/{user}", summary="Delete a user", status_code=204)
async def delete_user(
    tenant: PathId, user: PathId, service: CurrentService, principal: Operator
) -> Response:
    """Deletes a user; its seats become free."""
    found_or_404(queries.user(service.store.read_connection(), tenant, user), NO_USER, user, tenant)
    return await execute(service, principal, tenant, definitions.delete_user(user), _nothing)


@router.put("/tenants/{tenant}/groups/{group}", summary="Create or change a group (a patch)")
async def put_group(
    tenant: PathId, group: PathId, body: GroupBody, service: CurrentService, principal: Operator
) -> Response:
    """Creates or patches a group."""
    command = definitions.put_group(group, body.model_dump(exclude_unset=True))
    return await execute(service, principal, tenant, command, _group_shown(service, tenant, group))


@router.delete("/tenants/{tenant}/groups/{group}", summary="Delete a group", status_code=204)
async def delete_group(
    tenant: PathId, group: PathId, service: CurrentService, principal: Operator, force: bool = False
) -> Response:
    """A group that has licences is not deleted, unless `force` removes them first."""
    found = queries.group(service.store.read_connection(), tenant, group)
    found = found_or_404(None if found and found["deleted"] else found, NO_GROUP, group, tenant)
    skus = [licence["skuId"] for licence in found["assignedLicenses"]]
    if skus and not force:
        message = (
            f"The group still has {len(skus)} licence{'s' if skus[1:] else ''}: remove"
            f" {'them' if skus[1:] else 'it'} first, or delete with ?force=true, which does both."
        )
        raise HTTPException(409, message)
    if skus:
        removed = await send(service, principal, tenant, definitions.assign_group(group, [], skus))
        if removed.status == "rejected":
            return rejection(removed)
    return await execute(service, principal, tenant, definitions.delete_group(group), _nothing)


@router.put("/tenants/{tenant}/groups/{group}/members/{user}", summary="Add a member",
            status_code=204)  # fmt: skip
async def put_member(
    tenant: PathId, group: PathId, user: PathId, service: CurrentService, principal: Operator
) -> Response:
    """Adds a direct member to a group."""
    command = definitions.put_member(group, user)
    return await execute(service, principal, tenant, command, _nothing)


@router.delete("/tenants/{tenant}/groups/{group}/members/{user}", summary="Remove a member",
               status_code=204)  # fmt: skip
async def delete_member(
    tenant: PathId, group: PathId, user: PathId, service: CurrentService, principal: Operator
) -> Response:
    """Removes a direct member from a group."""
    command = definitions.delete_member(group, user)
    return await execute(service, principal, tenant, command, _nothing)
