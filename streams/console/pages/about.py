"""Pages about the console itself: the rules, and the HTTP API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from streams.console.pages.rules import RULES
from streams.console.pages.session import CurrentSession

router = APIRouter(include_in_schema=False)


@router.get("/rules")
def rules(current: CurrentSession) -> Response:
    """The licensing rules in a sentence each."""
    return current.page("rules.html", rules=RULES)


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    """The OpenAPI description."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def docs(current: CurrentSession) -> Response:
    """The HTTP API for people."""
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
    """Returns the schema of an operation's body."""
    if "requestBody" not in about:
        return None
    name = about["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    found: dict[str, Any] = spec["components"]["schemas"][name.rpartition("/")[2]]
    return found
