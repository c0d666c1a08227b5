"""Pages of dead letters: the list, and a form that mends one and sends it again.

Dead letters are of no one tenant, so they need a token for all.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Response
from fastapi.responses import RedirectResponse

from streams.console.commands.dead_letters import Resending, resending
from streams.console.commands.producer import NotAcceptedError, UnconfirmedError
from streams.console.pages.session import BrowserSession, Csrf, CurrentSession, table
from streams.console.read_model import queries
from streams.console.whatif.process import WhatIfError, read_events, what_if
from streams.contract.rejection import CODES
from streams.ingest.dead_letters import Letter
from streams.runtime.errors import WorkerError

router = APIRouter(include_in_schema=False)
EXPIRED = (
    "The dead letter is not in its topic any more: retention has deleted it. Publish the event"
    " again from its source."
)
MAX_CHARACTERS = 2 << 20


def _of_all(current: CurrentSession) -> BrowserSession:
    if current.principal.tenants is not None:
        raise HTTPException(403, "Dead letters are of no one tenant: this needs a token for all.")
    return current


AllTenants = Annotated[BrowserSession, Depends(_of_all)]
Id = Annotated[int, Path(ge=1, le=1 << 62)]
Value = Annotated[str, Form(max_length=MAX_CHARACTERS)]
Key = Annotated[str, Form(max_length=1024)]


@router.get("/dead-letters")
def listed(current: AllTenants) -> Response:
    """The list, the latest first."""
    shown = table(current, queries.DEAD_LETTERS, ())
    return current.page("dead_letters.html", codes=CODES, **shown | {"csv": _CSV})


_CSV = "/v1/deadLetters?format=csv"


@router.get("/dead-letters/{id}")
async def one(id: Id, current: AllTenants) -> Response:
    """One dead letter: its reason, and its content to be mended."""
    row, letter = await _read(current, id)
    return _page(current, row, letter)


async def _read(current: BrowserSession, id: int) -> tuple[dict[str, Any], Letter | None]:
    row = queries.dead_letter(current.db, id)
    if row is None:
        raise HTTPException(404, "There is no such dead letter.")
    try:
        return row, await current.service.dispatcher.letters.read(row["letter"])
    except WorkerError as error:
        raise HTTPException(503, f"The dead letter cannot be read now: {error}.") from None


def _page(
    current: BrowserSession,
    row: dict[str, Any],
    letter: Letter | None,
    text: str | None = None,
    key: str | None = None,
    **more: Any,
) -> Response:
    if letter is not None:
        text = (letter.value or b"").decode(errors="replace") if text is None else text
        key = (letter.key or b"").decode(errors="replace") if key is None else key
    shown = {"problem": None, "made": None, "answer": None, "unknown": None, **more}
    status = 400 if shown["problem"] else 200
    return current.page(
        "dead_letter.html",
        None,
        status,
        row=row,
        letter=letter,
        expired=EXPIRED,
        text=text or "",
        key=key or "",
        may_send=current.principal.role == "operator",
        meaning=CODES.get(row["code"] or ""),
        **shown,
    )


@router.post("/dead-letters/{id}/preview")
async def preview(id: Id, current: AllTenants, csrf: Csrf, value: Value, key: Key = "") -> Response:
    """The outcome that the mended event would have, to be confirmed."""
    current.check_csrf(csrf)
    row, letter = await _read(current, id)
    if letter is None:
        return _page(current, row, None)
    value = value.replace("\r\n", "\n")
    made = resending(letter, value, key.strip())
    if isinstance(made, str):
        problem = f"It would be a dead letter again: {made}."
        return _page(current, row, letter, value, key, problem=problem)
    answer, unknown = await _outcome(current, made)
    return _page(current, row, letter, value, key, made=made, answer=answer, unknown=unknown)


async def _outcome(
    current: BrowserSession, made: Resending
) -> tuple[dict[str, Any] | None, str | None]:
    if not made.tenant or made.record.headers:
        return None, "It is computed for plain events of one tenant."
    try:
        events = read_events(made.record.value.decode())
        path, caller = current.service.store.path, current.principal.name
        return await what_if(path, made.tenant, events, caller), None
    except WhatIfError as error:
        return None, str(error)


@router.post("/dead-letters/{id}")
async def send(id: Id, current: AllTenants, csrf: Csrf, value: Value, key: Key = "") -> Response:
    """Sends the mended event, and leads to what came of it."""
    current.check_csrf(csrf)
    if current.principal.role != "operator":
        message = f"{current.principal.name} is a reader: this needs the role operator."
        raise HTTPException(403, message)
    row, letter = await _read(current, id)
    if letter is None:
        return _page(current, row, None)
    made = resending(letter, value.replace("\r\n", "\n"), key.strip())
    if isinstance(made, str):
        problem = f"It would be a dead letter again: {made}."
        return _page(current, row, letter, value, key, problem=problem)
    try:
        await current.service.dispatcher.resend(current.principal, made)
    except (NotAcceptedError, UnconfirmedError) as error:
        raise HTTPException(503, f"The broker did not take the event: {error}") from None
    return current.keep(RedirectResponse(_result_page(made), 303))


def _result_page(made: Resending) -> str:
    """Returns the page of the object that the event is about, with the outcome."""
    subject = quote(made.subject)
    kind = made.command.event_type.subject
    pages = {
        "user": f"users/{subject}",
        "group": f"groups/{subject}",
        "skuId": f"products/{subject}",
    }
    if not made.tenant or kind not in pages or made.type in ("user.deleted", "group.deleted"):
        return "/dead-letters"
    return f"/t/{quote(made.tenant)}/{pages[kind]}?op={quote(made.id)}"
