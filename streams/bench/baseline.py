"""The baseline: the reads and transactional writes of a worker, without the engine.

It reads the same topic and partitions of the same broker, decodes each event, and writes for each
user of a batch a ready-made row and a ready-made state, all of a batch in one transaction of the
partition, with the worker's own producer settings. Whatever a worker does beyond that is the cost
of Seatflow.

It runs in a process of its own, as a worker does: ``python -m streams.bench.baseline BROKERS INPUT
ROWS STATES PARTITIONS EVENTS`` prints the seconds from the first poll to the last commit, and the
seconds of processor time.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from streams.bench.environment import PARTITIONS, BenchEnvironment, BenchError
from streams.contract.topics import CHANGELOG
from streams.kafka.faust_adapter import RecordBatch
from streams.kafka.producers import transactional_producer
from streams.runtime import gc_tuning
from streams.runtime.settings import load_settings
from streams.worker.record_batches import PartitionBatch

BATCH_RECORDS = 5_000
ROW = b'{"s":"' + b"a" * 240 + b'"}'
STATE = b'{"v":"' + b"b" * 400 + b'"}'


@dataclass(frozen=True, slots=True)
class BrokerBaseline:
    """Events per second of the bare pipeline, and its seconds of processor time."""

    events_per_second: float
    cpu_seconds: float


async def measure_baseline(env: BenchEnvironment, events: int) -> BrokerBaseline:
    """Measures the baseline for the ``events`` in the topic of user changes."""
    env.show.step("the limit: the bare pipeline", None)
    names = [env.topic("limit-rows"), env.topic("limit-states")]
    config = {"cleanup.policy": "compact", **{k: str(v) for k, v in CHANGELOG.config.items()}}
    await env.admin.create_topics([NewTopic(n, PARTITIONS, 1, topic_configs=config) for n in names])
    command = [sys.executable, "-m", "streams.bench.baseline", env.settings.brokers]
    command += [env.topic("user-changes"), *names, str(PARTITIONS), str(events)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    await env.admin.delete_topics(names)
    if process.returncode:
        raise BenchError(f"the bare pipeline failed: {err.decode().strip().splitlines()[-1]}")
    seconds, cpu = map(float, out.split())
    return BrokerBaseline(events / seconds, cpu)


class PartitionProducer:
    """One partition: its own transactional producer, and the batches that wait for it."""

    def __init__(self, brokers: str, rows: str, states: str, number: int) -> None:
        self._topics = ((rows, ROW), (states, STATE))
        self._number = number
        self.queue: asyncio.Queue[list[Any] | None] = asyncio.Queue(2)
        self._producer: Any = transactional_producer(
            load_settings(brokers=brokers), f"{rows}-{number}"
        )

    async def start(self) -> None:
        """Starts the producer and learns the topics' partitions."""
        await self._producer.start()
        for topic, _ in self._topics:
            await self._producer.partitions_for(topic)

    async def run(self) -> None:
        """Writes the queued batches, each in a transaction, until None is queued."""
        while records := await self.queue.get():
            users = {}
            for record in records:
                users[record.key] = orjson.loads(record.value)
            await self._write(list(users))
        await self._producer.stop()

    async def _write(self, keys: list[bytes]) -> None:
        producer, sent, now = self._producer, [], int(time.time() * 1000)
        await producer.begin_transaction()

        def new_batch() -> RecordBatch:
            return RecordBatch(producer.create_batch())

        for topic, value in self._topics:
            batch = PartitionBatch(topic, self._number, new_batch)
            for key in keys:
                batch.add(now, key, value)
            send = producer.send_batch
            sent += [await send(b, topic, partition=self._number) for b in batch.sealed()]
        await asyncio.gather(*sent)
        await producer.commit_transaction()


async def _pipeline(brokers: str, topics: list[str], partitions: int, events: int) -> None:
    source, rows, states = topics
    lanes = [PartitionProducer(brokers, rows, states, number) for number in range(partitions)]
    await asyncio.gather(*(lane.start() for lane in lanes))
    tps = [TopicPartition(source, number) for number in range(partitions)]
    reader: Any = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        max_partition_fetch_bytes=1 << 20,
    )
    await reader.start()
    reader.assign(tps)
    await reader.seek_to_beginning(*tps)
    running = [asyncio.create_task(lane.run()) for lane in lanes]
    began, cpu, read = time.perf_counter(), time.process_time(), 0
    while read < events:
        for tp, records in (await reader.getmany(timeout_ms=500, max_records=20_000)).items():
            for at in range(0, len(records), BATCH_RECORDS):
                await lanes[tp.partition].queue.put(records[at : at + BATCH_RECORDS])
            read += len(records)
    for lane in lanes:
        await lane.queue.put(None)
    await asyncio.gather(*running)
    print(time.perf_counter() - began, time.process_time() - cpu)
    await reader.stop()


if __name__ == "__main__":
    gc_tuning.configure()  # as a worker does
    brokers, *topics, partitions, events = sys.argv[1:]
    uvloop.run(_pipeline(brokers, topics, int(partitions), int(events)))
