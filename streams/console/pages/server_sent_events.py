"""The live overview: server-sent events, each a fragment of HTML."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import orjson

EVERY = 1.0
"""Seconds between two fragments at least: more often nobody can read."""
MOST_STREAMS = 200
MOST_STREAMS_OF_CALLER = 10


class EventStreamLimiter:
    """Counts the open event streams of each caller; each costs a few queries a second."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """The number of open streams."""
        return self._open.total()

    def is_full(self, caller: str) -> bool:
        """Returns True if this caller may open no further stream."""
        return self._open[caller] >= MOST_STREAMS_OF_CALLER or self.open >= MOST_STREAMS

    def opened(self, caller: str) -> None:
        """Counts a stream that begins."""
        self._open[caller] += 1

    def closed(self, caller: str) -> None:
        """Counts a stream that has ended."""
        self._open[caller] -= 1
        self._open += Counter()  # drops the callers without streams


async def fragments(
    streams: EventStreamLimiter,
    caller: str,
    render: Callable[[], str],
    allowed: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """Yields the fragment now and when it has changed; comments keep the connection."""
    streams.opened(caller)
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
        streams.closed(caller)
