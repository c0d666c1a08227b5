"""The web pages: server-rendered, and working without JavaScript."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from starlette.datastructures import UploadFile

from streams.console.api import commands
from streams.console.api import errors as api_errors
from streams.console.api.dependencies import SESSION_COOKIE, CurrentService
from streams.console.api.models import PathId
from streams.console.commands import definitions
from streams.console.commands.definitions import Command
from streams.console.pages import formatting
from streams.console.pages.server_sent_events import EventStreamLimiter, fragments
from streams.console.pages.session import (
    ROWS,
    BrowserSession,
    CurrentSession,
    LoginNeededError,
    Tenant,
    set_cookie,
    table,
)
from streams.console.read_model import queries, tenants
from streams.console.read_model.forecast import forecast, history
from streams.console.read_model.pagination import BadRequestError, count, page
from streams.console.whatif import explanation
from streams.console.whatif.process import WhatIfError, read_events, what_if

router = APIRouter(include_in_schema=False)
streams = EventStreamLimiter()


# --- overview ------------------------------------------------------------------------------------


@router.get("/")
def start(current: CurrentSession) -> Response:
    known = [t for t in tenants.tenants(current.db) if current.who.can_read(t)]
    if len(known) == 1:
        return current.keep(RedirectResponse(f"/t/{quote(known[0])}", 303))
    return current.page("tenants.html", **_all_tenants(current, known))


def _all_tenants(current: BrowserSession, known: list[str]) -> dict[str, Any]:
    rows = [
        {**tenants.tenant(current.db, id), **tenants.figures(current.db, id)} for id in known[:200]
    ]
    return {"rows": rows, "rates": current.service.rates(), "live": "/events"}


def _overview(current: BrowserSession, tenant: str) -> dict[str, Any]:
    db = current.db
    busiest = page(db, queries.SKUS, (tenant,), {}, 12, None, "consumedUnits desc").rows
    wanting = {"hasMembersWithLicenseErrors": "true"}
    groups = page(db, queries.GROUPS, (tenant,), wanting, 8, None, "membersWithErrors desc").rows
    letters = page(db, queries.DEAD_LETTERS, (), {}, 3).rows if current.who.tenants is None else []
    return {
        "about": tenants.tenant(db, tenant),
        "figures": tenants.figures(db, tenant),
        "skus": busiest,
        "skus_total": count(db, queries.SKUS, (tenant,), {}),
        "groups": groups,
        "letters": letters,
        "rates": current.service.rates(),
    }


@router.get("/t/{tenant}")
def overview(tenant: Tenant, current: CurrentSession) -> Response:
    live = f"/events?tenant={quote(tenant)}"
    return current.page("overview.html", tenant, **_overview(current, tenant), live=live)


@router.get("/events")
def events(
    current: CurrentSession, tenant: Annotated[str | None, Query(max_length=128)] = None
) -> Response:
    """What the overview shows, as it changes."""
    if tenant is not None:
        current.can_read(tenant)
    if streams.full:
        raise HTTPException(503, "Too many pages are open at once: close some.")
    cookie = current.request.cookies.get(SESSION_COOKIE)

    def render() -> str:
        if tenant is None:
            known = [t for t in tenants.tenants(current.db) if current.who.can_read(t)]
            return current.render("live_tenants.html", None, **_all_tenants(current, known))
        return current.render("live_overview.html", tenant, **_overview(current, tenant))

    def allowed() -> bool:
        return (
            current.cookie is not None or current.service.authenticator.session(cookie) is not None
        )

    body = fragments(streams, render, allowed)
    return StreamingResponse(body, media_type="text/event-stream")


# --- products, groups, users ---------------------------------------------------------------------


@router.get("/t/{tenant}/products")
def products(tenant: Tenant, current: CurrentSession) -> Response:
    now = datetime.now(UTC)
    shown = table(current, queries.SKUS, (tenant,), order="displayName")
    for row in shown["rows"]:
        points = history(current.db, tenant, row["skuId"], now)
        row["forecast"] = forecast(points, row["availableUnits"], now)
    return current.page("products.html", tenant, **shown)


@router.get("/t/{tenant}/products/{sku}")
def product(tenant: Tenant, sku: PathId, current: CurrentSession) -> Response:
    found = queries.sku(current.db, tenant, sku)
    if found is None:
        raise HTTPException(404, f"There is no product {sku!r} in {tenant!r}.")
    now = datetime.now(UTC)
    points = history(current.db, tenant, sku, now)
    return current.page(
        "product.html",
        tenant,
        sku=found,
        holders=queries.holders(current.db, tenant, sku),
        forecast=forecast(points, found["availableUnits"], now),
    )


@router.get("/t/{tenant}/groups")
def groups(tenant: Tenant, current: CurrentSession) -> Response:
    preset = {} if "deleted" in current.request.query_params else {"deleted": "false"}
    shown = table(current, queries.GROUPS, (tenant,), preset, "displayName")
    names = {x["skuId"] for row in shown["rows"] for x in row["assignedLicenses"]}
    return current.page(
        "groups.html", tenant, names=queries.names_of_skus(current.db, names), **shown
    )


@router.get("/t/{tenant}/groups/{group}")
async def group(
    tenant: Tenant, group: PathId, current: CurrentSession, op: str | None = None
) -> Response:
    found = queries.group(current.db, tenant, group)
    if found is None:
        raise HTTPException(404, f"There is no group {group!r} in {tenant!r}.")
    errors = page(current.db, queries.ERRORS, (tenant,), {"group": group}, ROWS)
    names = {x["skuId"] for x in found["assignedLicenses"]} | set(found["deferred"])
    log = page(current.db, queries.AUDIT, (tenant,), {"group": group}, 10).rows
    return current.page(
        "group.html",
        tenant,
        group=found,
        errors=errors.rows,
        more=errors.next is not None,
        names=queries.names_of_skus(current.db, names | formatting.skus_of(log)),
        log=log,
        outcome=await _outcome(current, tenant, op),
    )


@router.get("/t/{tenant}/users")
def users(tenant: Tenant, current: CurrentSession) -> Response:
    shown = table(current, queries.USERS, (tenant,))
    names = {x["skuId"] for row in shown["rows"] for x in row["assignedLicenses"]}
    return current.page(
        "users.html", tenant, names=queries.names_of_skus(current.db, names), **shown
    )


@router.get("/t/{tenant}/users/{user}")
async def user(
    tenant: Tenant, user: PathId, current: CurrentSession, op: str | None = None
) -> Response:
    found = queries.user(current.db, tenant, user)
    why = explanation.explain(current.db, tenant, user)
    if found is None or why is None:
        raise HTTPException(404, f"There is no user {user!r} in {tenant!r}.")
    log = page(current.db, queries.AUDIT, (tenant,), {"user": user}, 20).rows
    return current.page(
        "user.html",
        tenant,
        user=found,
        why=why,
        log=log,
        names=queries.names_of_skus(current.db, formatting.skus_of(log)),
        outcome=await _outcome(current, tenant, op),
    )


# --- errors, audit -------------------------------------------------------------------------------


@router.get("/t/{tenant}/errors")
def errors(tenant: Tenant, current: CurrentSession) -> Response:
    return current.page(
        "errors.html",
        tenant,
        causes=queries.error_causes(current.db, tenant),
        kinds=list(formatting.ERRORS),
        **table(current, queries.ERRORS, (tenant,)),
    )


@router.get("/t/{tenant}/audit")
def audit(tenant: Tenant, current: CurrentSession) -> Response:
    shown = table(current, queries.AUDIT, (tenant,))
    return current.page(
        "audit.html",
        tenant,
        names=queries.names_of_skus(current.db, formatting.skus_of(shown["rows"])),
        activities=queries.ACTIVITIES,
        **shown,
    )


# --- what if -------------------------------------------------------------------------------------


@router.get("/t/{tenant}/whatif")
def ask_what_if(tenant: Tenant, current: CurrentSession) -> Response:
    return current.page("whatif.html", tenant, text="", answer=None, problem=None)


@router.post("/t/{tenant}/whatif")
async def answer_what_if(tenant: Tenant, current: CurrentSession) -> Response:
    form = await current.request.form(max_files=1, max_fields=3, max_part_size=4 << 20)
    check_csrf(current, str(form.get("csrf", "")))
    text = str(form.get("events", ""))
    upload = form.get("file")
    if isinstance(upload, UploadFile) and upload.filename:
        text = (await upload.read()).decode(errors="replace")
    answer, problem = None, None
    try:
        answer = await what_if(current.service.store.path, tenant, read_events(text))
    except (WhatIfError, BadRequestError) as failed:
        problem = str(failed)
    status = 200 if problem is None else 400
    shown = {"text": text, "answer": answer, "problem": problem}
    return current.page("whatif.html", tenant, status, **shown)


# --- commands ------------------------------------------------------------------------------------


def check_csrf(current: BrowserSession, given: str) -> None:
    if not hmac.compare_digest(given.encode(), current.session.csrf.encode()):
        raise HTTPException(403, "The form is too old or not from this page: load it again.")


async def _execute(
    current: BrowserSession, tenant: str, csrf: str, command: Command, back: str
) -> Response:
    check_csrf(current, csrf)
    if not current.who.can_operate(tenant):
        message = f"{current.who.name} is a reader: this needs the role operator."
        raise HTTPException(403, message)
    operation = await commands.send(current.service, current.who, tenant, command)
    return current.keep(RedirectResponse(f"{back}?op={operation.id}", 303))


Csrf = Annotated[str, Form(max_length=200)]


@router.post("/t/{tenant}/groups/{group}/reprocess")
async def reprocess_group(
    tenant: Tenant, group: PathId, current: CurrentSession, csrf: Csrf
) -> Response:
    back = f"/t/{tenant}/groups/{group}"
    return await _execute(current, tenant, csrf, definitions.reprocess_group(group), back)


@router.post("/t/{tenant}/users/{user}/reprocess")
async def reprocess_user(
    tenant: Tenant, user: PathId, current: CurrentSession, csrf: Csrf
) -> Response:
    back = f"/t/{tenant}/users/{user}"
    return await _execute(current, tenant, csrf, definitions.reprocess_user(user), back)


async def _outcome(current: BrowserSession, tenant: str, op: str | None) -> dict[str, Any] | None:
    """What came of the command that led to this page."""
    if not op:
        return None
    operation = await current.service.dispatcher.operation(tenant, op[:128])
    return operation.to_json() if operation else None


# --- the rest ------------------------------------------------------------------------------------


@router.get("/login")
def login(request: Request, service: CurrentService) -> Response:
    if service.authenticator.open or service.authenticator.session(
        request.cookies.get(SESSION_COOKIE)
    ):
        return RedirectResponse("/", 303)
    return HTMLResponse(formatting.TEMPLATES.get_template("login.html").render(failed=False))


@router.post("/login")
def log_in(
    request: Request, service: CurrentService, token: Annotated[str, Form(max_length=500)]
) -> Response:
    cookie = None if service.authenticator.open else service.authenticator.log_in(token.strip())
    if cookie is None:
        return HTMLResponse(
            formatting.TEMPLATES.get_template("login.html").render(failed=True), 401
        )
    response = RedirectResponse("/", 303)
    set_cookie(request, response, cookie)
    return response


@router.post("/logout")
def log_out(current: CurrentSession, csrf: Csrf) -> Response:
    check_csrf(current, csrf)
    current.service.authenticator.log_out(current.request.cookies.get(SESSION_COOKIE))
    response = RedirectResponse("/", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/health")
def health(service: CurrentService) -> Response:
    found = service.health()
    return JSONResponse(found, 503 if found["status"] == "broken" else 200)


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def docs(current: CurrentSession) -> Response:
    spec = current.request.app.openapi()
    found = [
        {
            "parameters": [],
            **about,
            "method": method.upper(),
            "path": path,
            "body": _body(spec, about),
        }
        for path, methods in spec["paths"].items()
        for method, about in methods.items()
    ]
    return current.page("docs.html", spec=spec, operations=found)


def _body(spec: dict[str, Any], about: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of an operation's body."""
    if "requestBody" not in about:
        return None
    name = about["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    found: dict[str, Any] = spec["components"]["schemas"][name.rpartition("/")[2]]
    return found


# --- failures ------------------------------------------------------------------------------------

Handler = Callable[[Request, Any], Awaitable[Response]]


def _wants_html(request: Request) -> bool:
    path = request.url.path
    return not path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


async def on_http_error(request: Request, error: Any) -> Response:
    if not _wants_html(request):
        return await api_errors.on_http_error(request, error)
    return _failed(error.status_code, str(error.detail))


async def on_bad_request(request: Request, error: BadRequestError) -> Response:
    if not _wants_html(request):
        return await api_errors.on_bad_request(request, error)
    return _failed(400, f"{error}.")


def _failed(status: int, message: str) -> Response:
    template = formatting.TEMPLATES.get_template("failed.html")
    return HTMLResponse(template.render(status=status, message=message, back="/"), status)


async def on_login_needed(_request: Request, _error: LoginNeededError) -> Response:
    return RedirectResponse("/login", 303)
