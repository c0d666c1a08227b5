"""The web pages: server-rendered, and working without JavaScript."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from markupsafe import escape
from starlette.datastructures import UploadFile

from streams.console.api.models import PathId
from streams.console.changes.forms import FORMS
from streams.console.commands.dispatcher import batch_ids
from streams.console.pages import formatting
from streams.console.pages.server_sent_events import EventStreamLimiter, fragments
from streams.console.pages.session import (
    ROWS,
    BrowserSession,
    CurrentSession,
    Tenant,
    table,
)
from streams.console.read_model import queries, tenants
from streams.console.read_model.causes import cause_of
from streams.console.read_model.forecast import forecast, history
from streams.console.read_model.pagination import BadRequestError, count, page
from streams.console.whatif import explanation
from streams.console.whatif.process import TooManyQuestionsError, WhatIfError, read_events, what_if

router = APIRouter(include_in_schema=False)
WORST_FIRST = ("rejected", "pending", "deferred", "applied")
streams = EventStreamLimiter()
MOST_TENANTS = 100
"""Of a page of tenants: each costs a few counts."""


# --- overview ------------------------------------------------------------------------------------


@router.get("/")
def start(current: CurrentSession) -> Response:
    """The list of tenants, or the overview of the only one."""
    after = current.request.query_params.get("after", "")[:128]
    known = current.tenants(MOST_TENANTS + 1, after)
    if len(known) == 1 and not after:
        return current.keep(RedirectResponse(f"/t/{quote(known[0])}", 303))
    return current.page("tenants.html", **_all_tenants(current, known, after))


def _all_tenants(current: BrowserSession, known: list[str], after: str) -> dict[str, Any]:
    rows = [
        {**tenants.tenant(current.db, id), **tenants.figures(current.db, id)}
        for id in known[:MOST_TENANTS]
    ]
    following = f"/?after={quote(rows[-1]['id'])}" if len(known) > MOST_TENANTS else None
    live = f"/events?after={quote(after)}" if after else "/events"
    return {
        "rows": rows,
        "rates": current.service.rates(),
        "live": live,
        "next": following,
        "first": "/" if after else None,
    }


def _overview(current: BrowserSession, tenant: str) -> dict[str, Any]:
    db = current.db
    busiest = page(db, queries.SKUS, (tenant,), {}, 12, None, "consumedUnits desc").rows
    wanting = {"hasMembersWithLicenseErrors": "true"}
    groups = page(db, queries.GROUPS, (tenant,), wanting, 8, None, "membersWithErrors desc").rows
    letters = (
        page(db, queries.DEAD_LETTERS, (), {}, 3).rows if current.principal.tenants is None else []
    )
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
    """A tenant's overview."""
    live = f"/events?tenant={quote(tenant)}"
    return current.page("overview.html", tenant, **_overview(current, tenant), live=live)


@router.get("/events")
def events(
    current: CurrentSession,
    tenant: Annotated[str | None, Query(max_length=128)] = None,
    after: Annotated[str, Query(max_length=128)] = "",
) -> Response:
    """The overview as server-sent events."""
    if tenant is not None:
        current.require_tenant(tenant)
    caller = current.principal.name
    if streams.is_full(caller):
        raise HTTPException(503, "Too many live pages are open; close some.")

    def render() -> str:
        if tenant is None:
            known = current.tenants(MOST_TENANTS + 1, after)
            return current.render("live_tenants.html", None, **_all_tenants(current, known, after))
        return current.render("live_overview.html", tenant, **_overview(current, tenant))

    def allowed() -> bool:
        """Returns True as long as the session lasts and its token has the tenant."""
        return current.renew() and (tenant is None or current.principal.can_read(tenant))

    body = fragments(streams, caller, render, allowed)
    return StreamingResponse(body, media_type="text/event-stream")


MOST_CHANGES = 500


async def _outcome(
    tenant: Tenant,
    current: CurrentSession,
    op: str | None = None,
    changes: Annotated[int, Query(ge=1, le=MOST_CHANGES)] = 1,
) -> dict[str, Any] | None:
    """Returns the outcome of the commands that led to this page, taken together."""
    if not op:
        return None
    found = await current.service.dispatcher.operations(tenant, batch_ids(op[:128], changes))
    if not found:
        return None
    statuses = Counter(each.status for each in found)
    worst = next(status for status in WORST_FIRST if statuses[status])
    told = next(each for each in found if each.status == worst).to_json()
    return {**told, "cause": op[:128] if changes == 1 else None, "statuses": statuses}


Outcome = Annotated[dict[str, Any] | None, Depends(_outcome)]


# --- products, groups, users ---------------------------------------------------------------------


@router.get("/t/{tenant}/products")
def products(tenant: Tenant, current: CurrentSession) -> Response:
    """A tenant's products."""
    now = datetime.now(UTC)
    shown = table(current, queries.SKUS, (tenant,), order="displayName")
    for row in shown["rows"]:
        points = history(current.db, tenant, row["skuId"], now)
        row["forecast"] = forecast(points, row["availableUnits"], now)
    return current.page("products.html", tenant, **shown)


