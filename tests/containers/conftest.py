"""The engine, the image and the running services, each made once for all container tests.

Where no engine can be started the tests are skipped with the reason; with
SEATFLOW_REQUIRE_CONTAINERS=1, as in continuous integration, that is an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.compose import SERVICES, Stack
from tests.containers.engine import Docker, UnavailableError, running_engine
from tests.containers.stand_ins import build_stand_ins

IMAGE = SERVICES["worker"]["image"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder: they run by ``make container-tests``."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("containers")
            item.add_marker("slow")


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An engine with the stand-ins of the base images in it."""
    folder = tmp_path_factory.mktemp("docker")
    try:
        with running_engine(folder) as docker:
            since = time.monotonic()
            build_stand_ins(docker, SERVICES["prometheus"]["image"], folder)
            print(f"\nstand-ins built in {time.monotonic() - since:.0f} s")
            yield docker
    except UnavailableError as reason:
        if os.environ.get("SEATFLOW_REQUIRE_CONTAINERS"):
            pytest.fail(f"no containers: {reason}", pytrace=False)
        pytest.skip(f"no containers: {reason}")


@pytest.fixture(scope="session")
def image(docker: Docker) -> str:
    """The image by deploy/Dockerfile, under the name that the compose file gives it."""
    since = time.monotonic()
    # On the host's network: this engine's own has no way to the package index everywhere.
    build = ("build", "--network", "host", "--file", "deploy/Dockerfile", "--tag", IMAGE, ".")
    docker(*build)
    size = int(docker("image", "inspect", "--format", "{{.Size}}", IMAGE)) / 1e6
    print(f"\nimage of {size:.0f} MB built in {time.monotonic() - since:.0f} s")
    return str(IMAGE)


@pytest.fixture(scope="session")
def stack(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services of docker-compose.yml with three workers, healthy."""
    stack = Stack(docker, tmp_path_factory.mktemp("stack"))
    since = time.monotonic()
    stack.up()
    print(f"\nservices healthy in {time.monotonic() - since:.0f} s")
    yield stack
    stack.down()
