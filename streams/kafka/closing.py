"""Closing clients without waiting long for the broker's response: over TLS it may take 30 s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

CLOSE_TIMEOUT_SECONDS = 1.0


async def close_with_timeout(closing: Awaitable[None]) -> None:
    """Awaits the closing of a client that has nothing more to send, for a second at most."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closing, CLOSE_TIMEOUT_SECONDS)
