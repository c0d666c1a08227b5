"""A Docker engine for the tests alone: its own socket, network bridge and data directory.

It sees no other engine's containers, and no other program takes it for the user's engine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 30.0
COMMANDS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "iptables": "iptables",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "prometheus": "prometheus",
    "java": "default-jre-headless",
}
"""What is needed, with Debian's packages that have it."""
FREE_SPACE_BYTES = 6 * 2**30
BRIDGE_ADDRESS = "172.31.255.1/28"


class UnavailableError(Exception):
    """No engine or no base image can be had here. The message says why."""


@dataclass(frozen=True)
class Docker:
    """The command ``docker``, bound to the engine at ``socket``. ``data`` is the engine's."""

    socket: Path
    data: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead Docker's clients to this engine."""
        # BuildKit would fetch its frontend from a registry.
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] = {},
        timeout: float = 600,
        check: bool = True,
    ) -> str:
        """Runs ``docker ARGUMENTS`` and returns its standard output.

        Raises AssertionError with what it wrote if it fails, unless ``check`` is False.
        """
        run = subprocess.run(
            ["docker", *arguments],
            env={**self.environment, **env},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and run.returncode:
            written = run.stdout[-3000:] + run.stderr[-3000:]
            raise AssertionError(f"docker {' '.join(arguments)}\n{written}")
        return run.stdout

    def inspect(self, container: str, template: str) -> str:
        """Returns a container's property by a Go template."""
        return self("inspect", "--format", template, container).strip()

    def kill_process(self, container: str) -> None:
        """Kills the container's first process from outside, so that the engine restarts it."""
        os.kill(int(self.inspect(container, "{{.State.Pid}}")), signal.SIGKILL)


def missing(folder: Path) -> str | None:
    """Returns why no engine can be started here; None if it is worth trying."""
    if os.geteuid():
        return "dockerd needs root"
    packages = {package for name, package in COMMANDS.items() if shutil.which(name) is None}
    if packages:
        return f"not installed: {', '.join(sorted(packages))} (tests/containers/install.sh)"
    compose = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if compose.returncode:
        return "docker has no compose plugin (tests/containers/install.sh)"
    if shutil.disk_usage(folder).free < FREE_SPACE_BYTES:
        return f"less than {FREE_SPACE_BYTES >> 30} GiB are free in {folder}"
    return None


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[Docker]:
    """Starts an engine that keeps everything in ``folder``; stops it and removes its data after.

    Raises:
        UnavailableError: an engine cannot be started here.
    """
    if reason := missing(folder):
        raise UnavailableError(reason)
    docker = Docker(folder / "docker.sock", folder / "data")
    bridge = f"seatflow{os.getpid() % 100_000}"
    with _network_bridge(bridge), (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            _command(folder, docker, bridge),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_until_ready(docker, process, folder / "dockerd.log")
            yield docker
        finally:
            _stop(docker, process)
            _unmount(folder)
            shutil.rmtree(docker.data, ignore_errors=True)
            shutil.rmtree(folder / "exec", ignore_errors=True)


def _command(folder: Path, docker: Docker, bridge: str) -> list[str]:
    overlay = "\toverlay\n" in Path("/proc/filesystems").read_text()
    return [
        "dockerd",
        f"--data-root={docker.data}",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host=unix://{docker.socket}",
        f"--storage-driver={'overlay2' if overlay else 'vfs'}",
        # With the default bridge, or with none, dockerd would take over docker0 from an engine that
        # runs already. iptables stays on: that engine's rules would drop this one's packets.
        f"--bridge={bridge}",
    ]


@contextlib.contextmanager
def _network_bridge(name: str) -> Iterator[None]:
    for step in (
        f"link add {name} type bridge",
        f"addr add {BRIDGE_ADDRESS} dev {name}",
        f"link set {name} up",
    ):
        run = subprocess.run(["ip", *step.split()], capture_output=True, text=True, check=False)
        if run.returncode:
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
            raise UnavailableError(f"a network bridge cannot be made: {run.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def _wait_until_ready(docker: Docker, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not docker("version", "--format", "{{.Server.Version}}", check=False).strip():
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines() or ["its log is empty"]
            raise UnavailableError(f"dockerd does not start: {lines[-1]}")
        time.sleep(0.1)


def _stop(docker: Docker, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    if containers := docker("ps", "--all", "--quiet", check=False).split():
        docker("rm", "--force", "--volumes", *containers, check=False)
    networks = docker("network", "ls", "--quiet", "--filter", "type=custom", check=False)
    for network in networks.split():
        docker("network", "rm", network, check=False)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unmount(folder: Path) -> None:
    for line in Path("/proc/mounts").read_text().splitlines():
        if (place := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)
