"""Toy workers as processes, their load, and the verdict: nothing lost, nothing applied twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from streams.contract.topics import CONSUMED
from streams.kafka.changelog_rows import APPLIED, ATTEMPTED, row_key
from streams.kafka.topic_admin import create_topics
from streams.runtime.deadline import Deadline
from streams.runtime.settings import Settings, load_settings
from tests.support.kafka import Record, end_offsets, latest, produce, read_topic

TOY = Path(__file__).with_name("counting_worker.py")
PARTITIONS = 4
SESSION = 6.0  # seconds; the least that is allowed


class Toy:
    """A toy worker process and what it logged."""

    def __init__(self, settings: Settings, log: Path, **env: str) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, str(TOY)],
            env={
                **os.environ,
                "SEATFLOW_BROKERS": settings.brokers,
                "SEATFLOW_APP_ID": settings.app_id,
                "SEATFLOW_TOPIC_PREFIX": settings.topic_prefix,
                "SEATFLOW_PARTITIONS": str(settings.partitions),
                "SEATFLOW_SESSION_TIMEOUT": str(SESSION),
                "SEATFLOW_LOG_FORMAT": "json",
                **env,
            },
            stderr=log.open("ab"),
        )

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(x) for x in self.log.read_text().splitlines() if x.startswith("{")]
        return [line for line in lines if name is None or line["event"] == name]

    def wait_for(self, name: str, times: int = 1, timeout: float = 40) -> list[dict[str, Any]]:
        until(
            lambda: len(self.events(name)) >= times or self.process.poll() is not None,
            timeout,
            lambda: f"{name} did not come\n{self.log.read_text()}",
        )
        assert len(self.events(name)) >= times, self.log.read_text()
        return self.events(name)

    def ends(self, code: int, timeout: float = 40) -> None:
        """Waits for its end, and for that exit code."""
        try:
            ended = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs\n{self.log.read_text()}") from None
        assert ended == code, self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Lab:
    """Topics, toy workers, load, and the verdict of one test."""

    def __init__(self, brokers: str, directory: Path) -> None:
        name = f"toy-{uuid.uuid4().hex[:10]}"
        self.settings = load_settings(
            brokers=brokers, app_id=name, topic_prefix=f"{name}.", partitions=PARTITIONS
        )
        self.directory = directory
        self.toys: list[Toy] = []
        self.sent = 0
        asyncio.run(create_topics(self.settings))

    def toy(self, ready: bool = True, **env: str) -> Toy:
        toy = Toy(self.settings, self.directory / f"{len(self.toys)}.log", **env)
        self.toys.append(toy)
        if ready:
            toy.wait_for("partition_restored")
        return toy

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """Runs one counting worker, and restarts it whenever it ends."""
        self.toy(ready=False)
        over = threading.Event()

        def supervise() -> None:
            while not over.wait(0.5):
                if self.toys[-1].process.poll() is not None:
                    self.toy(ready=False)

        thread = threading.Thread(target=supervise)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def send(self, count: int, keys: int = 200, topic: str = "user-changes", **body: Any) -> None:
        """Sends ``count`` events over ``keys`` keys."""
        value = json.dumps(body).encode()
        self.produce(topic, ((b"key%d" % (i % keys), value) for i in range(count)))
        self.sent += count

    def produce(self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        asyncio.run(produce(self.settings.brokers, self.settings.topic_prefix + topic, records))

    def read(self, topic: str, isolation: str = "read_committed") -> list[Record]:
        name = self.settings.topic_prefix + topic
        return asyncio.run(read_topic(self.settings.brokers, name, isolation=isolation))

    def counts(self) -> tuple[int, int]:
        """Returns the events read and the messages received, according to the changelog rows."""
        totals: Counter[str] = Counter()
        for key, value in latest(self.read("changelog")).items():
            if key and key not in (APPLIED, row_key(*ATTEMPTED)):
                totals[key.decode().partition("|")[0]] += int(value)
        return totals["seen"], totals["heard"]

    def settles_exactly(self, timeout: float = 60) -> None:
        """Waits until every event and message is counted once, and checks that it stays so."""
        wanted = (self.sent, self.sent)
        until(
            lambda: self.counts() == wanted,
            timeout,
            lambda: f"{self.counts()} instead of {wanted}\n{self.logs()}",
        )
        time.sleep(1)
        assert self.counts() == wanted, self.logs()
        published = latest(self.read("user-licenses"))
        assert sum(json.loads(value).get("seen", 0) for value in published.values()) == self.sent

    def lag(self) -> dict[str, int]:
        """Returns the lag of the group by partition, without zeros."""
        return asyncio.run(self._lag())

    async def _lag(self) -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.brokers)
        await admin.start()
        committed = await admin.list_consumer_group_offsets(self.settings.app_id)
        await admin.close()
        offsets = {(tp.topic, tp.partition): found.offset for tp, found in committed.items()}
        behind = {}
        for name in CONSUMED:
            topic = self.settings.topic_prefix + name
            for number, end in (await end_offsets(self.settings.brokers, topic)).items():
                if (lag := end - offsets.get((topic, number), -1)) != 0:
                    behind[f"{name}/{number}"] = lag
        return behind

    def logs(self) -> str:
        return "\n---\n".join(toy.log.read_text()[-3000:] for toy in self.toys)

    def close(self) -> None:
        for toy in self.toys:
            if toy.process.poll() is None:
                toy.process.kill()
                toy.process.wait()


def until(done: Callable[[], bool], timeout: float, why: Callable[[], str]) -> None:
    deadline = Deadline(timeout)
    while not done():
        if deadline.has_passed:
            raise AssertionError(why())
        time.sleep(0.1)
