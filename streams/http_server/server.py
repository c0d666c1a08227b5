"""uvicorn's configuration for the console and the receiver, and where they may listen."""

from __future__ import annotations

import contextlib
import resource
from ipaddress import ip_address, ip_network
from typing import Any

import uvicorn

from streams.http_server.connections import ConnectionTable, protocol
from streams.runtime.settings import Settings

CONNECTIONS_OF_CLIENT = 100
MOST_FILES = 65_536


def proxies(settings: Settings) -> list[str]:
    """Returns the addresses and networks of the trusted proxies."""
    return [each.strip() for each in settings.http_trusted_proxies.split(",") if each.strip()]


def is_loopback(host: str) -> bool:
    """Returns True for an address that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def raise_file_limit() -> None:
    """Raises this process's limit of open files to what it may have.

    The common limit of 1,024 is less than a thousand connections need, and TLS connections count
    before their handshake, which the table of connections does not see.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def server_config(
    app: Any, settings: Settings, *, graceful_seconds: int = 2, **more: Any
) -> uvicorn.Config:
    """Returns the configuration of a server with bounded connections.

    ``graceful_seconds``: for which requests may go on after the signal to stop.

    ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed of the trusted proxies only.
    """
    trusted = proxies(settings)
    networks = [ip_network(each, strict=False) for each in trusted]

    def is_proxy(address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in networks)

    table = ConnectionTable(settings.http_max_connections, CONNECTIONS_OF_CLIENT, is_proxy)
    return uvicorn.Config(
        app,
        http=protocol(table),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted),
        forwarded_allow_ips=trusted,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=graceful_seconds,
        h11_max_incomplete_event_size=32 * 1024,
        **more,
    )
