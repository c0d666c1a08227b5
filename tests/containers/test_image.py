"""The image: built from the Dockerfile, run with nothing that it does not need."""

from __future__ import annotations

import pytest

from tests.containers.engine import Docker
from tests.containers.stand_ins import PYTHON_IMAGE

pytestmark = pytest.mark.timeout(900)
LOCKED_DOWN = (
    *("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--network", "none"),
)


def test_it_runs_read_only_without_rights_and_network(docker: Docker, image: str) -> None:
    assert "SEATFLOW_BROKERS" in docker(*LOCKED_DOWN, image, "settings")
    ids = docker(*LOCKED_DOWN, "--entrypoint", "id", image)
    assert ids.startswith("uid=10001(seatflow) gid=10001(seatflow)")


def test_its_hot_path_is_compiled(docker: Docker, image: str) -> None:
    assert docker(*LOCKED_DOWN, image, "--version").strip().endswith(", compiled")
    code = "import streams, engine.rules.evaluation as rules; print(rules.__file__)"
    run = docker(*LOCKED_DOWN, "--entrypoint", "python", image, "-c", code)
    assert run.strip().endswith(".so")


def test_it_has_no_installer_compiler_or_tests(docker: Docker, image: str) -> None:
    shell = (*LOCKED_DOWN, "--entrypoint", "sh", image, "-c")
    assert docker(*shell, "ls /venv/bin | grep ^pip; command -v gcc; true") == ""
    assert docker(*shell, "ls -d /venv/lib/python3*/site-packages/tests 2>/dev/null; true") == ""


def test_it_adds_less_than_100_mb_to_its_base(docker: Docker, image: str) -> None:
    sizes = [
        int(docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in (image, PYTHON_IMAGE)
    ]
    assert sizes[0] - sizes[1] < 100e6


def test_a_wrong_setting_ends_the_container_with_its_code(docker: Docker, image: str) -> None:
    docker("create", "--name", "wrong", "--env", "SEATFLOW_BROKERS=nonsense", image, "worker")
    docker("start", "--attach", "wrong", check=False)
    assert docker.inspect("wrong", "{{.State.ExitCode}}") == "78"
    docker("rm", "wrong")
