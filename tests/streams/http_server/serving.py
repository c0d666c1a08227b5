"""A server with bounded connections and a guard, on a port of its own, and raw connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from streams.http_server.guard import Caller, Refusal, RequestGuard, Work
from streams.http_server.server import server_config
from streams.runtime.settings import load_settings


class Application:
    """Answers with the length of the body; ``/wait`` waits until it is cancelled."""

    def __init__(self) -> None:
        self.carried_out: list[int] = []
        self.cancelled = threading.Event()
        self.waiting = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.carried_out.append(len(body))
        if scope["path"] == "/wait":
            self.waiting.set()
            try:
                await asyncio.sleep(60)
            finally:
                self.cancelled.set()
        client = scope["client"][0].encode()
        headers = [(b"content-length", b"%d" % len(client))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": client})


class Policy:
    """A caller is known by ``authorization: NAME``, and may send 1 MiB."""

    seconds: float | None = 30.0

    def caller(self, scope: Any) -> Caller:
        name = dict(scope["headers"]).get(b"authorization", b"").decode()
        return Caller(name or "\0", bool(name), 1 << 20 if name else None)

    def work(self, _scope: Any) -> Work:
        return Work(self.seconds, cancellable=True)

    def unknown_caller(self, _scope: Any) -> Refusal:
        return Refusal(401, "Unknown", "Who is it?")

    def body_of(self, refusal: Refusal, _scope: Any) -> tuple[str, bytes]:
        return "text/plain", refusal.message.encode()


@contextmanager
def serving(app: Any, **settings: Any) -> Iterator[int]:
    """Yields the port."""
    config = server_config(app, load_settings(**settings), port=0, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            pass
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def guarded(limits: Any = None, seconds: float | None = 30.0) -> Iterator[tuple[int, Application]]:
    app, policy = Application(), Policy()
    policy.seconds = seconds
    with serving(RequestGuard(app, policy, limits)) as port:
        yield port, app


def connect(port: int, sent: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    made.sendall(sent)
    return made


def head(method: str = "GET", path: str = "/", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def response(one: socket.socket) -> bytes:
    """Returns what comes until the end of the body or of the connection."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = one.recv(65536)
        if not part:
            return found
        found += part
    start, _, body = found.partition(b"\r\n\r\n")
    length = int(start.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        body += one.recv(65536)
    return start + b"\r\n\r\n" + body
