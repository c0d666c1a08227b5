"""Publishes the load at a steady pace, whatever the brokers do, and knows what was acknowledged."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.runtime.deadline import Deadline
from tests.lab.tenants import Event

PATIENCE_MS = 100_000
Place = tuple[str, int, int]


class Load:
    """A thread with a producer that sends ``pace`` records of ``source`` per second."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        source: Callable[[], Event],
        partition_of: Callable[[bytes], int | None] = lambda _: None,
    ) -> None:
        """``partition_of``: the partition of a key; None leaves it to the producer's murmur2."""
        self._bootstrap, self._prefix, self._source = bootstrap, prefix, source
        self._partition_of = partition_of
        self.pace = 0.0
        self.acknowledged: dict[Place, bytes | None] = {}
        self.sent = self.unknown = 0
        self._urgent: deque[Event] = deque()
        self._open = 0
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def publish(self, events: Iterable[Event]) -> None:
        """Queues events to be sent next, regardless of the pace."""
        self._urgent.extend(events)

    def wait(self, timeout: float = 120.0) -> None:
        """Waits until every published record is acknowledged."""
        deadline = Deadline(timeout)
        while self._urgent or self._open:
            if self._error:
                raise self._error
            if deadline.has_passed:
                raise TimeoutError(
                    f"{self._open} records are not acknowledged, {len(self._urgent)} not sent"
                )
            time.sleep(0.02)

    def close(self) -> None:
        self._ended = True
        self._thread.join(timeout=10)

    def _live(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error

    async def _run(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            enable_idempotence=True,
            linger_ms=2,
            max_request_size=4 << 20,
            request_timeout_ms=PATIENCE_MS,
        )
        await producer.start()
        due, before = 0.0, time.monotonic()
        try:
            while not self._ended:
                now = time.monotonic()
                due = min(due + self.pace * (now - before), 2 * self.pace)
                before = now
                while self._urgent:
                    await self._send(producer, self._urgent.popleft())
                while due >= 1 and self.pace:
                    due -= 1
                    await self._send(producer, self._source())
                await asyncio.sleep(0.01)
        finally:
            await asyncio.wait_for(producer.stop(), 10)

    async def _send(self, producer: AIOKafkaProducer, event: Event) -> None:
        topic, key, value = event
        name = None if key is None else key.encode()
        partition = None if name is None else self._partition_of(name)
        try:
            future = await producer.send(self._prefix + topic, value, key=name, partition=partition)
        except KafkaError:  # no metadata of the partition: nothing was sent
            self._urgent.appendleft(event)
            return
        self._open += 1
        self.sent += 1
        future.add_done_callback(lambda done: self._done(done, event))

    def _done(self, future: asyncio.Future[Any], event: Event) -> None:
        """Notes the acknowledgement, or sends the event again.

        A failed send may have arrived all the same; the event's id makes it count once (R24).
        """
        self._open -= 1
        if future.cancelled() or future.exception():
            self.unknown += 1
            if not self._ended:
                self._urgent.append(event)
            return
        where = future.result()
        self.acknowledged[event[0], where.partition, where.offset] = event[2]
