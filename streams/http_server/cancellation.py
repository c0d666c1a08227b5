"""The request that the calling task or thread serves: is anybody still waiting for its response?"""

from __future__ import annotations

from contextvars import ContextVar


class Cancellation:
    """Set when a request's response is of no use any more."""

    __slots__ = ("is_set",)

    def __init__(self) -> None:
        self.is_set = False


_current: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


def begin() -> Cancellation:
    """Returns the cancellation of a request that begins in this context."""
    made = Cancellation()
    _current.set(made)
    return made


def is_cancelled() -> bool:
    """Returns True if the request that the caller works for was cancelled; also in a thread."""
    current = _current.get()
    return current is not None and current.is_set
