"""A worker's partition with the real machine and decoders, over a broker in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from engine.partition_machine import PartitionMachine
from streams.contract.decoder import DECODERS
from streams.contract.topics import CONSUMED, INTERNAL_NAMES
from streams.kafka import changelog
from streams.kafka.changelog import ChangelogSnapshot
from streams.kafka.changelog_rows import APPLIED, row_key
from streams.kafka.dead_letters import DeadLetter
from streams.kafka.faust_adapter import Batch
from streams.kafka.forwarding import Forward
from streams.worker import partition_opening
from streams.worker.partition_task import PartitionTask
from tests.streams.worker.test_partition_task import Context, Kafka, until


class Record:
    """A record of an internal topic."""

    def __init__(self, offset: int, key: str, value: bytes | None) -> None:
        self.offset, self.key, self.value = offset, key.encode(), value
        self.timestamp, self.timestamp_type, self.headers = 1_764_000_000_000, 1, ()


class Door(Context):
    """The logs of one partition, and everything that was committed."""

    def __init__(self) -> None:
        super().__init__()
        self.decoders = DECODERS
        self.logs: dict[str, list[Any]] = {topic: [] for topic in CONSUMED}
        self.rows: dict[bytes, bytes] = {}
        self.letters: list[DeadLetter] = []
        self.outputs: list[tuple[str, str, Any]] = []
        self.task: PartitionTask | None = None

    def new_machine(self, partition: int) -> Any:
        return PartitionMachine(0, 1)

    async def bounds(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return {tp: (0, len(self.logs[tp.topic.removeprefix("t.")])) for tp in tps}

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        for tp, offset in positions.items():
            topic = tp.topic.removeprefix("t.")
            asyncio.get_running_loop().call_soon(self._deliver, topic, offset)

    def _deliver(self, topic: str, start: int) -> None:
        records = self.logs[topic][start:]
        if self.task and records:
            batch = Batch("t." + topic, 0, start, records, start + len(records))
            self.task.deliver(topic, batch)

    def append(self, topic: str, records: list[Any]) -> None:
        first = len(self.logs[topic])
        self.logs[topic] += records
        self._deliver(topic, first)

    async def settled(self) -> None:
        task = self.task
        assert task is not None

        def done() -> bool:
            if self.failures:
                return True
            offsets = task.committable_offsets() if task.is_open else {}
            ends = {TopicPartition("t." + t, 0): len(log) for t, log in self.logs.items()}
            return bool(offsets) and all(offsets.get(tp, 0) == end for tp, end in ends.items())

        await until(done, 60)

    def latest(self, tenant: str) -> dict[tuple[str, str], Any]:
        """Returns the published state of a tenant, without what depends on batches."""
        found = {}
        for topic, key, value in self.outputs:
            if (
                topic in ("user-licenses", "group-status", "product-seats")
                and key.split("/")[0] == tenant
            ):
                found[topic, key] = value and {n: v for n, v in value.items() if n != "revision"}
        return found


class _Transaction:
    def __init__(self, door: Door, *_: Any) -> None:
        self._door = door
        self._rows: dict[bytes, bytes | None] = {}
        self._records: list[tuple[str, str, bytes | None]] = []
        self._letters: list[DeadLetter] = []

    def add_effects(self, effects: Any) -> None:
        for (table, key), row in effects.rows.items():
            encoded = row if row is None or type(row) is bytes else orjson.dumps(row)
            self._rows[row_key(table, key)] = encoded
        for topic, _, key, value in effects.records:
            encoded = value if value is None or type(value) is bytes else orjson.dumps(value)
            self._records.append((topic, key, encoded))

    def add_dead_letters(self, letters: list[DeadLetter]) -> None:
        self._letters += letters

    def add_forwarded(self, events: list[Forward]) -> None:
        assert not events  # there is one partition

    def add_applied(self, applied: Mapping[str, int]) -> None:
        self._rows[APPLIED] = orjson.dumps(applied)

    async def commit(self) -> None:
        await asyncio.sleep(0)
        door = self._door
        for place, row in self._rows.items():
            if row is None:
                door.rows.pop(place, None)
            else:
                door.rows[place] = row
        door.letters += self._letters
        for topic, key, value in self._records:
            if topic in INTERNAL_NAMES:
                door.append(topic, [Record(len(door.logs[topic]), key, value)])
            else:
                door.outputs.append((topic, key, None if value is None else orjson.loads(value)))

    def counts(self) -> Counter[str]:
        return Counter()


@asynccontextmanager
async def worker_door() -> AsyncIterator[Door]:
    """Yields a door whose partition is open."""
    door = Door()

    async def start(*_: Any, **__: Any) -> Kafka:
        return Kafka()

    @asynccontextmanager
    async def reader(_: Any) -> AsyncIterator[None]:
        yield None

    async def read(*_: Any) -> ChangelogSnapshot:
        snapshot = ChangelogSnapshot()
        snapshot.values = dict(door.rows)
        return snapshot

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_opening, "start_transactional_producer", start)
        patch.setattr(changelog, "reader", reader)
        patch.setattr(changelog, "read", read)
        patch.setattr("streams.worker.commit_loop.Transaction", lambda *_: _Transaction(door))
        task = door.task = PartitionTask(0, door)
        await until(lambda: task.is_open)
        yield door
        await task.lose()
