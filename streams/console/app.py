"""The console's process: its parts put together, and its start."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from streams.console.api import commands, errors, queries
from streams.console.commands.dispatcher import CommandDispatcher
from streams.console.commands.processing_status import ProcessingStatus
from streams.console.graph import router as graph
from streams.console.pages import about, changes, dead_letters, failures, health, login, routes
from streams.console.pages.session import LoginNeededError
from streams.console.read_model.pagination import BadRequestError
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.console.security.auth import Authenticator
from streams.console.security.middleware import LOOPBACK, SecurityMiddleware
from streams.console.security.policy import ConsolePolicy
from streams.console.service import Service
from streams.http_server.guard import RequestGuard
from streams.http_server.server import is_loopback as is_loopback
from streams.http_server.server import raise_file_limit, server_config
from streams.kafka.broker_watch import BrokerWatch
from streams.runtime.data_directory import check_directory
from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.settings import Settings

DATABASE = "console.sqlite3"
HERE = Path(__file__).parent
ABOUT = (
    "Tenants, users, groups, products and errors in the shapes of Microsoft Graph, and commands for"
    " operators. A command returns its outcome: the object after the change, the error of a rule,"
    " or 202 with the URL of its progress."
)


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """Returns the application; tests pass a ``service`` with their own store."""
    check(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Runs the service, unless the caller passed its own."""
        app.state.service = service or make_service(settings)
        async with running(app.state.service) if service is None else contextlib.nullcontext():
            yield

    app = FastAPI(
        title="Seatflow",
        version="1",
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    if service is not None:
        app.state.service = service
    app.state.tls = settings.http_cert_file is not None
    app.include_router(queries.router)
    app.include_router(commands.router)
    app.include_router(routes.router)
    app.include_router(changes.router)
    app.include_router(about.router)
    app.include_router(dead_letters.router)
    app.include_router(login.router)
    app.include_router(health.router)
    app.include_router(graph.router)  # last: its first segment may be any tenant
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    handlers: dict[type[Exception], Any] = {
        HTTPException: failures.on_http_error,
        LoginNeededError: failures.on_login_needed,
        BadRequestError: failures.on_bad_request,
        RequestValidationError: errors.on_invalid,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    # The last one added is the first to see a request.
    app.add_middleware(RequestGuard, policy=ConsolePolicy(lambda: app.state.service.authenticator))
    app.add_middleware(SecurityMiddleware, names=_names(settings), tls=app.state.tls)
    return app


def make_service(settings: Settings) -> Service:
    """Returns the parts of a console with these settings; nothing runs yet."""
    store = Store(settings.data_dir / DATABASE, settings.topic_prefix)
    projector, processing = ReadModelProjector(settings, store), ProcessingStatus(settings)
    dispatcher = CommandDispatcher(settings, store, projector, processing)
    return Service(
        settings,
        store,
        projector,
        processing,
        dispatcher,
        Authenticator(settings.http_tokens_file),
        BrokerWatch(settings),
    )


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Runs the projector, the processing status and the broker's watch; stops them at the end."""
    service.broker.start()
    tasks = [
        asyncio.create_task(service.projector.run()),
        asyncio.create_task(service.processing.run()),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(service.broker.stop)
        await service.dispatcher.close()
        service.projector.close()
        service.store.close()


def check(settings: Settings) -> None:
    """Refuses to listen beyond loopback without tokens, or without TLS.

    Raises: WorkerError, with the settings to change.
    """
    if settings.http_tokens_file is None and (
        settings.http_behind_proxy or settings.http_trusted_proxies
    ):
        raise WorkerError(
            "the console would be open to everybody whom the proxy lets through"
            " (SEATFLOW_HTTP_BEHIND_PROXY, SEATFLOW_HTTP_TRUSTED_PROXIES): name a token file with"
            " SEATFLOW_HTTP_TOKENS_FILE (`seatflow console --new-token NAME` makes a token)",
            CONFIGURATION,
        )
    if is_loopback(settings.http_host):
        return
    if settings.http_tokens_file is None:
        raise WorkerError(
            f"the console would be open to everybody at {settings.http_host}: name a token file"
            " with SEATFLOW_HTTP_TOKENS_FILE (`seatflow console --new-token NAME` makes a token),"
            " or listen at 127.0.0.1",
            CONFIGURATION,
        )
    if settings.http_cert_file is None and not settings.http_behind_proxy:
        raise WorkerError(
            f"tokens would be sent to {settings.http_host} unencrypted: name a certificate with"
            " SEATFLOW_HTTP_CERT_FILE and SEATFLOW_HTTP_KEY_FILE, or set"
            " SEATFLOW_HTTP_BEHIND_PROXY=true if a proxy terminates HTTPS",
            CONFIGURATION,
        )


def _names(settings: Settings) -> frozenset[str] | None:
    """Returns the host names by which the console is reached; None: any (tokens are needed)."""
    given = [name.strip().lower() for name in settings.http_names.split(",") if name.strip()]
    if given or is_loopback(settings.http_host):
        return frozenset([*given, *LOOPBACK, settings.http_host])
    return None


def run_console(settings: Settings, announce: Callable[[str], None] = print) -> int:
    """Serves until SIGTERM or Ctrl-C. ``announce`` gets the address once it can be reached."""
    check_directory(settings.data_dir, [DATABASE])
    app = create_app(settings)
    sockets = [_listen(settings)]
    port = sockets[0].getsockname()[1]
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    announce(f"{'https' if settings.http_cert_file else 'http'}://{host}:{port}/")
    config = server_config(
        app,
        settings,
        ssl_certfile=str(settings.http_cert_file) if settings.http_cert_file else None,
        ssl_keyfile=str(settings.http_key_file) if settings.http_key_file else None,
    )
    raise_file_limit()
    uvicorn.Server(config).run(sockets=sockets)
    return 0


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.http_host, settings.http_port))
        found.listen()  # clients may connect before uvicorn accepts
    except OSError as error:
        raise WorkerError(
            f"the console cannot listen at {settings.http_host}:{settings.http_port}"
            f" (SEATFLOW_HTTP_PORT): {error.strerror}",
            CONFIGURATION,
        ) from None
    found.set_inheritable(True)
    return found
