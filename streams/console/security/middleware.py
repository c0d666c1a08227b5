"""Checks before every request (host, origin, rate), and the headers of every response.

Plain ASGI: it costs little, and event streams pass through unbuffered.

Starlette's TrustedHostMiddleware is not used: it answers in plain text, while every error of the
console has Graph's form, and this one names the setting to change (SEATFLOW_HTTP_NAMES).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BYTES = 4 << 20
MOST_CLIENTS = 10_000
ADMISSION = "seatflow.admission"
"""Of a request's scope: charges a call within the request to the rate of its sender."""
SAFE = ("GET", "HEAD", "OPTIONS")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: our own forms would come without their origin.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
GRAPH_PATH = re.compile(r"/(?:[^/]+/)?(?:v1\.0|beta)(?:/|$)")
"""Of Graph's calls, whose errors have ``innerError``."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def error_body(code: str, message: str, details: Any = None) -> dict[str, Any]:
    """Returns an error in Graph's form."""
    return {"error": {"code": code, "message": message, "details": details or []}}


def refusal_body(path: str, code: str, message: str) -> dict[str, Any]:
    """Returns the body of a refusal, in the form that the calls of its path have."""
    if not GRAPH_PATH.match(path):
        return error_body(code, message)
    id = str(uuid.uuid4())
    return {"error": {"code": code, "message": message, "innerError": inner_error(id, id)}}


def inner_error(request_id: str, client_request_id: str) -> dict[str, str]:
    """Returns ``innerError`` of Graph's errors."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}",
        "request-id": request_id,
        "client-request-id": client_request_id,
    }


class RateLimiter:
    """A token bucket for each client: up to ``burst`` requests, refilled by ``rate`` a second.

    The library `limits` counts by windows, which let twice the rate through at their border; its
    storages are for several processes, and the console is one.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._level: dict[str, tuple[float, float]] = {}

    def allow(self, client: str) -> bool:
        """Takes a token; returns False if there is none left."""
        now = time.monotonic()
        level, at = self._level.get(client, (self.burst, now))
        level = min(self.burst, level + (now - at) * self.rate)
        if len(self._level) >= MOST_CLIENTS and client not in self._level:
            del self._level[next(iter(self._level))]
        self._level.pop(client, None)  # behind those that have not asked for longer
        self._level[client] = (max(0.0, level - 1), now)
        return level >= 1


class SecurityMiddleware:
    """Refuses requests by host, origin and rate, and adds the security headers.

    ``names``: host names by which the console is reached, in lower case; None: any.
    ``tls``: the console itself serves HTTPS.
    """

    def __init__(self, app: Any, names: frozenset[str] | None, tls: bool) -> None:
        self.app, self.names, self.tls = app, names, tls
        self.reads, self.changes = RateLimiter(100, 400), RateLimiter(10, 60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        safe = _with_headers(send, scope["path"], self.tls)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(safe, scope["path"], *refused)
            return
        await self.app(scope, receive, safe)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if self.names is not None and _name(host) not in self.names:
            # A page of another site can reach this port under a name of its own (DNS rebinding).
            return (
                400,
                "InvalidHost",
                "The console is not reached by this name: add it to SEATFLOW_HTTP_NAMES.",
            )
        if scope["method"] not in SAFE and not _same_origin(headers, host, scope["scheme"]):
            return 403, "CrossOrigin", "The request comes from a page of another origin."
        client = (scope.get("client") or ("",))[0]
        if not self._admit(client, scope["method"]):
            return 429, "TooManyRequests", "Too many requests; try again in a second."
        scope[ADMISSION] = partial(self._admit, client)
        return None

    def _admit(self, client: str, method: str) -> bool:
        """Charges a request to its sender's rate; returns False if there are too many."""
        return (self.reads if method in SAFE else self.changes).allow(client)


def admission(scope: Scope) -> Callable[[str], bool]:
    """Returns what charges further work of a request, by its method, to the sender's rate."""
    found: Callable[[str], bool] = scope[ADMISSION]
    return found


def _name(host: str) -> str:
    """Returns the name in a Host header: without the port, and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _same_origin(headers: dict[str, str], host: str, scheme: str) -> bool:
    """Returns True if a change comes from the console's own pages, or from no page at all.

    An origin is scheme, host and port: a page of http://host is another origin than https://host.
    Behind a proxy, the scheme is the one in X-Forwarded-Proto.
    """
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() == f"{scheme}://{host}".lower()


def _with_headers(send: Send, path: str, tls: bool) -> Send:
    extra = dict(HEADERS)
    extra["cache-control"] = "max-age=3600" if path.startswith("/static/") else "no-store"
    if tls:
        extra["strict-transport-security"] = "max-age=31536000"

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *((n.encode(), v.encode()) for n, v in extra.items() if n.encode() not in given),
            ]
        await send(message)

    return sending


async def _answer(send: Send, path: str, status: int, code: str, message: str) -> None:
    body = orjson.dumps(refusal_body(path, code, message))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
