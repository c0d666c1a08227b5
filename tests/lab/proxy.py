"""A TCP proxy on loopback that stands between some workers and their broker.

What it holds back is not lost but late, as TCP has it when a cable is pulled and put back: both
ends believe in their connection for as long as they like.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable

CHUNK = 1 << 16


class Proxy:
    """Listens on ``port`` and forwards to ``target``, except in the directions that are held."""

    def __init__(self, port: int, target: tuple[str, int]) -> None:
        self.port, self._target = port, target
        self._loop = asyncio.new_event_loop()
        self._requests, self._replies = asyncio.Event(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._call(self._start())
        self.heal()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def _call(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    def cut(self) -> None:
        """Holds the data in both directions."""
        self._loop.call_soon_threadsafe(self._requests.clear)
        self._loop.call_soon_threadsafe(self._replies.clear)

    def mute(self) -> None:
        """Requests arrive, replies do not: the worker never learns what became of them."""
        self._loop.call_soon_threadsafe(self._replies.clear)

    def heal(self) -> None:
        self._loop.call_soon_threadsafe(self._requests.set)
        self._loop.call_soon_threadsafe(self._replies.set)

    def reset(self) -> None:
        """Ends every connection, as a firewall does that was restarted."""
        self._call(self._reset())

    async def _reset(self) -> None:
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # with no time to linger, closing is a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def stop(self) -> None:
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self._requests.wait()
        try:
            there = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there[1])
        await asyncio.gather(
            self._pass_on(reader, there[1], self._requests.wait),
            self._pass_on(there[0], writer, self._replies.wait),
        )
        self._writers -= {writer, there[1]}

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        open: Callable[[], Awaitable[object]],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await open()
                writer.write(data)
                await writer.drain()
        await open()
        writer.close()
