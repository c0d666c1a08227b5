"""A console with tokens and two tenants, and what a browser does to log in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from streams.console.app import create_app
from tests.streams.console.conftest import Console
from tests.streams.console.local import local_service
from tests.support.system import Events

BASE = "http://127.0.0.1:8080"
HTML = {"accept": "text/html"}


def entry(name: str, role: str, tenants: list[str], token: str) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return (
        f'[[token]]\nname = "{name}"\nrole = "{role}"\ntenants = {tenants!r}\nsha256 = "{digest}"\n'
    )


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Console]:
    """With tokens, and two tenants in it."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        entry("ann", "operator", ["contoso"], "ann-token")
        + entry("rob", "reader", ["contoso"], "rob-token")
        + entry("fay", "operator", ["fabrikam"], "fay-token")
        + entry("zoe", "operator", ["*"], "zoe-token")
    )
    settings, service, world = local_service(tmp_path, tokens)
    for tenant in ("contoso", "fabrikam"):
        make = Events(tenant, tenant)
        world.publish([make.product("e3"), make.seats("e3", 2), make.license(f"{tenant}-g", "e3")])
        world.publish([make.user(f"{tenant}-u", displayName=f"Person of {tenant}")])
        world.publish([make.join(f"{tenant}-u", f"{tenant}-g")])
    with TestClient(create_app(settings, service), base_url=BASE) as client:
        yield Console(client, service, world)
    service.store.close()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def log_in(console: Console, token: str) -> None:
    answer = console.client.post("/login", data={"token": token}, follow_redirects=False)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def csrf_of(console: Console, path: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', console.client.get(path, headers=HTML).text)
    assert found is not None
    return found[1]
