"""Queries over HTTP: lists, single objects, explanations and what-if, in Graph's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from streams.console.api import parameters
from streams.console.api.dependencies import (
    KNOWN_PARAMETERS,
    NO_GROUP,
    NO_PRODUCT,
    NO_USER,
    RESPONSES,
    CurrentPrincipal,
    CurrentService,
    ExistingGroup,
    ReadableTenant,
    current_service,
    found_or_404,
    require_all_tenants,
)
from streams.console.api.models import PathId, WhatIfBody
from streams.console.api.parameters import ListParameters
from streams.console.read_model import licence_report, queries, tenants
from streams.console.read_model.pagination import Listing, csv_parts, every, page
from streams.console.whatif import explanation
from streams.console.whatif.process import WhatIfError, what_if

router = APIRouter(prefix="/v1", responses=RESPONSES, dependencies=[KNOWN_PARAMETERS])


# --- lists ---------------------------------------------------------------------------------------


def _list_response(
    request: Request,
    listing: Listing,
    fixed: tuple[Any, ...],
    query: ListParameters,
    preset: Mapping[str, str] | None = None,
) -> Response:
    """A page of a list as JSON with ``@odata.nextLink``, or all of it as CSV."""
    store, filters = current_service(request).store, {**(preset or {}), **query.filters()}
    if query.format == "csv" or "text/csv" in request.headers.get("accept", ""):
        # Bad parameters are refused here: once the stream has begun, it is too late.
        page(store.read_connection(), listing, fixed, filters, 1, None, query.orderby)
        rows = every(store.read_connection, listing, fixed, filters, query.orderby)
        name = request.url.path.rstrip("/").rpartition("/")[2] or "list"
        return _csv_response(name, csv_parts(listing.columns, rows))
    db = store.read_connection()
    found = page(db, listing, fixed, filters, query.top, query.skiptoken, query.orderby)
    body: dict[str, Any] = {"value": found.rows}
    if found.next:
        next_query = {**query.filters(), "$top": query.top, "$skiptoken": found.next}
        if query.orderby:
            next_query["$orderby"] = query.orderby
        body = {
            "@odata.nextLink": str(request.url.replace(query=urlencode(next_query, safe="$"))),
            **body,
        }
    return JSONResponse(body)


def _csv_response(name: str, parts: Iterator[str]) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(parts, media_type="text/csv", headers=headers)


def _list(listing: Listing, summary: str) -> dict[str, Any]:
    """Returns the OpenAPI description of a list."""
    return {
        "summary": summary,
        "description": f"Sorted by `$orderby`: {', '.join(listing.sorts)}.",
        "response_class": JSONResponse,
        "responses": {200: {"content": {"text/csv": {}}}},
    }


@router.get("/tenants/{tenant}/subscribedSkus", **_list(queries.SKUS, "Products and their seats"))
def list_skus(
    request: Request, tenant: ReadableTenant, query: Annotated[parameters.Skus, Query()]
) -> Response:
    """Products and their seats."""
    return _list_response(request, queries.SKUS, (tenant,), query)


@router.get("/tenants/{tenant}/users", **_list(queries.USERS, "Users and their licences"))
def list_users(
    request: Request, tenant: ReadableTenant, query: Annotated[parameters.Users, Query()]
) -> Response:
    """Users and their licences."""
    return _list_response(request, queries.USERS, (tenant,), query)


@router.get("/tenants/{tenant}/groups", **_list(queries.GROUPS, "Groups and their progress"))
def list_groups(
    request: Request, tenant: ReadableTenant, query: Annotated[parameters.Groups, Query()]
) -> Response:
    """Groups and their progress."""
    return _list_response(request, queries.GROUPS, (tenant,), query)


@router.get("/tenants/{tenant}/groups/{group}/members", **_list(queries.MEMBERS, "Direct members"))
def list_members(
    request: Request,
    tenant: ReadableTenant,
    group: ExistingGroup,
    query: Annotated[parameters.Members, Query()],
    service: CurrentService,
) -> Response:
    """Direct members of a group."""
    listing = queries.members_of(service.store.read_connection(), tenant, group)
    return _list_response(request, listing, (tenant, group), query)


@router.get("/tenants/{tenant}/errors", **_list(queries.ERRORS, "Open errors"))
def list_errors(
    request: Request, tenant: ReadableTenant, query: Annotated[parameters.Errors, Query()]
) -> Response:
    """Open errors."""
    return _list_response(request, queries.ERRORS, (tenant,), query)


@router.get("/tenants/{tenant}/audit", **_list(queries.AUDIT, "The activity log"))
def list_audit(
    request: Request, tenant: ReadableTenant, query: Annotated[parameters.Audit, Query()]
) -> Response:
    """The activity log."""
    return _list_response(request, queries.AUDIT, (tenant,), query)


@router.get(
    "/deadLetters",
    dependencies=[Depends(require_all_tenants)],
    **_list(queries.DEAD_LETTERS, "Input that could not be read"),
)
def list_dead_letters(
    request: Request, query: Annotated[parameters.DeadLetters, Query()]
) -> Response:
    """Input that could not be read."""
    return _list_response(request, queries.DEAD_LETTERS, (), query)


@router.get(
    "/tenants/{tenant}/groups/{group}/membersWithLicenseErrors",
    **_list(queries.MEMBERS_IN_ERROR, "Members with errors from this group"),
)
def list_members_in_error(
    request: Request,
    tenant: ReadableTenant,
    group: ExistingGroup,
    query: Annotated[parameters.MembersInError, Query()],
) -> Response:
    """Members with errors from this group."""
    return _list_response(request, queries.MEMBERS_IN_ERROR, (tenant, group), query)


@router.get("/tenants", summary="The tenants that the caller may read")
def list_tenants(
    request: Request,
    service: CurrentService,
    principal: CurrentPrincipal,
    query: Annotated[parameters.Tenants, Query()],
) -> dict[str, Any]:
    """The tenants that the caller may read, by their ids."""
    db = service.store.read_connection()
    known = tenants.tenants(db, principal.tenants, query.top + 1, query.skiptoken or "")
    shown = known[: query.top]
    body: dict[str, Any] = {"value": [tenants.tenant(db, id) for id in shown]}
    if len(known) > query.top:
        next_query = urlencode({"$top": query.top, "$skiptoken": shown[-1]}, safe="$")
        body = {"@odata.nextLink": str(request.url.replace(query=next_query)), **body}
    return body


@router.get(
    "/tenants/{tenant}/licences",
    summary="A row for each user and product, with names, as CSV",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}}},
)
def list_licences(
    tenant: ReadableTenant,
    asked: Annotated[parameters.LicenceReport, Query()],
    service: CurrentService,
) -> Response:
    """A row for each user and product: names, groups, state, and whether it uses a seat."""
    reading, filters = service.store.read_connection, asked.filters()
    page(reading(), queries.USERS, (tenant,), filters, 1)  # refuses bad parameters
    rows = licence_report.report(reading, tenant, filters)
    return _csv_response(f"licences-{tenant}", csv_parts(licence_report.COLUMNS, rows))


# --- single objects ------------------------------------------------------------------------------


@router.get("/tenants/{tenant}/users/{user}", summary="A user and every path of its licences")
def get_user(tenant: ReadableTenant, user: PathId, service: CurrentService) -> dict[str, Any]:
    """A user and every path of its licences."""
    found = queries.user(service.store.read_connection(), tenant, user)
    return found_or_404(found, NO_USER, user, tenant)


@router.get(
    "/tenants/{tenant}/users/{user}/explain",
    summary="Why a user has or lacks each licence, rule by rule",
)
def explain_user(
    tenant: ReadableTenant,
    user: PathId,
    service: CurrentService,
    sku: Annotated[str | None, Query(alias="skuId", max_length=128)] = None,
) -> dict[str, Any]:
    """Explains, rule by rule, why a user has or lacks each licence."""
    found = explanation.explain(service.store.read_connection(), tenant, user, sku)
    return found_or_404(found, NO_USER, user, tenant)


@router.get("/tenants/{tenant}/groups/{group}", summary="A group, its licences and its progress")
def get_group(tenant: ReadableTenant, group: PathId, service: CurrentService) -> dict[str, Any]:
    """A group, its licences and its progress."""
    found = queries.group(service.store.read_connection(), tenant, group)
    return found_or_404(found, NO_GROUP, group, tenant)


@router.get("/tenants/{tenant}/subscribedSkus/{skuId}", summary="A product and its seats")
def get_sku(
    tenant: ReadableTenant,
    skuId: PathId,  # noqa: N803
    service: CurrentService,
) -> dict[str, Any]:
    """A product and its seats."""
    found = queries.sku(service.store.read_connection(), tenant, skuId)
    return found_or_404(found, NO_PRODUCT, skuId, tenant)


@router.get("/tenants/{tenant}/operations/{id}", summary="The progress of a command")
async def get_operation(
    tenant: ReadableTenant, id: PathId, service: CurrentService
) -> dict[str, Any]:
    """The progress of a command."""
    operation = await service.dispatcher.operation(tenant, id)
    if operation is None:
        message = f"The operation {id!r} is unknown: it was never sent, or its result has expired."
        raise HTTPException(404, message)
    return operation.to_json()


@router.post("/tenants/{tenant}/whatif", summary="The outcome of events, without applying them")
async def post_what_if(
    tenant: ReadableTenant, body: WhatIfBody, service: CurrentService, principal: CurrentPrincipal
) -> dict[str, Any]:
    """The outcome of events, without applying them."""
    try:
        return await what_if(service.store.path, tenant, body.events, principal.name)
    except WhatIfError as failed:
        raise HTTPException(failed.status, str(failed)) from None
