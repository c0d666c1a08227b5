"""``docker compose up`` of the project's file, without Grafana, on free ports of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from streams.local.ports import free_port
from tests.containers.engine import ROOT, Docker

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
WITHOUT_GRAFANA = ("kafka", "topics", "worker", "prometheus", "console", "receiver")
"""Grafana has no stand-in: Debian does not package it."""
OPERATOR_TOKEN = "the-operators-token-of-the-tests"
SOURCE_TOKEN = "the-sources-token-of-the-tests"


class Stack:
    """The services of docker-compose.yml on the tests' engine."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self.docker = docker
        self.ports = {name: free_port() for name in ("KAFKA", "PROMETHEUS", "CONSOLE", "RECEIVER")}
        tokens, sources = folder / "console-tokens.toml", folder / "receiver-sources.toml"
        tokens.write_text(
            '[[token]]\nname = "ann"\nrole = "operator"\ntenants = ["*"]\n'
            f'sha256 = "{_sha256(OPERATOR_TOKEN)}"\n'
        )
        sources.write_text(
            '[[source]]\nname = "hr"\ntenant = "contoso"\n'
            f'token_sha256 = "{_sha256(SOURCE_TOKEN)}"\n'
        )
        self._variables = {f"SEATFLOW_{name}_PORT": str(port) for name, port in self.ports.items()}
        self._variables |= {
            "SEATFLOW_CONSOLE_TOKENS": str(tokens),
            "SEATFLOW_RECEIVER_SOURCES": str(sources),
        }
        # As compose mounts them: with the mode and the owner that the files have.
        for path in (tokens, sources):
            path.chmod(0o644)

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        """Runs ``docker compose ARGUMENTS``."""
        command = ("compose", "--profile", "http", *arguments)
        return self.docker(*command, env=self._variables, timeout=timeout)

    def up(self, *options: str) -> None:
        """Brings the services up and waits until they are healthy."""
        self.compose(
            *("up", "--detach", "--no-build", "--wait", *options),
            *(name for name in WITHOUT_GRAFANA if name != "topics"),
            timeout=240,
        )

    def down(self) -> None:
        """Removes the containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "10")

    def containers(self, service: str) -> list[str]:
        """Returns the ids of the service's containers, stopped ones included."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def seatflow(self, *arguments: str, timeout: float = 120) -> str:
        """Runs the command on this machine, through the listener that Kafka advertises to it."""
        run = subprocess.run(
            [sys.executable, "-m", "streams", *arguments],
            env=os.environ | {"SEATFLOW_BROKERS": f"127.0.0.1:{self.ports['KAFKA']}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    def user_states(self) -> dict[str, list[str]]:
        """Returns the states of each user's licence assignments by the user's key."""
        rows = map(json.loads, self.seatflow("read", "user-licenses").splitlines())
        return {
            row["key"]: [one["state"] for one in row["value"]["licenseAssignmentStates"]]
            for row in rows
            if row["value"] is not None
        }

    def prometheus(self, path: str) -> Any:
        """Returns what Prometheus' HTTP API has at ``path``."""
        return json.loads(self.get("PROMETHEUS", f"/api/v1/{path}"))["data"]

    def workers_up(self) -> int:
        """Returns how many workers Prometheus scrapes successfully."""
        targets = self.prometheus("targets")["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    def get(self, name: str, path: str, **headers: str) -> str:
        """Returns the body of an HTTP GET on a published port. Raises HTTPError."""
        return self.request("GET", name, path, None, **headers)

    def request(self, method: str, name: str, path: str, body: Any = None, **headers: str) -> str:
        """Returns the body of an HTTP request on a published port. Raises HTTPError."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[name]}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def eventually(holds: Callable[[], bool], within_seconds: float = 60.0) -> None:
    """Returns when ``holds()`` is true; an error of the network counts as not yet."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "it did not come to be so in time"
        time.sleep(0.5)
