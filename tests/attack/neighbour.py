"""The other tenant: steady changes and requests, and the time that each waited.

A process of its own, so that the attacker's work does not count as waiting. It is given one line of
JSON on stdin, and prints one line of JSON for each observation:

- ``["event", sent, waited]``: a licence change, from sending to its committed result;
- ``["open", now, waited]``: the oldest change that has no result yet, five times a second;
- ``["console" or "receiver", sent, waited, status]``: a request; status 0: no answer.

Times are seconds since the epoch. It ends when stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

import httpx2
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.support.system import Events

TENANT, SKU = "neighbour", "n-base"
USERS = 40
PACE_SECONDS = 0.1
PROBE_SECONDS = 0.25
REQUEST_TIMEOUT_SECONDS = 10.0


def tell(*observation: object) -> None:
    print(json.dumps(observation), flush=True)


class Changes:
    """Assigns and removes a direct licence, user by user, so that every partition is used."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self._producer, self._prefix = producer, prefix
        self._events = Events(TENANT, f"n{time.time_ns()}-")
        self.open: dict[str, float] = {}

    async def set_up(self) -> None:
        events = [self._events.product(SKU), self._events.seats(SKU, 10 * USERS)]
        events += [self._events.user(f"u{n}", displayName=f"User {n}") for n in range(USERS)]
        for topic, key, value in events:
            await self._producer.send_and_wait(self._prefix + topic, value, key=key.encode())

    async def run(self) -> None:
        turn = 0
        while True:
            user = f"u{turn % USERS}"
            body: dict[str, Any] = {"addLicenses": [{"skuId": SKU}]}
            if turn // USERS % 2:
                body = {"removeLicenses": [SKU]}
            topic, key, value = self._events._of_user(user, "licenses.changed", **body)
            self.open[json.loads(value)["id"]] = time.time()
            await self._producer.send(self._prefix + topic, value, key=key.encode())
            turn += 1
            await asyncio.sleep(PACE_SECONDS)

    def answered(self, value: bytes) -> None:
        if b'"' + TENANT.encode() + b'"' not in value:
            return
        result = json.loads(value)
        if result["status"] != "deferred" and (sent := self.open.pop(result["causedBy"], None)):
            tell("event", sent, time.time() - sent)


async def read_results(consumer: AIOKafkaConsumer, changes: Changes) -> None:
    async for record in consumer:
        changes.answered(record.value or b"")


async def tell_open(changes: Changes) -> None:
    while True:
        now = time.time()
        tell("open", now, now - min(changes.open.values(), default=now))
        await asyncio.sleep(0.2)


async def probe(door: str, url: str, token: str) -> None:
    """Sends one request after the other, each on a connection of its own."""
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    while True:
        sent, status = time.time(), 0
        with contextlib.suppress(httpx2.HTTPError, OSError):
            async with httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_SECONDS) as client:
                status = (await client.get(url, headers=headers)).status_code
        tell(door, sent, time.time() - sent, status)
        await asyncio.sleep(PROBE_SECONDS)


async def main() -> None:
    given = json.loads(sys.stdin.readline())
    brokers, prefix = given["brokers"], given["prefix"]
    results = prefix + "results"
    producer = AIOKafkaProducer(bootstrap_servers=brokers)
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, isolation_level="read_committed")
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition(results, p) for p in range(given["partitions"])])
    await consumer.seek_to_end()
    changes = Changes(producer, prefix)
    await changes.set_up()
    tasks = [changes.run(), read_results(consumer, changes), tell_open(changes)]
    tasks += [probe(door, url, given["token"]) for door, url in given["probes"].items()]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(task) for task in tasks]
        await asyncio.to_thread(sys.stdin.read)  # until the target closes it
        for task in running:
            task.cancel()
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(main())
