"""The Kafka tests' broker from a container, where an engine has the image."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.containers.engine import ROOT, Docker
from tests.containers.stand_ins import KAFKA_IMAGE

pytestmark = pytest.mark.timeout(300)
SOME_KAFKA_TESTS = ("tests/streams/kafka", "tests/streams/ingest/test_feed.py")


def test_kafka_tests_run_on_a_broker_in_a_container(docker: Docker) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-m", "kafka", *SOME_KAFKA_TESTS],
        env=docker.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert f"kafka: broker from Testcontainers, {KAFKA_IMAGE}" in run.stdout
    assert (
        docker(
            "ps",
            "--quiet",
            "--filter",
            f"ancestor={KAFKA_IMAGE}",
            "--filter",
            "label=org.testcontainers=true",
        )
        == ""
    )
