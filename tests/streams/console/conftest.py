"""A console on the demo's tenant, made once; and an empty one for each test that wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from streams.console.app import create_app
from streams.console.read_model.store import Store
from streams.console.service import Service
from tests.streams.console.browser import chromium, running
from tests.streams.console.local import World, demo, local_service

__all__ = ["chromium", "console", "demo_console", "running"]


@dataclass(slots=True)
class Console:
    client: TestClient
    service: Service
    world: World


def _console(path: Path) -> Iterator[Console]:
    settings, service, world = local_service(path)
    with TestClient(create_app(settings, service), base_url="http://127.0.0.1:8080") as client:
        yield Console(client, service, world)
    service.store.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """Empty, and the test's own."""
    yield from _console(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A read model without a console."""
    made = Store(tmp_path / "console.sqlite3", "licensing.")
    yield made
    made.close()


@pytest.fixture(scope="module")
def demo_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """With the demo's tenant in it; the tests of a module share it."""
    for made in _console(tmp_path_factory.mktemp("console")):
        demo(made.world)
        yield made
