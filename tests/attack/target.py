"""The system under attack: two workers, a console, a receiver, and the neighbour beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from aiokafka import AIOKafkaProducer

from streams.runtime.deadline import Deadline
from streams.runtime.log_events import PROCESSOR_SKIPPED
from streams.runtime.tokens import token_digest
from tests.attack.neighbour import TENANT as NEIGHBOUR
from tests.support.system import ROOT, Event, Events, System, Worker

ATTACKER = "attacker"
ATTACKER_TOKEN, NEIGHBOUR_TOKEN = "attacker-token-0123456789", "neighbour-token-0123456789"
PARTITIONS = 4
ADDRESS = re.compile(r"https?://[^\s/]+")
CALM_EVENTS = 2 * PARTITIONS
"""Changes of the neighbour that are answered before an attack counts as digested."""
PATIENCE_SECONDS = 20.0
SEARCH_SECONDS = 10.0
Headers = Sequence[tuple[str, bytes]]


@dataclass
class Observations:
    """The neighbour's observations so far. Times are seconds since the epoch."""

    events: list[tuple[float, float]] = field(default_factory=list)
    oldest_open: tuple[float, float] = (0.0, 0.0)
    opens: list[tuple[float, float]] = field(default_factory=list)
    requests: list[tuple[str, float, float, int]] = field(default_factory=list)

    def note(self, line: str) -> None:
        kind, *rest = json.loads(line)
        if kind == "event":
            self.events.append((rest[0], rest[1]))
        elif kind == "open":
            self.opens.append((rest[0], rest[1]))
        else:
            self.requests.append((kind, *rest))

    def longest_wait(self, since: float) -> float:
        """Returns the longest wait of changes sent since then, those without a result included."""
        answered = [waited for sent, waited in self.events if sent >= since]
        still = [min(waited, at - since) for at, waited in self.opens if at >= since]
        return max([*answered, *still], default=0.0)

    def answered(self, since: float) -> int:
        return sum(sent >= since for sent, _ in self.events)

    def longest_request(self, door: str, since: float) -> float:
        return max((w for d, at, w, _ in self.requests if d == door and at >= since), default=0.0)

    def refused(self, door: str, since: float) -> int:
        """Returns the number of the neighbour's requests that were not answered 200."""
        found = [status for d, at, _, status in self.requests if d == door and at >= since]
        return sum(status != 200 for status in found)