@router.get("/t/{tenant}/products/{sku}")
def product(tenant: Tenant, sku: PathId, current: CurrentSession, outcome: Outcome) -> Response:
    """A product: its seats, forecast, holders and plans."""
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
        outcome=outcome,
    )


@router.get("/t/{tenant}/groups")
def groups(tenant: Tenant, current: CurrentSession) -> Response:
    """A tenant's groups."""
    preset = {} if "deleted" in current.request.query_params else {"deleted": "false"}
    shown = table(current, queries.GROUPS, (tenant,), preset, "displayName")
    return current.page("groups.html", tenant, **shown)


@router.get("/t/{tenant}/groups/{group}")
def group(tenant: Tenant, group: PathId, current: CurrentSession, outcome: Outcome) -> Response:
    """A group: its progress, licences, members in error and history."""
    found = queries.group(current.db, tenant, group)
    if found is None:
        raise HTTPException(404, f"There is no group {group!r} in {tenant!r}.")
    errors = page(current.db, queries.ERRORS, (tenant,), {"group": group}, ROWS)
    log = _with_causes(current, tenant, {"group": group}, 10)
    return current.page(
        "group.html",
        tenant,
        group=found,
        errors=errors.rows,
        more=errors.next is not None,
        log=log,
        outcome=outcome,
    )


@router.get("/t/{tenant}/users")
def users(tenant: Tenant, current: CurrentSession, outcome: Outcome) -> Response:
    """A tenant's users."""
    shown = table(current, queries.USERS, (tenant,))
    return current.page("users.html", tenant, outcome=outcome, **shown)


def _with_causes(
    current: BrowserSession, tenant: str, of: dict[str, str], most: int
) -> list[dict[str, Any]]:
    """Returns the latest audit records of a user or group, each with its cause."""
    rows = page(current.db, queries.AUDIT, (tenant,), of, most).rows
    return [{**row, "cause": cause_of(current.db, tenant, row)} for row in rows]


@router.get("/t/{tenant}/users/{user}")
def user(tenant: Tenant, user: PathId, current: CurrentSession, outcome: Outcome) -> Response:
    """A user: licences with their explanations, and history."""
    found = queries.user(current.db, tenant, user)
    why = explanation.explain(current.db, tenant, user)
    if found is None or why is None:
        raise HTTPException(404, f"There is no user {user!r} in {tenant!r}.")
    log = _with_causes(current, tenant, {"user": user}, 20)
    return current.page(
        "user.html",
        tenant,
        user=found,
        why=why,
        log=log,
        outcome=outcome,
    )


# --- errors, audit -------------------------------------------------------------------------------


@router.get("/t/{tenant}/errors")
def errors(tenant: Tenant, current: CurrentSession) -> Response:
    """Open errors, by cause and one by one."""
    return current.page(
        "errors.html",
        tenant,
        causes=queries.error_causes(current.db, tenant),
        kinds=list(formatting.ERRORS),
        **table(current, queries.ERRORS, (tenant,)),
    )


@router.get("/t/{tenant}/audit")
def audit(tenant: Tenant, current: CurrentSession) -> Response:
    """The activity log."""
    shown = table(current, queries.AUDIT, (tenant,))
    return current.page(
        "audit.html",
        tenant,
        activities=queries.ACTIVITIES,
        **shown,
    )


# --- what if -------------------------------------------------------------------------------------


@router.get("/t/{tenant}/whatif")
def ask_what_if(tenant: Tenant, current: CurrentSession) -> Response:
    """The form for what-if events."""
    forms = FORMS.values()
    return current.page("whatif.html", tenant, text="", answer=None, problem=None, forms=forms)


@router.post("/t/{tenant}/whatif")
async def answer_what_if(tenant: Tenant, current: CurrentSession) -> Response:
    """The outcome of what-if events, pasted or uploaded."""
    form = await current.request.form(max_files=1, max_fields=3, max_part_size=4 << 20)
    current.check_csrf(str(form.get("csrf", "")))
    text = str(form.get("events", ""))
    upload = form.get("file")
    if isinstance(upload, UploadFile) and upload.filename:
        text = (await upload.read()).decode(errors="replace")
    answer, problem, status = None, None, 200
    try:
        events = read_events(text)
        caller = current.principal.name
        answer = await what_if(current.service.store.path, tenant, events, caller)
    except (WhatIfError, BadRequestError) as failed:
        problem = str(failed)
        status = 429 if isinstance(failed, TooManyQuestionsError) else 400
    # As markup, which stays as it is: the text may be sent again.
    shown = {"text": escape(text), "answer": answer, "problem": problem, "forms": FORMS.values()}
    return current.page("whatif.html", tenant, status, **shown)
