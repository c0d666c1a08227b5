"""A whole Seatflow on a real broker for tests: topics of its own, worker processes, its outcome."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.contract.topics import CONSUMED
from streams.kafka.topic_admin import create_topics
from streams.runtime.deadline import Deadline
from streams.runtime.settings import load_settings
from tests.support.kafka import Record, latest, read_topic

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOLATILE = ("revision", "updatedAt", "causedBy", "since")
SAME = ("user-licenses", "errors", "group-status", "product-seats")
Event = tuple[str, str, bytes]
"""An input record: topic without prefix, key, value."""


class Worker:
    """A worker process, or another command; its log lines are events that a test can await."""

    def __init__(
        self,
        env: Mapping[str, str],
        root: pathlib.Path = ROOT,
        command: Iterable[str] = ("worker",),
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streams", *command],
            cwd=root,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._news.put(line.rstrip())
        self._news.put(None)

    def wait_for(self, words: str, times: int = 1, timeout: float = 60.0) -> str:
        """Waits for ``times`` new lines of the log with ``words``, and returns the last one."""
        deadline = Deadline(timeout)
        while True:
            try:
                line = self._news.get(timeout=max(0.01, deadline.remaining_seconds))
            except queue.Empty:
                raise TimeoutError(f"{words!r} did not come; log:\n{self.log()}") from None
            if line is None:
                raise RuntimeError(f"the worker ended before {words!r}; log:\n{self.log()}")
            if words in line:
                times -= 1
                if not times:
                    return line

    def log(self) -> str:
        return "\n".join(self.lines[-40:])

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(timeout=12)


class System:
    """Topics with a prefix of their own, and whatever workers a test starts on them."""

    def __init__(self, bootstrap: str, partitions: int = 4) -> None:
        self.bootstrap = bootstrap
        self.partitions = partitions
        self.name = f"system-{uuid.uuid4().hex[:10]}"
        self.prefix = f"{self.name}."
        self.workers: list[Worker] = []
        self.env = {
            "SEATFLOW_BROKERS": bootstrap,
            "SEATFLOW_APP_ID": self.name,
            "SEATFLOW_TOPIC_PREFIX": self.prefix,
            "SEATFLOW_PARTITIONS": str(partitions),
            "SEATFLOW_SESSION_TIMEOUT": "6",
        }
        flags = {k.removeprefix("SEATFLOW_").lower(): v for k, v in self.env.items()}
        asyncio.run(create_topics(load_settings(**flags)))

    def worker_of(self, root: pathlib.Path, env: Mapping[str, str]) -> Worker:
        """Starts a worker of another checkout."""
        worker = Worker({**self.env, **env}, root)
        self.workers.append(worker)
        return worker

    def worker(self, ready: bool = True, **env: str) -> Worker:
        """Starts a worker; ``ready``: waits until a partition of its own is restored."""
        worker = Worker({**self.env, **env})
        self.workers.append(worker)
        if ready:
            worker.wait_for("partition_restored")
        return worker

    def publish(self, events: Iterable[Event], partition: int | None = None) -> None:
        """Publishes events; to one partition, as another partitioner might (R29)."""
        asyncio.run(self._publish(events, partition))

    async def _publish(self, events: Iterable[Event], partition: int | None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        await producer.start()
        try:
            sent = [
                await producer.send(
                    self.prefix + topic, value, key=key.encode(), partition=partition
                )
                for topic, key, value in events
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    def settle(self, timeout: float = 90.0) -> None:
        """Waits until the group has committed all inputs and internal topics for good."""
        asyncio.run(self._settle(timeout))

    async def _settle(self, timeout: float) -> None:
        tps = [
            TopicPartition(self.prefix + name, p)
            for name in CONSUMED
            for p in range(self.partitions)
        ]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.name, enable_auto_commit=False
        )
        await consumer.start()
        consumer.assign(tps)
        deadline = Deadline(timeout)
        quiet: tuple[int, ...] = ()
        since = 0.0
        try:
            while True:
                ends = await consumer.end_offsets(tps)
                lag = {tp: end - (await consumer.committed(tp) or 0) for tp, end in ends.items()}
                now = tuple(ends.values())
                if any(lag.values()) or now != quiet:
                    quiet, since = now, time.monotonic()
                elif time.monotonic() - since > 0.6:
                    return
                if deadline.has_passed:
                    behind = {f"{tp.topic}/{tp.partition}": n for tp, n in lag.items() if n}
                    logs = "\n---\n".join(w.log() for w in self.workers)
                    raise TimeoutError(f"not settled, lag {behind}; logs:\n{logs}")
                await asyncio.sleep(0.1)
        finally:
            await consumer.stop()

    def records(self, topic: str, isolation: str = "read_committed") -> list[Record]:
        return asyncio.run(read_topic(self.bootstrap, self.prefix + topic, isolation=isolation))

    def outcome(self) -> dict[str, dict[str, Any]]:
        """Returns the final compacted outputs without what depends on batches and times."""
        return {
            topic: {
                str(key): _stable(json.loads(value))
                for key, value in sorted(latest(self.records(topic)).items(), key=str)
            }
            for topic in SAME
        }

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in value.items() if k not in VOLATILE}
    return [_stable(v) for v in value] if isinstance(value, list) else value


@contextmanager
def running(bootstrap: str, partitions: int = 4) -> Iterator[System]:
    system = System(bootstrap, partitions)
    try:
        yield system
    finally:
        system.close()


class Events:
    """Makes input events of one tenant, with ids in order."""

    def __init__(self, tenant: str = "contoso", run: str = "e") -> None:
        self.tenant = tenant
        self.ids = (f"{run}{n}" for n in itertools.count(1))

    def _event(self, topic: str, key: str, type: str, **body: Any) -> Event:
        value = {"type": type, "id": next(self.ids), "time": "2026-11-24T08:00:00Z", **body}
        return topic, key, json.dumps(value).encode()

    def _of_user(self, user: str, type: str, **body: Any) -> Event:
        key = f"{self.tenant}/{user}"
        return self._event("user-changes", key, type, tenant=self.tenant, user=user, **body)

    def product(self, sku: str, *plans: str) -> Event:
        listed = [{"servicePlanId": plan} for plan in plans or (f"{sku}-plan",)]
        return self._event("catalog", sku, "product.defined", skuId=sku, servicePlans=listed)

    def seats(self, sku: str, enabled: int) -> Event:
        body = {"tenant": self.tenant, "skuId": sku, "prepaidUnits": {"enabled": enabled}}
        return self._event("subscriptions", f"{self.tenant}/{sku}", "subscription.updated", **body)

    def cancel(self, sku: str) -> Event:
        body = {"tenant": self.tenant, "skuId": sku}
        return self._event("subscriptions", f"{self.tenant}/{sku}", "subscription.deleted", **body)

    def tenant_settings(self, **body: Any) -> Event:
        return self._event("tenants", self.tenant, "tenant.updated", tenant=self.tenant, **body)

    def user(self, user: str, **body: Any) -> Event:
        return self._of_user(user, "user.upserted", **({"usageLocation": "US"} | body))

    def join(self, user: str, group: str) -> Event:
        return self._of_user(user, "membership.added", group=group)

    def leave(self, user: str, group: str) -> Event:
        return self._of_user(user, "membership.removed", group=group)

    def assign(self, user: str, *skus: str) -> Event:
        add = [{"skuId": sku} for sku in skus]
        return self._of_user(user, "licenses.changed", addLicenses=add)

    def license(self, group: str, *skus: str) -> Event:
        body = {"tenant": self.tenant, "group": group, "addLicenses": [{"skuId": s} for s in skus]}
        key = f"{self.tenant}/{group}"
        return self._event("group-changes", key, "licenses.changed", **body)
