"""CommandDispatcher over HTTP: each answers with what the processor made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse

from streams.console.api.models import AssignLicense, GroupBody, PathId, SubscriptionBody, UserBody
from streams.console.api.queries import GONE_USER, RESPONSES, Operator, Svc, found_or_404
from streams.console.commands import dispatcher
from streams.console.commands.dispatcher import Command, NotAvailableError, Operation, RefusedError
from streams.console.read_model import queries
from streams.console.security.auth import Principal
from streams.console.security.middleware import error_body
from streams.console.service import Service

RESULT = "@seatflow.operation"
LATER: dict[int | str, dict[str, Any]] = {
    202: {"description": "Sent, and not answered yet, or deferred: `Location` says where to ask."}
}
router = APIRouter(prefix="/v1", responses={**RESPONSES, **LATER})


async def execute(
    svc: Service, who: Principal, tenant: str, command: Command, show: Callable[[], Any]
) -> Response:
    """Runs a command; the answer is the processor's, or 202 with where to ask for it."""
    operation = await send(svc, who, tenant, command)
    if operation.status == "rejected":
        return rejection(operation)
    body = operation.to_json()
    if operation.status == "applied":
        shown = show()
        return JSONResponse({**shown, RESULT: body}) if shown else Response(status_code=204)
    url = f"/v1/tenants/{tenant}/operations/{operation.id}"
    return JSONResponse({RESULT: body}, 202, {"location": url, "retry-after": "1"})


async def send(svc: Service, who: Principal, tenant: str, command: Command) -> Operation:
    try:
        return await svc.commands.run(who, tenant, command)
    except RefusedError as refused:
        raise HTTPException(400, f"{refused}.") from None
    except NotAvailableError as error:
        raise HTTPException(503, str(error)) from None


def rejection(operation: Operation) -> Response:
    """The rule's own words in Graph's form."""
    found = operation.result or {}
    code, message = found.get("error") or "Rejected", found.get("message") or "It was rejected."
    details = [{"code": code, "target": found.get("skuId"), "message": message}]
    details[0] |= found.get("details") or {}
    body = {**error_body(code, message, details), RESULT: operation.to_json()}
    return JSONResponse(body, 404 if code == "UserNotFound" else 400)


Show = Callable[[], Any]


def _user(svc: Service, tenant: str, user: str) -> Show:
    return lambda: queries.user(svc.store.read_connection(), tenant, user)


def _group_shown(svc: Service, tenant: str, group: str) -> Show:
    return lambda: queries.group(svc.store.read_connection(), tenant, group)


def _nothing() -> None:
    return None


def _listed(body: AssignLicense) -> tuple[list[dict[str, Any]], list[str]]:
    return [item.model_dump() for item in body.addLicenses], body.removeLicenses


@router.post("/tenants/{tenant}/users/{user}/assignLicense", summary="Change direct licences")
async def assign_user(
    tenant: PathId, user: PathId, body: AssignLicense, svc: Svc, who: Operator
) -> Response:
    command = dispatcher.assign_user(tenant, user, *_listed(body))
    return await execute(svc, who, tenant, command, _user(svc, tenant, user))


@router.post(
    "/tenants/{tenant}/users/{user}/reprocessLicenseAssignment",
    summary="Try again what is in error",
)
async def reprocess_user(tenant: PathId, user: PathId, svc: Svc, who: Operator) -> Response:
    command = dispatcher.reprocess_user(tenant, user)
    return await execute(svc, who, tenant, command, _user(svc, tenant, user))


@router.post("/tenants/{tenant}/groups/{group}/assignLicense", summary="Change a group's licences")
async def assign_group(
    tenant: PathId, group: PathId, body: AssignLicense, svc: Svc, who: Operator
) -> Response:
    command = dispatcher.assign_group(tenant, group, *_listed(body))
    return await execute(svc, who, tenant, command, _group_shown(svc, tenant, group))


