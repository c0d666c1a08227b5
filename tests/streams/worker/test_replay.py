"""The last defence: a bug costs one record, and nothing is half done (replay.py)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from streams.kafka import changelog
from streams.kafka.changelog import ChangelogSnapshot
from streams.kafka.changelog_rows import APPLIED, row_key
from streams.kafka.dead_letters import DeadLetter
from streams.kafka.faust_adapter import Batch
from streams.kafka.forwarding import Forward
from streams.worker import partition_opening, slice_processor
from streams.worker.partition_task import PartitionTask
from tests.lab.counting_worker import HOP, MESSAGE, Toy
from tests.streams.worker.test_partition_task import TOPIC, Context, Kafka, until


class Broker(Kafka):
    """Keeps what is committed; refuses a transaction with a row of a key in ``too_large``."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[bytes, bytes] = {}
        self.letters: list[DeadLetter] = []
        self.too_large: set[str] = set()


class KeptTransaction:
    def __init__(self, broker: Broker, prefix: str, partition: int) -> None:
        self._broker = broker
        self._rows: dict[bytes, bytes] = {}
        self._letters: list[DeadLetter] = []

    def add_effects(self, effects: Any) -> None:
        for (table, key), row in effects.rows.items():
            self._rows[row_key(table, key)] = orjson.dumps(row)
            if key in self._broker.too_large:
                self._rows[b"too large"] = b""

    def add_dead_letters(self, letters: list[DeadLetter]) -> None:
        self._letters += letters

    def add_forwarded(self, events: list[Forward]) -> None:
        assert not events

    def add_applied(self, applied: Mapping[str, int]) -> None:
        self._rows[APPLIED] = orjson.dumps(applied)

    async def commit(self) -> None:
        await self._broker.commit()
        if b"too large" in self._rows:
            raise MessageSizeTooLargeError
        self._broker.rows |= self._rows
        self._broker.letters += self._letters

    def counts(self) -> Counter[str]:
        return Counter()


class BugToy(Toy):
    """Fails in the middle of a batch, in a report, or in the background, as an event asks."""

    def handle(self, topic: str, batch: Any) -> Any:
        for delivered in batch:
            super().handle(topic, [delivered])
            if topic != HOP and delivered.event[1].get("late"):
                self._fails_later = True
        return SimpleNamespace(misrouted=())

    _fails_later = False

    def flush(self) -> None:
        super().flush()
        if self._fails_later:
            raise KeyError("the report fails")

    def start(self) -> None:
        if self._counts.get(("seen", "endless")):
            self._fan = ["x"]

    def run_background(self, limit: int) -> bool:
        if self._counts.get(("seen", "endless")) and self._fan:
            raise ValueError("a fan-out of the restored state fails")
        return super().run_background(limit)


class Logs(Context):
    """The logs of the partition; delivers each from the position that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, list[Any]] = {TOPIC: [], HOP: []}
        self.task: PartitionTask | None = None

    def new_machine(self, partition: int) -> Any:
        return BugToy(partition, 1)

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        super().read_from(positions)
        names = {tp.topic.removeprefix("t."): offset for tp, offset in positions.items()}
        for topic in self.logs.keys() & names.keys():
            asyncio.get_running_loop().call_soon(self._deliver, topic, names[topic])

    def _deliver(self, topic: str, start: int) -> None:
        records = self.logs[topic][start:]
        if self.task and records:
            end = start + len(records)
            self.task.deliver(topic, Batch("t." + topic, 3, start, records, end))

    def send(self, *values: tuple[str, bytes], topic: str = TOPIC) -> None:
        for key, value in values:
            record = SimpleNamespace(
                key=key.encode(), value=value, timestamp=0, offset=len(self.logs[topic]), headers=()
            )
            self.logs[topic].append(record)
        assert self.task is not None
        self._deliver(topic, len(self.logs[topic]) - len(values))

    async def applied(self, topic: str = TOPIC) -> None:
        assert self.task is not None
        place, end = TopicPartition("t." + topic, 3), len(self.logs[topic])
        task = self.task
        await until(
            lambda: (
                bool(self.failures)
                or (task.is_open and task.committable_offsets().get(place) == end)
            )
        )


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()

    async def start(*_: Any, **__: Any) -> Broker:
        await broker.fence.wait()
        return broker

    @asynccontextmanager
    async def reader(_: Any) -> AsyncIterator[None]:
        yield None

    async def read(*_: Any) -> ChangelogSnapshot:
        snapshot = ChangelogSnapshot()
        snapshot.values = dict(broker.rows)
        return snapshot

    monkeypatch.setattr(partition_opening, "start_transactional_producer", start)
    monkeypatch.setattr(changelog, "reader", reader)
    monkeypatch.setattr(changelog, "read", read)
    monkeypatch.setattr("streams.worker.commit_loop.Transaction", KeptTransaction)
    return broker


@pytest.fixture
async def logs(broker: Broker) -> AsyncIterator[Logs]:
    logs = Logs()
    logs.task = PartitionTask(3, logs)
    await until(lambda: bool(logs.task and logs.task.is_open))
    yield logs
    await logs.task.lose()


def seen(broker: Broker) -> dict[str, int]:
    rows = {key.decode(): orjson.loads(row) for key, row in broker.rows.items()}
    return {key.removeprefix("seen|"): row for key, row in rows.items() if key.startswith("seen|")}


def reasons(broker: Broker) -> list[tuple[bytes | None, str, str]]:
    found = []
    for letter in broker.letters:
        headers = dict(letter.headers)
        kind = headers["dlq.reason"].decode().partition(":")[0]
        found.append((letter.key, kind, headers["dlq.offset"].decode()))
    return found


GOOD = ("a", b"{}")


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("after", [0, 3])
async def test_the_culprit_is_a_dead_letter_and_the_rest_goes_on(
    logs: Logs, broker: Broker, before: int, after: int
) -> None:
    logs.send(*[GOOD] * before, ("b", b'{"crash":true}'), *[GOOD] * after)
    await logs.applied()
    assert not logs.failures
    assert seen(broker) == ({"a": before + after} if before + after else {})
    assert reasons(broker) == [(b"b", "processor_failed", str(before))]
    assert logs.metrics.counts["dead_letters"][TOPIC, "processor_failed"] == 1
    logs.send(GOOD)
    await logs.applied()
    assert seen(broker)["a"] == before + after + 1


async def test_what_was_half_done_is_undone(
    logs: Logs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug shows in the report that follows, when the record's rows are in the transaction."""
    monkeypatch.setattr(slice_processor, "FLUSH_INTERVAL_SECONDS", 0.0)
    logs.send(GOOD, GOOD)
    await logs.applied()
    logs.send(GOOD, ("b", b'{"late":true}'), GOOD)
    await logs.applied()
    assert seen(broker) == {"a": 4}
    assert reasons(broker) == [(b"b", "processor_failed", "3")]


