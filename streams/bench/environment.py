"""The environment of a bench: a broker with separate topics, and workers in separate processes.

All figures are measured from outside the worker, from the committed records that any reader can
see, so that measuring costs the worker nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from rich.console import Console

from streams.bench.progress import ProgressBar
from streams.bench.workload import Record
from streams.contract.topics import CONSUMED, TOPICS
from streams.ingest.items import FeedItem
from streams.ingest.publisher import publish
from streams.kafka.topic_admin import create_topics
from streams.kafka.topic_reader import admin_client, connected, consumer, read_to_end
from streams.runtime.deadline import Deadline
from streams.runtime.errors import SeatflowError
from streams.runtime.log_events import PARTITION_RESTORED
from streams.runtime.settings import Settings

PARTITIONS = 8
LOOK_EVERY = 0.05
QUIET_FOR = 0.6  # all is applied and nothing new came: longer than anything waits in a worker
SETTLE_TIMEOUT_SECONDS = 900.0
_WORKER = (
    "import sys; from streams.worker.worker import run_worker;"
    " from streams.runtime.settings import load_settings;"
    " sys.exit(run_worker(load_settings()))"
)


class BenchError(SeatflowError):
    """A benchmark could not run, or its outcome was wrong."""


class WorkerProcess:
    """A worker and its log, one JSON object a line."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.log = directory / f"worker-{uuid.uuid4().hex[:8]}.log"
        env = os.environ | {
            "SEATFLOW_BROKERS": settings.brokers,
            "SEATFLOW_APP_ID": settings.app_id,
            "SEATFLOW_PARTITIONS": str(settings.partitions),
            "SEATFLOW_TOPIC_PREFIX": settings.topic_prefix,
            "SEATFLOW_METRICS_PORT": "0",
            "SEATFLOW_LOG_FORMAT": "json",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _WORKER],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises BenchError if the worker has ended."""
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-3:]
            raise BenchError(f"the worker ended ({self._process.returncode}): {' / '.join(tail)}")

    def said(self, event: str) -> list[dict[str, Any]]:
        """Returns the log entries of this event, with ``at`` in seconds since 1970."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if f'"{event}"' in line:
                entry = json.loads(line)
                entry["at"] = datetime.fromisoformat(entry["timestamp"]).timestamp()
                found.append(entry)
        return found

    async def restored(self, partitions: int) -> list[dict[str, Any]]:
        """Waits until all partitions are restored, and returns the worker's log entries of them."""
        deadline = Deadline(SETTLE_TIMEOUT_SECONDS)
        while len(said := self.said(PARTITION_RESTORED)) < partitions:
            self.check()
            if deadline.has_passed:
                raise BenchError("the worker did not restore its partitions")
            await asyncio.sleep(LOOK_EVERY)
        return said

    def rss(self) -> int:
        """Returns the current resident memory in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Returns the processor time used so far in seconds, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends the worker and waits for its exit."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class BenchEnvironment:
    """Topics of one bench; ``settings`` are those of its workers."""

    def __init__(
        self, brokers: str, name: str, directory: Path, show: ProgressBar, quick: bool
    ) -> None:
        unique = f"bench-{name}-{uuid.uuid4().hex[:6]}"
        self.settings = Settings(
            brokers=brokers,
            app_id=unique,
            topic_prefix=f"{unique}.",
            partitions=PARTITIONS,
            metrics_port=0,
            _env_file=None,  # type: ignore[call-arg]
        )
        self.name, self.show, self.quick = name, show, quick
        self._directory = directory
        self._workers: list[WorkerProcess] = []
        self.admin: Any = None
        self.reader: Any = None

    async def __aenter__(self) -> BenchEnvironment:
        report = await create_topics(self.settings)
        if report.problems:
            raise BenchError(report.problems[0])
        self.admin, self.reader = admin_client(self.settings), consumer(self.settings)
        await self.admin.start()
        await self.reader.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()
        # Gone, lest the broker goes on compacting them during the next bench.
        await self.admin.delete_topics([self.topic(topic.name) for topic in TOPICS])
        await self.reader.stop()
        await self.admin.close()

    def another(self) -> BenchEnvironment:
        """Returns an environment with topics of its own on the same broker."""
        brokers, directory = self.settings.brokers, self._directory
        return BenchEnvironment(brokers, self.name, directory, self.show, self.quick)

    def topic(self, name: str) -> str:
        """Returns the full name of a topic."""
        return self.settings.topic_prefix + name

    def tps(self, *names: str) -> list[TopicPartition]:
        """Returns all partitions of topics, given by short names."""
        return [TopicPartition(self.topic(n), p) for n in names for p in range(PARTITIONS)]

    def start_worker(self) -> WorkerProcess:
        """Starts a worker on the environment's topics."""
        worker = WorkerProcess(self.settings, self._directory)
        self._workers.append(worker)
        return worker

    async def publish(self, records: Iterable[Record], what: str, total: int) -> int:
        """Publishes input events, waits for the acks and returns the number of events."""
        step = self.show.step(what, total)

        def items() -> Iterable[FeedItem]:
            """Yields the records and reports the progress every 1000."""
            for count, record in enumerate(records):
                if count % 1000 == 0:
                    step(count)
                yield FeedItem(*record)

        result = await publish(
            items(), self.settings.brokers, self.settings.topic_prefix, console=Console(quiet=True)
        )
        return result.events

    async def committed(self, *names: str) -> int:
        """Returns the sum of the last stable offsets of these topics."""
        return sum((await self.reader.end_offsets(self.tps(*names))).values())

    async def _applied(self) -> dict[Any, int] | None:
        """Returns the end offsets of all consumed topics if everything is applied, else None."""
        ends: dict[Any, int] = await self.reader.end_offsets(self.tps(*CONSUMED))
        try:
            noted = await self.admin.list_consumer_group_offsets(self.settings.app_id)
        except KafkaError:  # the group's coordinator is just being made
            return None
        done = all(tp in noted and noted[tp].offset >= end for tp, end in ends.items() if end)
        return ends if done else None

    async def settled(
        self, worker: WorkerProcess, what: str, total: int
    ) -> list[tuple[float, int]]:
        """Waits until everything is applied, according to the group's offsets.

        Returns the growth of ``user-licenses``: pairs of the time, in seconds since 1970, and the
        sum of the readable offsets.

        Raises:
            BenchError: the worker ended, or the topics did not settle in time.
        """
        step = self.show.step(what, total)
        growth = [(time.time(), await self.committed("user-licenses"))]
        first, looked, since = growth[0][1], 0.0, 0.0
        ends: dict[Any, int] | None = None
        deadline = Deadline(SETTLE_TIMEOUT_SECONDS)
        while True:
            at, count = time.time(), await self.committed("user-licenses")
            if count != growth[-1][1]:
                growth.append((at, count))
                step(count - first)
            if at - looked > QUIET_FOR / 3:
                looked, before, ends = at, ends, await self._applied()
                if ends is None or ends != before or at - growth[-1][0] < QUIET_FOR:
                    since = at
                elif at - since > QUIET_FOR:
                    return growth
                worker.check()
            if deadline.has_passed:
                raise BenchError(f"{what}: not settled in {SETTLE_TIMEOUT_SECONDS:.0f} s")
            await asyncio.sleep(LOOK_EVERY)

    async def read(self, *names: str) -> AsyncIterator[Any]:
        """Yields the present committed records of these topics."""
        async with connected(consumer(self.settings), self.settings) as reader:
            tps = self.tps(*names)
            reader.assign(tps)
            async for batches in read_to_end(reader, tps):
                for record in chain.from_iterable(batches.values()):
                    yield record


@asynccontextmanager
async def a_broker(
    brokers: str | None, show: ProgressBar, needed: object = True
) -> AsyncIterator[tuple[str, Path]]:
    """Yields the given brokers, or a temporary broker, and a temporary directory for logs."""
    from streams.local.broker import Broker, BrokerError

    with tempfile.TemporaryDirectory(prefix="seatflow-bench-") as name:
        directory = Path(name)
        if brokers or not needed:
            yield brokers or "127.0.0.1:9092", directory
            return
        show.step("starting a broker", None)
        broker = Broker(0, directory / "broker", progress=lambda _: None)
        try:
            broker.start()
        except BrokerError as error:
            raise BenchError(str(error)) from error
        try:
            yield broker.bootstrap, directory
        finally:
            broker.stop()
