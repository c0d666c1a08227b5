"""The HTTP API: Graph's shapes, under /v1. What a list can be filtered and sorted by is said in
``lists`` and ``queries``; the parameters in OpenAPI are made from there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from streams.console.api.models import ErrorBody, OrderBy, PathId, SkipToken, Top, WhatIfBody
from streams.console.read_model import queries, tenants
from streams.console.read_model.pagination import Listing, csv_lines, every, page
from streams.console.security.auth import Principal
from streams.console.service import Service
from streams.console.whatif import explanation
from streams.console.whatif.process import WhatIfError, what_if

REASONS = {
    400: "The request, or the rules, do not allow it.",
    401: "No token, or one that is not known.",
    403: "The token's role does not allow it.",
    404: "There is no such thing, or not for this token.",
    409: "It cannot be done as things are; the message says what to do.",
    413: "The request is too large.",
    422: "The question is too large to be answered.",
    429: "Too many requests.",
    503: "The broker does not answer.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in REASONS.items()
}
GONE_USER = "There is no user {0!r} in {1!r}."
router = APIRouter(prefix="/v1", responses=RESPONSES)


def service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def caller(request: Request) -> Principal:
    """Who asks: by bearer token, or anybody on a console that has no tokens."""
    authenticator = service(request).authenticator
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if authenticator.open:
        return authenticator.local
    principal = authenticator.bearer(token.strip()) if kind.lower() == "bearer" else None
    if principal is None and kind == "":
        session = authenticator.session(request.cookies.get("seatflow"))
        # Reading only: a change by cookie alone could come from held_by_others.
        if session is not None and request.method == "GET":
            return session[1]
    if principal is None:
        raise HTTPException(401, "A bearer token is needed, and this one is not known.")
    return principal


Caller = Annotated[Principal, Depends(caller)]
Svc = Annotated[Service, Depends(service)]


def reader(tenant: PathId, who: Caller, svc: Svc) -> str:
    """The tenant, which the caller may see. Another's is not there at all."""
    if not who.can_read(tenant) or not tenants.is_tenant(svc.store.read_connection(), tenant):
        raise HTTPException(404, f"There is no tenant {tenant!r}.")
    return tenant


def operator(tenant: PathId, who: Caller) -> Principal:
    if not who.can_read(tenant):
        raise HTTPException(404, f"There is no tenant {tenant!r}.")
    if not who.can_operate(tenant):
        raise HTTPException(403, f"{who.name} is a reader: this needs the role operator.")
    return who


Tenant = Annotated[str, Depends(reader)]
Operator = Annotated[Principal, Depends(operator)]


# --- lists ---------------------------------------------------------------------------------------


def answer_list(
    request: Request,
    listing: Listing,
    fixed: tuple[Any, ...],
    given: Mapping[str, str],
    top: int,
    cursor: str | None,
    order: str | None,
    form: str | None,
) -> Response:
    """A page of a list as JSON with ``@odata.nextLink``, or all of it as CSV."""
    store = service(request).store
    if form == "csv" or "text/csv" in request.headers.get("accept", ""):
        page(
            store.read_connection(), listing, fixed, given, 1, None, order
        )  # bad parameters, before it begins
        rows = every(store.read_connection, listing, fixed, given, order)
        name = request.url.path.rstrip("/").rpartition("/")[2] or "list"
        headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
        return StreamingResponse(csv_lines(listing, rows), media_type="text/csv", headers=headers)
    found = page(store.read_connection(), listing, fixed, given, top, cursor, order)
    body: dict[str, Any] = {"value": found.rows}
    if found.next:
        again = {**given, "$top": top, "$skiptoken": found.next}
        if order:
            again["$orderby"] = order
        url = request.url.replace(query=urlencode(again, safe="$"))
        body = {"@odata.nextLink": str(url), **body}
    return JSONResponse(body)


Fixed = Callable[[Service, dict[str, str]], tuple[Any, ...]]


def list_route(
    path: str, listing: Listing, summary: str, fixed: Fixed, preset: Mapping[str, str] | None = None
) -> None:
    """Adds a GET route whose parameters are the listing's filters."""
    names = {name: name.replace("-", "_") for name in listing.filters if name not in (preset or {})}

    def endpoint(**arguments: Any) -> Response:
        request, top = arguments.pop("request"), arguments.pop("top")
        cursor, order = arguments.pop("skiptoken"), arguments.pop("orderby")
        form, places = arguments.pop("form"), {}
        for name in ("tenant", "group"):
            if f"path_{name}" in arguments:
                places[name] = arguments.pop(f"path_{name}")
        given = dict(preset or {})
        given |= {n: arguments[f"q_{p}"] for n, p in names.items() if arguments[f"q_{p}"]}
        where = fixed(service(request), places)
        return answer_list(request, listing, where, given, top, cursor, order, form)

    parameters = [_parameter("request", Request)]
    if "{tenant}" in path:
        parameters.append(_parameter("path_tenant", Tenant))
    else:
        parameters.append(_parameter("_who", Annotated[None, Depends(everywhere)]))
    if "{group}" in path:
        parameters.append(_parameter("path_group", Annotated[str, Depends(group_of_path)]))
    for name, python in names.items():
        kind = Annotated[str | None, Query(alias=name, max_length=200)]
        parameters.append(_parameter(f"q_{python}", kind, None))
    parameters += [
        _parameter("top", Top, 100),
        _parameter("skiptoken", SkipToken, None),
        _parameter("orderby", OrderBy, None),
        _parameter(
            "form",
            Annotated[Literal["json", "csv"] | None, Query(alias="format", description="csv: all")],
            None,
        ),
    ]

    def call(**arguments: Any) -> Response:
        arguments.pop("_who", None)
        return endpoint(**arguments)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    sorts = ", ".join(listing.sorts)
    router.add_api_route(
        path,
        call,
        methods=["GET"],
        summary=summary,
        description=f"Sorted by `$orderby`: {sorts}.",
        response_class=JSONResponse,
        responses={200: {"content": {"text/csv": {}}}},
    )


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def everywhere(who: Caller) -> None:
    if who.tenants is not None:
        raise HTTPException(403, "Dead letters are of no one tenant: this needs a token for all.")


