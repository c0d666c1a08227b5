"""Errors in Graph's form: ``{"error": {"code", "message", "innerError"}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streams.console.api.errors import CODES
from streams.console.security.middleware import inner_error
from streams.runtime.errors import SenderError


class GraphError(SenderError):
    """Raised for a call that cannot be answered. The message says why, and what is allowed."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code or CODES.get(status, "Error")
        self.details, self.headers = list(details), dict(headers or {})

    def body(self, request_id: str, client_request_id: str) -> dict[str, Any]:
        """Returns the response's body."""
        inner = inner_error(request_id, client_request_id)
        error: dict[str, Any] = {"code": self.code, "message": str(self), "innerError": inner}
        if self.details:
            error["details"] = self.details
        return {"error": error}


def bad_request(message: str, code: str = "Request_BadRequest") -> GraphError:
    """Returns the error of a request that cannot be understood: 400."""
    return GraphError(400, message, code)


def unsupported(message: str) -> GraphError:
    """Returns the error of a query that is understood, but not supported: 400."""
    return GraphError(400, message, "Request_UnsupportedQuery")


def not_found(message: str) -> GraphError:
    """Returns the error of an object or path that does not exist: 404."""
    return GraphError(404, message)
