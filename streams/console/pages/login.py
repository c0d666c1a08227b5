"""Login and logout: a browser's session is opened with a token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from streams.console.api.dependencies import SESSION_COOKIE, CurrentService
from streams.console.pages import formatting
from streams.console.pages.session import Csrf, CurrentSession, set_cookie

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login(request: Request, service: CurrentService) -> Response:
    """The form for a token."""
    if service.authenticator.open or service.authenticator.session(
        request.cookies.get(SESSION_COOKIE)
    ):
        return RedirectResponse("/", 303)
    return HTMLResponse(formatting.TEMPLATES.get_template("login.html").render(failed=False))


@router.post("/login")
def log_in(
    request: Request, service: CurrentService, token: Annotated[str, Form(max_length=500)]
) -> Response:
    """Opens a session with a token. Leads to the start, never to an address of the request."""
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
    """Ends the session."""
    current.check_csrf(csrf)
    current.service.authenticator.log_out(current.request.cookies.get(SESSION_COOKIE))
    response = RedirectResponse("/", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response
