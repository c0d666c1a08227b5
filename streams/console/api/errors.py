"""Error responses in Graph's form: ``{"error": {"code", "message", "details"}}``."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from streams.console.read_model.pagination import BadRequestError
from streams.console.security.middleware import error_body, refusal_body

CODES = {
    400: "Request_BadRequest",
    401: "InvalidAuthenticationToken",
    403: "Authorization_RequestDenied",
    404: "Request_ResourceNotFound",
    405: "Request_MethodNotAllowed",
    409: "Request_Conflict",
    413: "RequestTooLarge",
    422: "Request_TooLarge",
    429: "TooManyRequests",
    503: "ServiceNotAvailable",
}


def http_error(status: int, message: str, headers: Any = None, path: str = "") -> Response:
    """Returns an error response, in the form of its path; 401 asks for a bearer token."""
    given = dict(headers or {})
    if status == 401:
        given["www-authenticate"] = "Bearer"
    body = refusal_body(path, CODES.get(status, "Error"), message)
    return JSONResponse(body, status, given)


async def on_http_error(request: Request, error: Any) -> Response:
    """Answers an HTTPException."""
    path = request.url.path
    return http_error(error.status_code, str(error.detail), error.headers, path)


async def on_bad_request(_request: Request, error: BadRequestError) -> Response:
    """Answers a parameter that cannot be used: 400."""
    return http_error(400, f"{error}.")


async def on_invalid(_request: Request, error: Any) -> Response:
    """Answers FastAPI's own validation errors: 400, with each of them in the details."""
    details = [
        {"code": e["type"], "target": ".".join(map(str, e["loc"])), "message": e["msg"]}
        for e in error.errors()
    ]
    first = details[0]
    message = f"{first['target']}: {first['message']}"
    return JSONResponse(error_body("Request_BadRequest", message, details), 400)
