"""Runs the receiver: takes the port, connects to Kafka, serves; a failed transaction ends it.

The port comes first: a second receiver that cannot have it must not fence the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from streams.contract.topics import INPUT_NAMES
from streams.http_server.server import is_loopback, raise_file_limit, server_config
from streams.ingest.http.app import Receiver, application
from streams.ingest.http.scim import Tenants
from streams.ingest.http.sources import Sources
from streams.ingest.http.transactional_writer import Writer, read_resources
from streams.runtime.errors import CONFIGURATION, OK, TEMPORARY, WorkerError
from streams.runtime.settings import Settings

GRACEFUL_SECONDS = 10


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn would raise them again after its shutdown."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def leave(self) -> None:
        """Starts the shutdown."""
        self.should_exit = True


async def serve(
    settings: Settings,
    sources: Sources,
    host: str,
    port: int,
    changes: Path | None,
    ready: asyncio.Future[int] | None = None,
) -> int:
    """Serves until a signal; returns the exit code.

    ``changes``: see ``Receiver``. ``ready``: receives the port that the server listens on.
    Raises: WorkerError, if the port is in use, or tokens would be sent to it unencrypted.
    """
    sockets = listening(host, port)
    try:
        check(settings, host)
        return await _serve(settings, sources, sockets, changes, ready)
    finally:
        for each in sockets:
            each.close()


def check(settings: Settings, host: str) -> None:
    """Refuses to listen beyond loopback without a proxy that terminates HTTPS.

    Raises: WorkerError, with the settings to change.
    """
    if not is_loopback(host) and not settings.http_behind_proxy:
        raise WorkerError(
            f"the tokens of sources would be sent to {host} unencrypted: listen at 127.0.0.1"
            " behind a proxy on this machine, or set SEATFLOW_HTTP_BEHIND_PROXY=true if a proxy"
            " elsewhere terminates HTTPS",
            CONFIGURATION,
        )


def listening(host: str, port: int) -> list[socket.socket]:
    """Returns sockets that listen on all addresses of the host.

    Connections wait until the server accepts them. Raises: WorkerError.
    """
    sockets: list[socket.socket] = []
    try:
        flags = socket.AI_PASSIVE
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        for family, address in dict.fromkeys((each[0], each[4][:2]) for each in found):
            if port == 0 and sockets:
                break  # the addresses would get different ports
            sockets.append(socket.create_server(address, family=family, backlog=2048))
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno == errno.EADDRINUSE:
            raise WorkerError(
                f"another process listens on port {port} of {host}: stop it, or choose another"
                " port with --port. If it is a receiver, it goes on undisturbed",
                TEMPORARY,
            ) from None
        raise WorkerError(
            f"cannot listen on port {port} of {host}: {error.strerror}", CONFIGURATION
        ) from None
    return sockets


async def _serve(
    settings: Settings,
    sources: Sources,
    sockets: list[socket.socket],
    changes: Path | None,
    ready: asyncio.Future[int] | None,
) -> int:
    writer = Writer(settings)
    await writer.start(INPUT_NAMES)
    try:
        # The writer has fenced earlier receivers, so the resources read now are complete.
        tenants = Tenants(writer, await read_resources(settings), sources)
        app = application(Receiver(sources, tenants, writer, changes))
        config = server_config(app, settings, graceful_seconds=GRACEFUL_SECONDS, lifespan="off")
        raise_file_limit()
        server = _Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.leave)
        running = asyncio.create_task(server.serve(sockets))
        failed = asyncio.create_task(writer.failed.wait())
        announcing = asyncio.create_task(_announce(server, ready)) if ready else None
        await asyncio.wait({running, failed}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await running
        for task in (failed, announcing):
            if task is not None:
                task.cancel()
        return TEMPORARY if writer.failure else OK
    finally:
        with contextlib.suppress(Exception):
            await writer.stop()


async def _announce(server: uvicorn.Server, ready: asyncio.Future[int]) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)
    ready.set_result(server.servers[0].sockets[0].getsockname()[1])
