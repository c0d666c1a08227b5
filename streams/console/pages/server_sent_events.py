"""The live overview: server-sent events, each a fragment of HTML."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson

EVERY = 1.0
"""Seconds between two fragments at least: more often nobody can read."""
MOST_STREAMS = 50


class EventStreamLimiter:
    """Counts the open event streams; each costs a few queries a second."""

    def __init__(self) -> None:
        self.open = 0

    @property
    def full(self) -> bool:
        """True if no further stream may be opened."""
        return self.open >= MOST_STREAMS


async def fragments(
    streams: EventStreamLimiter,
    render: Callable[[], str],
    allowed: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """Yields the fragment now and when it has changed; comments keep the connection."""
    streams.open += 1
    shown = ""
    try:
        yield b"retry: 2000\n\n"
        while allowed():
            html = await asyncio.to_thread(render)
            if html != shown:
                shown = html
                yield b"data: " + orjson.dumps(html) + b"\n\n"
            else:
                yield b": still here\n\n"
            await asyncio.sleep(EVERY)
    finally:
        streams.open -= 1
