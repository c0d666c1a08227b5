"""The brokers of an experiment: one, or three that keep every record on two at least."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streams.local.broker import Broker, free_port
from tests.lab.proxy import Proxy

HEAP = ("-Xms192m", "-Xmx512m")
CLUSTER_ID = "U2VhdGZsb3ctbGFiLTAwMQ"

REPLICATED: dict[str, str | int] = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
    "replica.lag.time.max.ms": 6000,
}


class Cluster:
    """Brokers on loopback; with `proxied`, `detour` is an address that leads through a proxy."""

    def __init__(self, data: Path, logs: Path, brokers: int = 1, proxied: bool = False) -> None:
        self.nodes = [
            Broker(
                0,
                data / f"broker-{n}",
                log=logs / f"broker-{n}.log",
                heap=HEAP,
                progress=lambda _: None,
            )
            for n in range(1, brokers + 1)
        ]
        # A broker dies with the thread that started it, so they last.
        self._threads = ThreadPoolExecutor(brokers)
        self.proxy: Proxy | None = None
        if brokers > 1:
            self._make_one_of(self.nodes)
        if proxied:
            self.proxy = self._detour(self.nodes[0])

    def _make_one_of(self, nodes: list[Broker]) -> None:
        controllers = [f"127.0.0.1:{free_port()}" for _ in nodes]
        voters = ",".join(f"{n}@{place}" for n, place in enumerate(controllers, 1))
        for number, (node, controller) in enumerate(zip(nodes, controllers, strict=True), 1):
            node.cluster = CLUSTER_ID
            node.overrides |= {
                **REPLICATED,
                "node.id": number,
                "listeners": f"PLAINTEXT://{node.bootstrap},CONTROLLER://{controller}",
                "controller.quorum.voters": voters,
            }

    def _detour(self, node: Broker) -> Proxy:
        """A second listener whose advertised address is the proxy's: clients stay on it."""
        behind, controller = free_port(), f"127.0.0.1:{free_port()}"
        proxy = Proxy(free_port(), ("127.0.0.1", behind))
        plain = f"PLAINTEXT://{node.bootstrap}"
        node.overrides |= {
            "listeners": f"{plain},DETOUR://127.0.0.1:{behind},CONTROLLER://{controller}",
            "advertised.listeners": f"{plain},DETOUR://127.0.0.1:{proxy.port}",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,DETOUR:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "controller.quorum.voters": f"1@{controller}",
        }
        return proxy

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    @property
    def detour(self) -> str:
        assert self.proxy is not None
        return f"127.0.0.1:{self.proxy.port}"

    def start(self) -> None:
        started = [self._threads.submit(node.start) for node in self.nodes]
        for each in started:
            each.result()
        if self.proxy:
            self.proxy.start()

    def start_node(self, node: Broker) -> None:
        self._threads.submit(node.start).result()

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
            # The data is large and tells nothing that the recorded topics do not; the log stays.
            shutil.rmtree(node.data_dir, ignore_errors=True)
        if self.proxy:
            self.proxy.stop()
        self._threads.shutdown()


class NoSmallDiskError(Exception):
    """This machine does not let us mount a disk that can be filled."""


class SmallDisk:
    """A file system of its own that can be filled to the last byte and freed."""

    def __init__(self, place: Path, mebibytes: int) -> None:
        self.place, self._ballast = place, place / "ballast"
        place.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
        run = self._mount("mount", *options)
        if run:
            raise NoSmallDiskError(f"mounting a small tmpfs is refused: {run}")

    @staticmethod
    def _mount(*command: str) -> str:
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        return run.stderr.strip() or "refused" if run.returncode else ""

    def fill(self, leave_free: int = 0) -> None:
        """Takes all but `leave_free` bytes."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            for _ in range(max(0, self.free_bytes - leave_free) >> 16):
                ballast.write(bytes(1 << 16))

    @property
    def free_bytes(self) -> int:
        stat = os.statvfs(self.place)
        return stat.f_bavail * stat.f_frsize

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        self._mount("umount", "-l", str(self.place))
