"""The overview as it changes: server-sent events, a fragment of HTML each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson

EVERY = 1.0
"""Seconds between two fragments at least: more often nobody can read."""
SILENCE = 10.0
MOST_STREAMS = 50


class EventStreamLimiter:
    """How many are open: each costs a few queries a second."""

    def __init__(self) -> None:
        self.open = 0

    @property
    def full(self) -> bool:
        return self.open >= MOST_STREAMS


async def fragments(
    streams: EventStreamLimiter,
    render: Callable[[], str],
    allowed: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """The fragment now, and whenever it is another; a comment in between keeps the line open."""
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