async def test_several_culprits(logs: Logs, broker: Broker) -> None:
    bad = ("b", b'{"crash":true}')
    logs.send(bad, GOOD, bad, bad, GOOD, ("c", b"no json"), bad)
    await logs.applied()
    assert seen(broker) == {"a": 2}
    failed = [offset for _, kind, offset in reasons(broker) if kind == "processor_failed"]
    assert failed == ["0", "2", "3", "6"]
    assert len(broker.letters) == 5


async def test_an_effect_that_no_topic_takes_costs_its_record(logs: Logs, broker: Broker) -> None:
    broker.too_large.add("huge")
    logs.send(GOOD, ("huge", b"{}"), GOOD)
    await logs.applied()
    assert not logs.failures
    assert seen(broker) == {"a": 2}
    assert reasons(broker) == [(b"huge", "processor_failed", "1")]


async def test_an_internal_message_that_fails_costs_itself(logs: Logs, broker: Broker) -> None:
    good, bad = orjson.dumps(MESSAGE | {"key": "x"}), orjson.dumps(MESSAGE)
    logs.send(("x", good), ("x", bad), ("x", good), topic=HOP)
    await logs.applied(HOP)
    assert not logs.failures
    assert broker.rows[row_key("heard", "x")] == b"2"
    assert reasons(broker) == [(b"x", "processor_failed", "1")]


async def test_a_failure_without_a_culprit_ends_the_worker(logs: Logs, broker: Broker) -> None:
    """The restored state itself fails: no record is to blame, and none is taken for it."""
    logs.send(("endless", b'{"quiet":true}'))
    await until(lambda: row_key("seen", "endless") in broker.rows or bool(logs.failures))
    logs.send(("b", b'{"crash":true}'), GOOD)
    await until(lambda: bool(logs.failures))
    assert isinstance(logs.failures[0], ValueError)
    assert not broker.letters


async def test_a_lack_of_memory_is_not_the_records_fault(
    logs: Logs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(BugToy, "handle", fail)
    logs.send(GOOD)
    await until(lambda: bool(logs.failures))
    assert isinstance(logs.failures[0], MemoryError)
    assert not broker.letters


async def test_a_rebalance_finds_a_partition_that_is_opened_again(
    logs: Logs, broker: Broker
) -> None:
    """It waits until this worker has fenced itself, so that it never fences the next owner."""
    task = logs.task
    assert task is not None
    broker.fence.clear()
    logs.send(GOOD, ("b", b'{"crash":true}'))
    await until(lambda: not task.is_open)
    logs.rebalancing = True
    holding = asyncio.create_task(task.hold())
    await asyncio.sleep(0.01)
    assert not holding.done()
    broker.fence.set()
    await holding
    logs.rebalancing = False
    await until(lambda: task.is_open)
    task.resume()
    logs.read_from(task.positions())
    await logs.applied()
    assert seen(broker) == {"a": 1}
    assert reasons(broker) == [(b"b", "processor_failed", "1")]


async def test_impossible_times_are_dead_letters(logs: Logs, broker: Broker) -> None:
    logs.send(GOOD, GOOD, GOOD, GOOD)
    for record, at in zip(logs.logs[TOPIC], (-(10**15), 1_764_000_000_000_000, -1, 0), strict=True):
        record.timestamp = at
    await logs.applied()
    assert seen(broker) == {"a": 2}
    assert [offset for _, _, offset in reasons(broker)] == ["0", "1"]
    assert logs.metrics.counts["dead_letters"][TOPIC, "invalid_timestamp"] == 2


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b"1e999"])
async def test_a_forged_message_is_refused(logs: Logs, broker: Broker, value: bytes) -> None:
    logs.send(("k", value), topic=HOP)
    await logs.applied(HOP)
    assert not logs.failures
    assert len(broker.letters) == 1
