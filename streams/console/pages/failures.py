"""Failures of pages: a page for browsers, Graph's form for everybody else."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from streams.console.api import errors as api_errors
from streams.console.pages import formatting
from streams.console.pages.session import LoginNeededError
from streams.console.read_model.pagination import BadRequestError


def _wants_html(request: Request) -> bool:
    path = request.url.path
    return not path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


async def on_http_error(request: Request, error: Any) -> Response:
    """Answers an HTTPException: a page for browsers, Graph's form otherwise."""
    if not _wants_html(request):
        return await api_errors.on_http_error(request, error)
    return _failed(error.status_code, str(error.detail))


async def on_bad_request(request: Request, error: BadRequestError) -> Response:
    """Answers a parameter that cannot be used."""
    if not _wants_html(request):
        return await api_errors.on_bad_request(request, error)
    return _failed(400, f"{error}.")


def _failed(status: int, message: str) -> Response:
    template = formatting.TEMPLATES.get_template("failed.html")
    return HTMLResponse(template.render(status=status, message=message, back="/"), status)


async def on_login_needed(_request: Request, _error: LoginNeededError) -> Response:
    """Leads to the login."""
    return RedirectResponse("/login", 303)
