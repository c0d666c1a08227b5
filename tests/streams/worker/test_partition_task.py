"""A partition without Kafka: it opens, applies, commits, and is held, revoked or lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from streams.contract.topics import CONSUMED
from streams.kafka import changelog
from streams.kafka.changelog import ChangelogSnapshot
from streams.kafka.faust_adapter import Batch
from streams.metrics.registry import WorkerMetrics
from streams.runtime.settings import load_settings
from streams.worker import partition_opening
from streams.worker.partition_state import IllegalTransitionError
from streams.worker.partition_task import PartitionTask
from streams.worker.protocols import BatchDecoder
from streams.worker.record_intake import QUEUE_BATCHES, RecordIntake
from tests.lab.counting_worker import Toy, ToyDecoder

TOPIC = "user-changes"


class Context:
    """Stands for the worker; ``failures`` instead of the end of the process."""

    def __init__(self) -> None:
        self.settings = load_settings(_env_file=None, commit_interval=0.0, topic_prefix="t.")
        self.metrics = WorkerMetrics()
        self.decoders: Mapping[str, BatchDecoder] = {TOPIC: ToyDecoder()}
        self.restore_slots, self.compute_lock = asyncio.Semaphore(1), asyncio.Lock()
        self.rebalancing = False
        self.reads: list[Mapping[TopicPartition, int]] = []
        self.failures: list[BaseException] = []

    def new_machine(self, partition: int) -> Any:
        return Toy(partition, 1)

    async def bounds(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        return dict.fromkeys(tps, (0, 100))

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        self.reads.append(positions)

    def failed(self, error: BaseException, partition: int | None = None) -> NoReturn:
        self.failures.append(error)
        raise error


class Kafka:
    """Counts commits; ``answer`` lets them through, ``fenced`` refuses them."""

    def __init__(self) -> None:
        self.fence, self.answer = asyncio.Event(), asyncio.Event()
        self.fence.set()
        self.answer.set()
        self.fenced = False
        self.begun = self.commits = self.stops = 0
        self._sender = SimpleNamespace(sender_task=None)

    async def partitions_for(self, topic: str) -> None:
        pass

    async def stop(self) -> None:
        self.stops += 1

    async def commit(self) -> None:
        self.begun += 1
        await self.answer.wait()
        if self.fenced:
            raise ProducerFenced
        self.commits += 1


class FakeTransaction:
    def __init__(self, producer: Kafka, prefix: str, partition: int) -> None:
        self.commit = producer.commit

    def add_effects(self, effects: Any) -> None:
        pass

    add_dead_letters = add_forwarded = add_applied = add_effects

    def counts(self) -> Counter[str]:
        return Counter()


@pytest.fixture
def context() -> Context:
    return Context()


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    kafka = Kafka()

    async def start(*_: Any, **__: Any) -> Kafka:
        await kafka.fence.wait()
        return kafka

    @asynccontextmanager
    async def reader(_: Any) -> AsyncIterator[None]:
        yield None

    async def read(*_: Any) -> ChangelogSnapshot:
        return ChangelogSnapshot()

    monkeypatch.setattr(partition_opening, "start_transactional_producer", start)
    monkeypatch.setattr(changelog, "reader", reader)
    monkeypatch.setattr(changelog, "read", read)
    monkeypatch.setattr("streams.worker.commit_loop.Transaction", FakeTransaction)
    return kafka


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.001)


async def opened(context: Context) -> PartitionTask:
    task = PartitionTask(3, context)
    await until(lambda: task.is_open)
    return task


def batch(start: int, count: int) -> Batch:
    records: list[Any] = [
        SimpleNamespace(key=b"key", value=b"{}", timestamp=0, offset=offset, headers=())
        for offset in range(start, start + count)
    ]
    return Batch("t." + TOPIC, 3, start, records, start + count)


async def test_it_opens_reads_and_commits(context: Context, kafka: Kafka) -> None:
    task = await opened(context)
    assert set(context.reads[0]) == {TopicPartition("t." + name, 3) for name in CONSUMED}
    task.deliver(TOPIC, batch(0, 10))
    await until(lambda: task.committable_offsets()[TopicPartition("t." + TOPIC, 3)] == 10)
    assert kafka.commits
    assert not task.is_busy
    await task.revoke()
    assert kafka.stops == 1


async def test_a_batch_that_was_read_already_is_skipped(context: Context, kafka: Kafka) -> None:
    task = await opened(context)
    task.deliver(TOPIC, batch(0, 10))
    task.deliver(TOPIC, batch(5, 10))
    task.deliver(TOPIC, batch(0, 3))
    await until(lambda: context.metrics.counts["records_in"][TOPIC] == 15)
    await task.lose()


def test_large_records_are_bounded_by_the_batches_that_they_come_in() -> None:
    intake = RecordIntake()
    intake.start({TOPIC: 0})
    for n in range(QUEUE_BATCHES):
        assert intake.can_accept(TOPIC)
        intake.deliver(TOPIC, batch(n, 1))
    assert not intake.can_accept(TOPIC)
    intake.take(1)
    assert intake.can_accept(TOPIC)


async def test_a_gap_is_read_again(context: Context, kafka: Kafka) -> None:
    task = await opened(context)
    task.deliver(TOPIC, batch(0, 2))
    task.deliver(TOPIC, batch(5, 2))
    assert context.reads[-1] == {TopicPartition("t." + TOPIC, 3): 2}
    assert context.metrics.counts["gaps"][None] == 1
    await task.lose()


async def test_hold_commits_what_is_computed_and_nothing_later(
    context: Context, kafka: Kafka
) -> None:
    task = await opened(context)
    task.deliver(TOPIC, batch(0, 10))
    await until(lambda: context.metrics.counts["records_in"][TOPIC] == 10)
    await task.hold()
    commits = kafka.commits
    assert task.committable_offsets()[TopicPartition("t." + TOPIC, 3)] >= 9
    assert not task.can_accept(TOPIC)
    task.deliver(TOPIC, batch(10, 5))
    await asyncio.sleep(0.02)
    assert (kafka.commits, context.metrics.counts["records_in"][TOPIC]) == (commits, 10)
    task.resume()
    await until(lambda: kafka.commits > commits)
    await task.revoke()


async def test_a_revoked_partition_lets_its_transaction_end(context: Context, kafka: Kafka) -> None:
    task = await opened(context)
    kafka.answer.clear()
    task.deliver(TOPIC, batch(0, 10))
    await until(lambda: kafka.begun > kafka.commits)
    commits = kafka.commits
    revoking = asyncio.create_task(task.revoke())
    await asyncio.sleep(0.01)
    kafka.answer.set()
    await revoking
    assert kafka.commits == commits + 1


async def test_a_lost_partition_commits_nothing(context: Context, kafka: Kafka) -> None:
    task = await opened(context)
    kafka.answer.clear()
    task.deliver(TOPIC, batch(0, 10))
    await until(lambda: kafka.begun > kafka.commits)
    commits = kafka.commits
    await task.lose()
    kafka.answer.set()
    await asyncio.sleep(0.01)
    assert kafka.commits == commits
    assert not context.failures
    with pytest.raises(IllegalTransitionError, match="partition 3 is CLOSED"):
        task.resume()


async def test_a_partition_in_opening_is_held_until_it_has_fenced(
    context: Context, kafka: Kafka
) -> None:
    kafka.fence.clear()
    task = PartitionTask(3, context)
    await asyncio.sleep(0)
    context.rebalancing = True
    holding = asyncio.create_task(task.hold())
    await asyncio.sleep(0.01)
    assert not holding.done()
    kafka.fence.set()
    await holding
    await until(lambda: task.is_open)
    await asyncio.sleep(0.01)
    assert not kafka.begun  # paused: it waits for the assignment
    context.rebalancing = False
    task.resume()
    task.deliver(TOPIC, batch(0, 10))
    await until(lambda: kafka.commits > 0)
    await task.revoke()


async def test_a_fenced_transaction_ends_the_worker(context: Context, kafka: Kafka) -> None:
    task = await opened(context)
    kafka.fenced = True
    task.deliver(TOPIC, batch(0, 10))
    await until(lambda: bool(context.failures))
    assert isinstance(context.failures[0], ProducerFenced)
    await task.lose()
