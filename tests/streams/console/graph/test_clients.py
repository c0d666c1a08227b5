"""Microsoft's own clients against a console over HTTPS: msgraph-sdk, and the one for JavaScript.

They are no dependencies of the project: they are installed once, into a folder of their own, and
the tests are skipped where that is not possible.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from streams.console.app import create_app
from streams.console.security.middleware import RateLimiter
from tests.streams.console.guarded import entry
from tests.streams.console.local import local_service
from tests.support.system import ROOT, Events
from tests.support.timing import limit_seconds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent / "clients"
INSTALLED = ROOT / ".seatflow" / "clients"
PYTHON_SDK = "msgraph-sdk==1.65.0"
UNDECLARED = "Deprecated"
"""A module that msgraph-core imports and does not require."""
PIP_INSTALL = [sys.executable, "-m", "pip", "install", "--quiet", "--target", "."]
JAVASCRIPT = "@microsoft/microsoft-graph-client@3.0.7"
E3, VISIO = "6fd2c87f-b296-42f0-b197-1e91e994b900", "c5928f49-12ba-48f7-ada3-0d743a3601d5"
PLANS = "dcf9d2f4-772e-4434-b757-77a453cfbc02", "663a804f-1c30-4ff0-9915-9db84f0d1cea"


@dataclass(frozen=True, slots=True)
class Live:
    """A console that listens. ``certificate``: what clients trust."""

    origin: str
    certificate: Path


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """With a small tenant, and a token that belongs to it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: it makes the console's certificate")
    monkeypatch.setattr(RateLimiter, "allow", lambda *_: True)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(entry("graph", "operator", ["contoso"], "graph-token"))
    settings, service, world = local_service(tmp_path, tokens)
    make = Events(run="c")
    world.publish([make.product(E3, PLANS[0]), make.product(VISIO, PLANS[1])])
    world.publish(
        [
            make.seats(E3, 3),
            make.seats(VISIO, 1),
            make.license("sales", VISIO),
            make.tenant_settings(),
        ]
    )
    world.publish([make._event("group-changes", "contoso/sales", "group.upserted",
                               tenant="contoso", group="sales", displayName="Sales")])  # fmt: skip
    for user in ("ann", "bob", "cid", "eve"):
        name = f"{user}@contoso.example"
        display = f"{user.title()} Smith"
        world.publish([make.user(user, displayName=display, userPrincipalName=name)])
    world.publish([make.join("ann", "sales"), make.join("bob", "sales"), make.assign("ann", E3)])
    config = uvicorn.Config(
        create_app(settings, service), host="127.0.0.1", port=0, log_level="warning",
        ssl_certfile=str(certificate), ssl_keyfile=str(key),
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        until = time.monotonic() + limit_seconds(20)
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            thread.join(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Live(f"https://localhost:{port}", certificate)
    finally:
        server.should_exit = True
        thread.join()
        service.store.close()


def installed(folder: Path, commands: list[list[str]]) -> Path:
    """A folder with a client, installed if it is not there yet."""
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    for command in commands:
        done = subprocess.run(command, cwd=unfinished, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(unfinished)
            pytest.skip(f"{command[-1]} cannot be installed here: {done.stderr.strip()[-200:]}")
    unfinished.rename(folder)
    return folder


def output(command: list[str], **env: str) -> Any:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def test_the_python_sdk(live: Live) -> None:
    """Typed objects, its page iterator, its errors, its batch."""
    folder = installed(
        INSTALLED / PYTHON_SDK,
        [[*PIP_INSTALL, UNDECLARED, PYTHON_SDK]],
    )
    command = [sys.executable, "-S", str(HERE / "python_sdk.py"), f"{live.origin}/v1.0",
               "graph-token", E3]  # fmt: skip
    found = output(command, PYTHONPATH=str(folder), SSL_CERT_FILE=str(live.certificate))
    assert found == {
        "all": ["ann", "bob", "cid", "eve"],
        "ann": ["ann", "US", [E3, VISIO]],
        "states": [["Active", "None", None, E3], ["Active", "None", "sales", VISIO]],
        "holders": ["ann"],
        "without": [3, ["bob", "cid", "eve"]],
        "searched": ["Ann Smith", "Bob Smith", "Cid Smith", "Eve Smith"],
        "expanded": ["sales"],
        "details": [[E3, E3, 1], [VISIO, VISIO, 1]],
        "member_of": ["Group"],
        "groups": ["sales"],
        "count": 1,
        "skus": [[E3, 1, 3], [VISIO, 1, 1]],
        "sku": E3,
        "in_error": ["sales", "ProcessingComplete"],
        "errors": [["User", "bob"]],
        "users": ["ann", "bob"],
        "members": 2,
        "tenant": ["contoso"],
        "given": [E3],
        "reprocessed": "Dee",
        "taken": [],
        "moved": "FR",
        "inherited": [True],
        "renamed": "Renamed",
        "nobody": [404, "Request_ResourceNotFound", True, True],
        "unknown": [400, "Request_UnsupportedQuery", True, True],
        "delta": [4, ["bob"], ["Bob II"]],
        "batch": {"ann": 200, "nobody": 404},
    }


def test_the_javascript_client(live: Live) -> None:
    """Its page iterator, its batch, its errors."""
    if shutil.which("npm") is None:
        pytest.skip("npm is missing")
    folder = installed(
        INSTALLED / JAVASCRIPT.replace("/", "-"),
        [["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", JAVASCRIPT]],
    )
    command = ["node", str(HERE / "javascript_client.mjs"), str(folder), live.origin,
               "graph-token", E3]  # fmt: skip
    found = output(command, NODE_EXTRA_CA_CERTS=str(live.certificate))
    assert found == {
        "all": ["ann", "bob", "cid", "eve"],
        "ann": ["ann"],
        "without": 3,
        "searched": ["Ann Smith", "Bob Smith", "Cid Smith", "Eve Smith"],
        "expanded": ["ann", "bob"],
        "details": [E3, VISIO],
        "beta": "Sales",
        "given": [E3],
        "updated": "Dee II",
        "batch": [200, 404],
        "delta": [[True, "changed"]],
        "error": [400, "Request_UnsupportedQuery", True, True],
    }