@router.post("/tenants/{tenant}/groups/{group}/reprocess", summary="Re-evaluate all members")
async def reprocess_group(tenant: PathId, group: PathId, svc: Svc, who: Operator) -> Response:
    command = dispatcher.reprocess_group(tenant, group)
    return await execute(svc, who, tenant, command, _group_shown(svc, tenant, group))


@router.put("/tenants/{tenant}/subscriptions/{skuId}", summary="Set the units bought")
async def put_subscription(
    tenant: PathId, skuId: PathId, body: SubscriptionBody, svc: Svc, who: Operator  # noqa: N803
) -> Response:  # fmt: skip
    command = dispatcher.put_subscription(tenant, skuId, body.prepaidUnits.model_dump())

    def show() -> Any:
        return queries.sku(svc.store.read_connection(), tenant, skuId)

    return await execute(svc, who, tenant, command, show)


@router.put("/tenants/{tenant}/users/{user}", summary="Create or change a user (a patch)")
async def put_user(
    tenant: PathId, user: PathId, body: UserBody, svc: Svc, who: Operator
) -> Response:
    command = dispatcher.put_user(tenant, user, body.model_dump(exclude_unset=True))
    return await execute(svc, who, tenant, command, _user(svc, tenant, user))


@router.delete("/tenants/{tenant}/users/{user}", summary="Delete a user", status_code=204)
async def delete_user(tenant: PathId, user: PathId, svc: Svc, who: Operator) -> Response:
    found_or_404(queries.user(svc.store.read_connection(), tenant, user), GONE_USER, user, tenant)
    return await execute(svc, who, tenant, dispatcher.delete_user(tenant, user), _nothing)


@router.put("/tenants/{tenant}/groups/{group}", summary="Create or change a group (a patch)")
async def put_group(
    tenant: PathId, group: PathId, body: GroupBody, svc: Svc, who: Operator
) -> Response:
    command = dispatcher.put_group(tenant, group, body.model_dump(exclude_unset=True))
    return await execute(svc, who, tenant, command, _group_shown(svc, tenant, group))


@router.delete("/tenants/{tenant}/groups/{group}", summary="Delete a group", status_code=204)
async def delete_group(
    tenant: PathId, group: PathId, svc: Svc, who: Operator, force: bool = False
) -> Response:
    """A group that has licences is not deleted, unless `force` removes them first."""
    found = queries.group(svc.store.read_connection(), tenant, group)
    if found is None or found["deleted"]:
        raise HTTPException(404, f"There is no group {group!r} in {tenant!r}.")
    skus = [licence["skuId"] for licence in found["assignedLicenses"]]
    if skus and not force:
        message = (
            f"The group still has {len(skus)} licence{'s' if skus[1:] else ''}: remove"
            f" {'them' if skus[1:] else 'it'} first, or delete with ?force=true, which does both."
        )
        raise HTTPException(409, message)
    if skus:
        removed = await send(svc, who, tenant, dispatcher.assign_group(tenant, group, [], skus))
        if removed.status == "rejected":
            return rejection(removed)
    return await execute(svc, who, tenant, dispatcher.delete_group(tenant, group), _nothing)


@router.put("/tenants/{tenant}/groups/{group}/members/{user}", summary="Add a member",
            status_code=204)  # fmt: skip
async def put_member(
    tenant: PathId, group: PathId, user: PathId, svc: Svc, who: Operator
) -> Response:
    command = dispatcher.put_member(tenant, group, user)
    return await execute(svc, who, tenant, command, _nothing)


@router.delete("/tenants/{tenant}/groups/{group}/members/{user}", summary="Remove a member",
               status_code=204)  # fmt: skip
async def delete_member(
    tenant: PathId, group: PathId, user: PathId, svc: Svc, who: Operator
) -> Response:
    command = dispatcher.delete_member(tenant, group, user)
    return await execute(svc, who, tenant, command, _nothing)