def group_of_path(tenant: Tenant, group: PathId, svc: Svc) -> str:
    if queries.group(svc.store.read_connection(), tenant, group) is None:
        raise HTTPException(404, f"There is no group {group!r} in {tenant!r}.")
    return group


def _tenant(_svc: Service, places: dict[str, str]) -> tuple[Any, ...]:
    return (places["tenant"],)


def _group(_svc: Service, places: dict[str, str]) -> tuple[Any, ...]:
    return (places["tenant"], places["group"])


list_route("/tenants/{tenant}/subscribedSkus", queries.SKUS, "Products and their seats", _tenant)
list_route("/tenants/{tenant}/users", queries.USERS, "Users and their licences", _tenant)
list_route("/tenants/{tenant}/groups", queries.GROUPS, "Groups and their progress", _tenant)
list_route("/tenants/{tenant}/groups/{group}/members", queries.MEMBERS, "Direct members", _group)
list_route("/tenants/{tenant}/errors", queries.ERRORS, "Open errors", _tenant)
list_route("/tenants/{tenant}/audit", queries.AUDIT, "The activity log", _tenant)
list_route("/deadLetters", queries.DEAD_LETTERS, "What could not be read", lambda *_: ())
list_route(
    "/tenants/{tenant}/groups/{group}/membersWithLicenseErrors",
    queries.MEMBERS_IN_ERROR,
    "Members with errors from this group",
    _group,
)


@router.get("/tenants", summary="The tenants that the caller may see")
def list_tenants(svc: Svc, who: Caller) -> dict[str, Any]:
    db = svc.store.read_connection()
    return {"value": [tenants.tenant(db, id) for id in tenants.tenants(db) if who.can_read(id)]}


# --- single things -------------------------------------------------------------------------------


@router.get("/tenants/{tenant}/users/{user}", summary="A user and every path of its licences")
def get_user(tenant: Tenant, user: PathId, svc: Svc) -> dict[str, Any]:
    return found_or_404(
        queries.user(svc.store.read_connection(), tenant, user), GONE_USER, user, tenant
    )


@router.get("/tenants/{tenant}/users/{user}/explain", summary="Why the user has it or lacks it")
def explain_user(
    tenant: Tenant,
    user: PathId,
    svc: Svc,
    sku: Annotated[str | None, Query(alias="skuId", max_length=128)] = None,
) -> dict[str, Any]:
    found = explanation.explain(svc.store.read_connection(), tenant, user, sku)
    return found_or_404(found, GONE_USER, user, tenant)


@router.get("/tenants/{tenant}/groups/{group}", summary="A group, its licences and its progress")
def get_group(tenant: Tenant, group: PathId, svc: Svc) -> dict[str, Any]:
    found = queries.group(svc.store.read_connection(), tenant, group)
    return found_or_404(found, "There is no group {0!r} in {1!r}.", group, tenant)


@router.get("/tenants/{tenant}/subscribedSkus/{skuId}", summary="A product and its seats")
def get_sku(tenant: Tenant, skuId: PathId, svc: Svc) -> dict[str, Any]:  # noqa: N803
    found = queries.sku(svc.store.read_connection(), tenant, skuId)
    return found_or_404(found, "There is no product {0!r} in {1!r}.", skuId, tenant)


def found_or_404(found: dict[str, Any] | None, message: str, *names: str) -> dict[str, Any]:
    if found is None:
        raise HTTPException(404, message.format(*names))
    return found


@router.get("/tenants/{tenant}/operations/{id}", summary="How a command is going")
async def get_operation(tenant: Tenant, id: PathId, svc: Svc) -> dict[str, Any]:
    operation = await svc.commands.operation(tenant, id)
    if operation is None:
        message = f"Nothing is known of {id!r}: it was never sent, or its result is too old."
        raise HTTPException(404, message)
    return operation.to_json()


@router.post("/tenants/{tenant}/whatif", summary="The outcome of events that are not applied")
async def post_whatif(tenant: Tenant, body: WhatIfBody, svc: Svc) -> dict[str, Any]:
    try:
        return await what_if(svc.store.path, tenant, body.events)
    except WhatIfError as failed:
        raise HTTPException(failed.status, str(failed)) from None