class Target:
    """A fresh system on the broker. ``processes``: all of ours, by name."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.system = System(bootstrap, PARTITIONS)
        self.events = Events(ATTACKER, "a")
        self.sent_bytes = 0
        self.seen = Observations()
        self.urls: dict[str, str] = {}
        self.processes: dict[str, Worker] = {}
        self._start()

    def _start(self) -> None:
        tokens, sources = _token_files(self.folder)
        env = {**self.system.env, "SEATFLOW_LOG_FORMAT": "console"}
        for name in ("worker-1", "worker-2"):
            self.processes[name] = Worker(env)
        data = str(self.folder / "console")
        console = ("console", "--port", "0", "--tokens", str(tokens), "--data-dir", data)
        self.processes["console"] = Worker(env, command=console)
        changes = str(self.folder / "changes.jsonl")
        receive = ("receive", "--port", "0", "--sources", str(sources), "--changes", changes)
        self.processes["receiver"] = Worker(env, command=receive)
        self.system.workers += self.processes.values()
        for name in ("worker-1", "worker-2"):
            self.processes[name].wait_for("partition_restored")
        for name, word in (("console", "Console"), ("receiver", "Receiving")):
            found = ADDRESS.search(self.processes[name].wait_for(word))
            assert found is not None
            self.urls[name] = found[0]
        self._start_neighbour()

    def _start_neighbour(self) -> None:
        self._neighbour = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.neighbour"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        given = {
            "brokers": self.system.bootstrap,
            "prefix": self.system.prefix,
            "partitions": PARTITIONS,
            "token": NEIGHBOUR_TOKEN,
            "probes": {
                "console": f"{self.urls['console']}/v1/tenants/{NEIGHBOUR}/users?$top=5",
                "receiver": f"{self.urls['receiver']}/scim/v2/Users?count=5",
            },
        }
        assert self._neighbour.stdin is not None
        print(json.dumps(given), file=self._neighbour.stdin, flush=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._neighbour.stdout is not None
        for line in self._neighbour.stdout:
            self.seen.note(line)

    # ---- what attacks do

    def publish(self, events: Sequence[Event], **options: Any) -> None:
        """Publishes events with the partitioner; ``options`` of aiokafka's producer."""
        self.produce([(topic, key.encode(), value) for topic, key, value in events], **options)

    def produce(
        self,
        records: Sequence[tuple[str, bytes | None, bytes | None]],
        *,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        **options: Any,
    ) -> int:
        """Publishes records; returns how many the broker refused."""
        return asyncio.run(self._produce(records, headers, timestamp_ms, options))

    async def _produce(
        self, records: Any, headers: Headers, timestamp_ms: int | None, options: dict[str, Any]
    ) -> int:
        options = {"max_request_size": 4 << 20, "linger_ms": 2, **options}
        producer = AIOKafkaProducer(bootstrap_servers=self.system.bootstrap, **options)
        await producer.start()
        try:
            sent = []
            for topic, key, value in records:
                self.sent_bytes += len(key or b"") + len(value or b"")
                sent.append(
                    await producer.send(
                        self.system.prefix + topic,
                        value,
                        key=key,
                        headers=list(headers),
                        timestamp_ms=timestamp_ms,
                    )
                )
            done = await asyncio.gather(*sent, return_exceptions=True)
            return sum(isinstance(each, BaseException) for each in done)
        finally:
            await producer.stop()

    def client(self, door: str, token: str | None = ATTACKER_TOKEN, timeout: float = 5.0) -> Any:
        """Returns an HTTP client of the attacker's."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.urls[door], headers=headers, timeout=timeout)

    # ---- what is seen of it

    def ended(self) -> dict[str, int]:
        """Returns the exit codes of the processes that ended."""
        codes = {name: worker.process.poll() for name, worker in self.processes.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def failures(self) -> list[str]:
        """Returns the workers' log lines about records on which the processor itself failed."""
        lines = [line for w in self.processes.values() for line in list(w.lines)]
        return [line for line in lines if PROCESSOR_SKIPPED in line]

    def memory_mib(self) -> dict[str, float]:
        """Returns the greatest resident size of each process since the last call."""
        return {name: _peak_mib(worker.process.pid) for name, worker in self.processes.items()}

    def forget_peaks(self) -> None:
        """Lets the kernel count the greatest resident sizes from now on."""
        for worker in self.processes.values():
            with contextlib.suppress(OSError):
                Path(f"/proc/{worker.process.pid}/clear_refs").write_text("5")

    def digest(self) -> None:
        """Waits until the neighbour's changes after this moment are answered on all partitions."""
        since, deadline = time.time(), Deadline(PATIENCE_SECONDS)
        while self.seen.answered(since) < CALM_EVENTS and not deadline.has_passed:
            if self.ended():
                return
            time.sleep(0.05)

    def console_follows(self) -> bool:
        """Returns whether a change of the neighbour's is shown, before long."""
        mark = f"mark{time.time_ns()}"
        self.publish([Events(NEIGHBOUR, f"{mark}-").user("u0", displayName=mark)])
        deadline = Deadline(SEARCH_SECONDS)
        path = f"/v1/tenants/{NEIGHBOUR}/users/u0"
        with self.client("console", NEIGHBOUR_TOKEN) as client:
            while not deadline.has_passed:
                with contextlib.suppress(httpx2.HTTPError):
                    if mark in client.get(path).text:
                        return True
                time.sleep(0.1)
        return False

    def close(self) -> None:
        assert self._neighbour.stdin is not None
        with contextlib.suppress(OSError):
            self._neighbour.stdin.close()
        self._neighbour.terminate()
        self._neighbour.wait()
        self.system.close()
        for name, worker in self.processes.items():
            (self.folder / f"{name}.log").write_text("\n".join(worker.lines) + "\n")


@contextlib.contextmanager
def target(bootstrap: str, folder: Path) -> Iterator[Target]:
    """Runs a system; its logs are in the folder afterwards."""
    made = Target(bootstrap, folder)
    try:
        yield made
    finally:
        made.close()


def _peak_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _token_files(folder: Path) -> tuple[Path, Path]:
    tokens, sources = folder / "tokens.toml", folder / "sources.toml"
    given = ((ATTACKER, ATTACKER_TOKEN), (NEIGHBOUR, NEIGHBOUR_TOKEN))
    tokens.write_text(
        "".join(
            f'[[token]]\nname = "{name}"\nrole = "operator"\ntenants = ["{name}"]\n'
            f'sha256 = "{token_digest(token).hex()}"\n'
            for name, token in given
        )
    )
    sources.write_text(
        "".join(
            f'[[source]]\nname = "{name}"\ntenant = "{name}"\ntoken = "{token}"\n'
            for name, token in given
        )
    )
    for path in (tokens, sources):
        path.chmod(0o600)
    return tokens, sources
