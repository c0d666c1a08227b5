"""Closing clients without waiting long for the broker's goodbye: over TLS it may take 30 s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

PATIENCE = 1.0


async def closed(closing: Awaitable[None]) -> None:
    """Awaits the closing of a client that has nothing more to say, but not for long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closing, PATIENCE)
