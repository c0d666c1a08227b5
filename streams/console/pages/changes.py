"""The forms for administrators: each is filled in, previewed with its outcome, and confirmed.

A preview applies nothing, so readers may ask for one, too. What is sent is what was shown: if the
change has become another one meanwhile, its preview is shown again.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Path, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from streams.console.api.dependencies import send_all
from streams.console.changes.forms import FORMS
from streams.console.changes.proposal import ChangeError, Form, Given, Proposal
from streams.console.pages.session import BrowserSession, CurrentSession, Tenant
from streams.console.whatif.process import WhatIfError, what_if

router = APIRouter(include_in_schema=False)
MOST_FIELDS = 20_000
"""Checkboxes of one form: service plans, above all."""
OUR_FIELDS = ("csrf", "expect")


def _form(form: Annotated[str, Path(max_length=40)]) -> Form:
    found = FORMS.get(form)
    if found is None:
        raise HTTPException(404, f"There is no form {form!r}.")
    return found


CurrentForm = Annotated[Form, Depends(_form)]


async def _given(current: CurrentSession) -> Given:
    """Returns the fields of a form that was sent from this session's page."""
    form = await current.request.form(max_files=0, max_fields=MOST_FIELDS, max_part_size=4 << 20)
    values: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        values.setdefault(name, []).append(str(value))
    current.check_csrf(next(iter(values.get("csrf", ())), ""))
    return Given(values)


SentForm = Annotated[Given, Depends(_given)]


@router.get("/t/{tenant}/change/{form}")
def show(tenant: Tenant, form: CurrentForm, current: CurrentSession) -> Response:
    """A form with the present state, or the question which object is to be changed."""
    asked = current.request.query_params
    return _show(current, tenant, form, Given({name: asked.getlist(name) for name in asked}))


def _show(
    current: BrowserSession, tenant: str, form: Form, given: Given, problem: str | None = None
) -> Response:
    facts: dict[str, Any] | None = None
    if not form.subject or given.one(form.subject):
        try:
            facts = form.facts(current.db, tenant, given)
        except ChangeError as error:
            problem = problem or str(error)
    return current.page(
        "change.html",
        tenant,
        400 if problem else 200,
        form=form,
        given=given,
        facts=facts,
        problem=problem,
    )


@router.post("/t/{tenant}/change/{form}/preview")
async def preview(
    tenant: Tenant, form: CurrentForm, given: SentForm, current: CurrentSession
) -> Response:
    """The outcome that the change would have, to be confirmed."""
    return await _preview(current, tenant, form, given)


async def _preview(
    current: BrowserSession, tenant: str, form: Form, given: Given, changed: bool = False
) -> Response:
    answer, unknown = None, None
    try:
        made = await run_in_threadpool(form.propose, current.db, tenant, given)
        answer = await what_if(
            current.service.store.path, tenant, made.events(), current.principal.name
        )
    except ChangeError as error:
        return await run_in_threadpool(_show, current, tenant, form, given, str(error))
    except WhatIfError as error:
        if error.status == 400:  # the workers would refuse it
            return await run_in_threadpool(_show, current, tenant, form, given, str(error))
        unknown = str(error)
    fields = [
        (name, value)
        for name, values in given.values.items()
        if name not in OUR_FIELDS
        for value in values
    ]
    return current.page(
        "preview.html",
        tenant,
        form=form,
        proposal=made,
        answer=answer,
        unknown=unknown,
        changed=changed,
        fields=fields,
    )


@router.post("/t/{tenant}/change/{form}")
async def apply(
    tenant: Tenant, form: CurrentForm, given: SentForm, current: CurrentSession
) -> Response:
    """Makes the change that was confirmed, and leads to what came of it."""
    if not current.principal.can_operate(tenant):
        message = f"{current.principal.name} is a reader: this needs the role operator."
        raise HTTPException(403, message)
    try:
        made: Proposal = await run_in_threadpool(form.propose, current.db, tenant, given)
    except ChangeError as error:
        return await run_in_threadpool(_show, current, tenant, form, given, str(error))
    if made.digest != given.one("expect"):
        return await _preview(current, tenant, form, given, changed=True)
    operations = await send_all(current.service, current.principal, tenant, made.commands)
    batch = operations[0].id.partition(".")[0]
    query = f"op={batch}" + (f"&changes={len(operations)}" if len(operations) > 1 else "")
    return current.keep(RedirectResponse(f"/t/{quote(tenant)}{made.back}?{query}", 303))
