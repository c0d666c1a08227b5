"""The receiver's answers to the request guard: callers by their source's token."""

from __future__ import annotations

import orjson

from streams.http_server.guard import NO_TOKEN, Caller, Refusal, Scope, Work, address_of, header
from streams.ingest.http.sources import Sources

MAX_BODY_BYTES = 8 << 20
NOTIFICATIONS = "/graph/notifications"
NOTIFICATION_BYTES = 1 << 20
"""Notifications carry a secret instead of a token: a body has to be read to know its source."""
READ_SECONDS = 30.0
SCIM_ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


class ReceiverPolicy:
    """Of the sources in the file of ``--sources``."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def caller(self, scope: Scope) -> Caller:
        """Returns the source of the token; the address of anybody else."""
        source = self._sources.of_token(header(scope, b"authorization"))
        if source is not None:
            return Caller(f"{source.tenant}/{source.name}", True, MAX_BODY_BYTES)
        notifies = scope["path"] == NOTIFICATIONS
        return Caller(address_of(scope), False, NOTIFICATION_BYTES if notifies else None)

    def work(self, scope: Scope) -> Work:
        """Returns the kind of a request. Each may be cancelled: its events are sent or are not."""
        is_read = scope["method"] in ("GET", "HEAD")
        return Work(READ_SECONDS if is_read else None, cancellable=True)

    def unknown_caller(self, _scope: Scope) -> Refusal:
        """Returns 401."""
        return Refusal(401, "InvalidAuthenticationToken", NO_TOKEN)

    def body_of(self, refusal: Refusal, scope: Scope) -> tuple[str, bytes]:
        """Returns a refusal in the form of the SCIM service or of the other endpoints."""
        if not scope["path"].startswith("/scim/"):
            return "application/json", orjson.dumps({"detail": refusal.message})
        error = {"schemas": [SCIM_ERROR], "status": str(refusal.status), "detail": refusal.message}
        return "application/scim+json", orjson.dumps(error)
