"""The console's answers to the request guard: callers by token or session, and kinds of work."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from starlette.requests import cookie_parser

from streams.console.security.auth import SESSION_COOKIE, Authenticator
from streams.console.security.middleware import MOST_BYTES, refusal_body
from streams.http_server.guard import (
    NO_TOKEN,
    Caller,
    Refusal,
    Scope,
    Work,
    address_of,
    header,
)

LOGIN_BYTES = 4096
READ_SECONDS = 30.0
EVENTS = "/events"
BATCH = "/$batch"
QUESTIONS = ("/whatif", "/preview")
"""Ends of the paths that are asked for an outcome and apply nothing."""
LIGHT = ("/health", "/metrics", "/login", "/openapi.json", "/static/")
"""Paths that cost next to nothing: they wait for no other read of their caller."""


class ConsolePolicy:
    """``authenticator``: returns the console's own; it exists once the console has started."""

    def __init__(self, authenticator: Callable[[], Authenticator]) -> None:
        self._authenticator = authenticator

    def caller(self, scope: Scope) -> Caller:
        """Returns the holder of the token or session; the address of anybody else."""
        authenticator = self._authenticator()
        if authenticator.open:
            return Caller(authenticator.local.name, True, MOST_BYTES)
        kind, _, token = (header(scope, b"authorization") or "").partition(" ")
        if kind.lower() == "bearer":
            principal = authenticator.bearer(token.strip())
        else:
            cookie = cookie_parser(header(scope, b"cookie") or "").get(SESSION_COOKIE)
            session = authenticator.session(cookie)
            principal = session[1] if session else None
        if principal is not None:
            return Caller(principal.name, True, MOST_BYTES)
        login = scope["path"] == "/login"
        return Caller(address_of(scope), False, LOGIN_BYTES if login else None)

    def work(self, scope: Scope) -> Work:
        """Returns the kind of a request: a stream, a what-if question, a read or a command."""
        path = scope["path"]
        if path == EVENTS:
            return Work(None, cancellable=True)  # bounded in number
        if path.endswith(BATCH):
            # Its reads bound themselves; it may have changes, which are carried out once sent.
            return Work(None, cancellable=False, is_read=True)
        if scope["method"] not in ("GET", "HEAD"):
            # A command is carried out once it is sent; its own timeouts bound it.
            return Work(None, cancellable=path.endswith(QUESTIONS))
        return Work(READ_SECONDS, cancellable=True, is_read=not path.startswith(LIGHT))

    def unknown_caller(self, scope: Scope) -> Refusal:
        """Returns 401; a form of a browser whose session has ended leads to the login."""
        html = (header(scope, b"accept") or "").find("text/html") >= 0
        if html and not scope["path"].startswith("/v1/"):
            return Refusal(303, "InvalidAuthenticationToken", NO_TOKEN, location="/login")
        return Refusal(401, "InvalidAuthenticationToken", NO_TOKEN)

    def body_of(self, refusal: Refusal, scope: Scope) -> tuple[str, bytes]:
        """Returns a refusal in Graph's form."""
        body = refusal_body(scope["path"], refusal.code, refusal.message)
        return "application/json", orjson.dumps(body)
