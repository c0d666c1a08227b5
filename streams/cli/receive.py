"""The command ``seatflow receive``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.options import Brokers, Prefix, settings_of


def receive(
    sources: Annotated[
        Path,
        typer.Option("--sources", metavar="TOML", help="Token file: the sources that may send."),
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="Port to listen on; 0: any free port.")
    ] = 8090,
    changes: Annotated[
        Path | None,
        typer.Option(
            "--changes",
            metavar="FILE",
            help="File to which received Graph change notifications are written.",
        ),
    ] = None,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """Receive SCIM 2.0, Entra's bulkUpload, Graph notifications and CloudEvents over HTTP.

    Requests are answered when Kafka has the events. Only one receiver is active: a second one
    takes over from the first.
    """
    from streams.cli.feed import needs_extra

    for module in ("scim2_server", "fastapi", "uvicorn"):
        needs_extra(module, "feeds")
    from streams.ingest.http.server import serve
    from streams.ingest.http.sources import load_sources
    from streams.runtime import log_events

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    log_events.configure(settings.log_level, settings.log_format)

    async def serve_until_signal() -> int:
        """Serves, prints the address once it is bound, and returns the exit code."""
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        ready.add_done_callback(
            lambda done: (
                done.cancelled()
                or print(
                    f"Receiving at http://{host}:{done.result()}/ (SCIM: /scim/v2)", flush=True
                )
            )
        )
        return await serve(settings, load_sources(sources), host, port, changes, ready)

    raise typer.Exit(asyncio.run(serve_until_signal()))
