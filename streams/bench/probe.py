"""Measures the latency of an event: from sending it until its outcome can be read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import chain
from typing import Any

import orjson

from streams.bench.environment import BenchEnvironment, BenchError
from streams.kafka.producers import idempotent_producer
from streams.kafka.topic_reader import consumer, follow
from streams.runtime.deadline import Deadline

OUTCOME_TIMEOUT_SECONDS = 60.0


class Probe:
    """Sends events and reads their outcome from the output topic ``outcome``."""

    def __init__(self, env: BenchEnvironment, outcome: str) -> None:
        self._env, self._outcome = env, outcome
        self._producer: Any = idempotent_producer(env.settings, linger_ms=0)
        self._consumer: Any = consumer(env.settings)
        self._sent: dict[str, float] = {}
        self.waits: list[tuple[float, float]] = []  # when sent (monotonic), seconds until seen
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Probe:
        await self._producer.start()
        await self._consumer.start()
        tps = self._env.tps(self._outcome)
        self._consumer.assign(tps)
        await self._consumer.seek_to_end(*tps)
        for tp in tps:
            await self._consumer.position(tp)
        self._watch = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch:
            self._watch.cancel()
        await self._producer.stop()
        await self._consumer.stop()

    async def _follow(self) -> None:
        async for batches in follow(self._consumer):
            now = time.monotonic()
            for record in chain.from_iterable(batches.values()):
                cause = record.value and orjson.loads(record.value)["causedBy"]
                if sent := self._sent.pop(cause, None):
                    self.waits.append((sent, now - sent))

    async def send(self, topic: str, key: str, body: dict[str, Any]) -> None:
        """Sends an event whose outcome is awaited."""
        self._sent[body["id"]] = time.monotonic()
        await self._producer.send(self._env.topic(topic), orjson.dumps(body), key.encode())

    async def send_at(
        self, rate: float, seconds: float, make: Callable[[int], tuple[str, str, dict[str, Any]]]
    ) -> None:
        """Sends the events ``make(0)``, ``make(1)``, … at an even rate; as late as they may be."""
        began, count = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            while count < now * rate:
                await self.send(*make(count))
                count += 1
            await asyncio.sleep(0.005)

    async def all_seen(self) -> None:
        """Waits until every event had an outcome. Raises BenchError after a minute."""
        deadline = Deadline(OUTCOME_TIMEOUT_SECONDS)
        while self._sent:
            if deadline.has_passed:
                raise BenchError(
                    f"{len(self._sent)} events had no outcome in {OUTCOME_TIMEOUT_SECONDS:.0f} s"
                )
            await asyncio.sleep(0.05)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Returns p50, p95, p99 and the maximum in milliseconds."""
    ordered = sorted(seconds)
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {name: ordered[round(rank * last)] * 1000 for name, rank in ranks.items()}
