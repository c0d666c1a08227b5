"""Plays scenarios against a running system, over Kafka alone.

    python -m tests.scenarios.over_kafka --brokers 127.0.0.1:9092 tests/scenarios/*.yaml

The topics exist and at least one worker runs. Step k of all scenarios is published, everything
settles, then its expectations are compared. Exit status 1 if one does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import sys
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.scenarios.expectations import Published, compare
from tests.scenarios.language import InputRecord, Scenario, catalog_records

INPUTS = ("user-changes", "group-changes", "catalog", "subscriptions", "tenants")
OUTPUTS = ("user-licenses", "errors", "group-status", "product-seats", "results", "dead-letters")
QUIET_SECONDS = 1.0
TIMEOUT_SECONDS = 90.0


@dataclass
class System:
    """A running system, seen through its topics."""

    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient
    consumer: AIOKafkaConsumer
    app_id: str
    prefix: str
    crc32: bool = False
    published: Published = field(default_factory=Published)
    high: dict[TopicPartition, int] = field(default_factory=dict)
    last_record_at: float = field(default_factory=time.monotonic)

    async def read(self) -> None:
        """Reads all topics for ever."""
        while True:
            batches = await self.consumer.getmany(timeout_ms=200, max_records=20_000)
            for partition, records in batches.items():
                self.high[partition] = records[-1].offset
                self.last_record_at = time.monotonic()
                topic = partition.topic.removeprefix(self.prefix)
                for record in records if topic in OUTPUTS else ():
                    key = None if record.key is None else record.key.decode()
                    value = record.value
                    if value is not None and topic != "dead-letters":
                        value = json.loads(value)
                    self.published.add(topic, key, value)

    async def publish(self, records: Iterable[InputRecord]) -> None:
        """Publishes input records, and waits until everything is processed."""
        for topic, key, value in records:
            name = self.prefix + topic
            partition = None
            if self.crc32:  # as clients on librdkafka do by default (R29)
                partition = zlib.crc32(key.encode()) % len(await self.producer.partitions_for(name))
            await self.producer.send(name, encoded(value), key=key.encode(), partition=partition)
        await self.producer.flush()
        deadline = time.monotonic() + TIMEOUT_SECONDS
        await asyncio.sleep(0.3)
        while time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            if time.monotonic() - self.last_record_at > QUIET_SECONDS and await self._no_lag():
                return
        raise TimeoutError(f"not settled after {TIMEOUT_SECONDS:.0f} s")

    async def _no_lag(self) -> bool:
        try:
            committed = await self.admin.list_consumer_group_offsets(self.app_id)
        except GroupCoordinatorNotAvailableError:  # the broker has just started
            return False
        for partition, high in self.high.items():
            topic = partition.topic.removeprefix(self.prefix)
            if partition in committed:
                if committed[partition].offset <= high and (
                    topic in INPUTS or topic.startswith("internal.")
                ):
                    return False
            elif topic in INPUTS:
                return False
        return True


def encoded(value: Any) -> bytes:
    """The bytes of a record's value."""
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode()


@asynccontextmanager
async def connected(brokers: str, app_id: str, prefix: str) -> AsyncIterator[System]:
    """Yields the system; reading begins at the ends of the topics, since the tenants are new."""
    options = {"isolation_level": "read_committed", "metadata_max_age_ms": 2000}
    async with (
        AIOKafkaProducer(bootstrap_servers=brokers, linger_ms=5) as producer,
        AIOKafkaConsumer(bootstrap_servers=brokers, **options) as consumer,
    ):
        admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
        await admin.start()
        try:
            names = [t for t in await admin.list_topics() if t.startswith(prefix)]
            described = await admin.describe_topics([t for t in names if "changelog" not in t])
            partitions = [
                TopicPartition(topic["topic"], partition["partition"])
                for topic in described
                for partition in topic["partitions"]
            ]
            consumer.assign(partitions)
            for partition, end in (await consumer.end_offsets(partitions)).items():
                consumer.seek(partition, end)
            system = System(producer, admin, consumer, app_id, prefix)
            reading = asyncio.create_task(system.read())
            try:
                yield system
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            await admin.close()


async def play(system: System, scenarios: list[Scenario]) -> None:
    """Plays all scenarios side by side; what does not hold is in their ``failures``."""
    await system.publish(catalog_records(scenarios))
    for number in range(max(len(s.steps) for s in scenarios)):
        current = [(s, s.steps[number]) for s in scenarios if number < len(s.steps)]
        if any("do" in step for _, step in current):
            await system.publish(record for s, step in current for record in s.records(step))
        for scenario, step in current:
            compare(scenario, number, step.get("expect", {}), system.published)


async def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--app-id", default="seatflow")
    parser.add_argument("--prefix", default="licensing.")
    parser.add_argument("--partitioner", choices=("murmur2", "crc32"), default="murmur2")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    run = uuid.uuid4().hex[:6]
    scenarios = [Scenario(path, run) for path in sorted(options.files)]
    async with connected(options.brokers, options.app_id, options.prefix) as system:
        system.crc32 = options.partitioner == "crc32"
        await play(system, scenarios)
    for scenario in scenarios:
        print("FAILED" if scenario.failures else "ok    ", scenario.path.name)
        print("".join(f"    {failure}\n" for failure in scenario.failures[:12]), end="")
    return int(any(s.failures for s in scenarios))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
