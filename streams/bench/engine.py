"""The engine alone, without Kafka: evaluations a second, and what each stage of an event costs.

One partition, whose messages come back to itself. Records are decoded, handled, and the effects
encoded and put in record batches, as a worker does.
"""

from __future__ import annotations

import gc
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
from aiokafka.producer.message_accumulator import BatchBuilder

from engine.domain.events import Delivered
from engine.partition_machine import PartitionMachine
from streams.bench.environment import BenchEnvironment
from streams.bench.onboarding import GROUPS, SPARE
from streams.bench.report import Result
from streams.bench.workload import (
    TENANT,
    Record,
    bench_configuration,
    bench_demand,
    bench_onboarding,
)
from streams.contract.decoder import DECODERS
from streams.kafka.faust_adapter import RecordBatch
from streams.runtime import gc_tuning
from streams.worker.record_batches import TransactionBatches

Stages = dict[str, float]
USERS, QUICK_USERS = 50_000, 2_000
BATCH = 500
BATCHES_A_TRANSACTION = 10


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    env.show.step("onboarding in memory", None)
    gc_tuning.configure()
    loop = onboarding_loop(users)
    loop.onboard(users)
    events = 3 * users
    stages = sorted(((s / events * 1e6, name) for name, s in loop.seconds.items()), reverse=True)
    env.show.step("onboarding with given addresses", None)
    given = onboarding_loop(users)
    given.play(list(bench_onboarding(users, GROUPS, addresses=True)))
    env.show.step("evaluations", None)
    everyone = list(loop.machine.configuration.tenant(TENANT).users.values())
    evaluator = loop.machine.users.evaluator
    warm = _rate(evaluator.evaluate, everyone)

    def cold(user: Any) -> None:
        """Evaluates a user without memoised results."""
        evaluator.clear_memo()
        evaluator.evaluate(user)

    cold_rate = _rate(cold, everyone[: len(everyone) // 10])
    spent = sum(loop.seconds.values())
    return Result(
        env.name,
        f"memoised; cold {cold_rate:,.0f} evaluations/s; onboarding {events / spent:,.0f} events/s,"
        f" with two given addresses {events / sum(given.seconds.values()):,.0f}",
        unit="evaluations/s",
        events_per_second=warm,
        goal="reported",
        details={
            "cold_evaluations_per_second": cold_rate,
            "onboarding_events_per_second": events / spent,
            "given_addresses_events_per_second": events / sum(given.seconds.values()),
            "microseconds_per_event": {name: cost for cost, name in stages},
            "records_per_user": {n: c / users for n, c in loop.records.most_common()},
        },
    )


def _rate(work: Callable[[Any], object], users: Sequence[Any]) -> float:
    began = time.process_time()
    for user in users:
        work(user)
    return len(users) / (time.process_time() - began)


class Read(NamedTuple):
    """A record as a consumer gives it."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int = 1_800_000_000_000
    headers: tuple[()] = ()


class Loop:
    """One machine, and the way that its records take back to it. ``seconds`` by stage, of CPU."""

    def __init__(self, configuration: Iterable[Record]) -> None:
        self.machine = PartitionMachine(0, 1)
        self.seconds: dict[str, float] = defaultdict(float)
        self.records: Counter[str] = Counter()
        self._offsets: Counter[str] = Counter()
        self._back: dict[str, list[bytes]] = defaultdict(list)
        self._packing: TransactionBatches | None = None  # of the transaction that is being filled
        for record in configuration:
            self._input([record])
            self.commit()

    def onboard(self, users: int) -> None:
        """Handles the events of the users' onboarding."""
        self.play(list(bench_onboarding(users, GROUPS)))

    def play(self, records: list[Record]) -> None:
        """Handles users' events; the figures are of these alone."""
        self.seconds.clear()
        self.records.clear()
        self.publish(records)

    def publish(self, records: list[Record]) -> None:
        """Handles records of one topic in batches, with a commit after every few batches."""
        gc.collect()
        for number, at in enumerate(range(0, len(records), BATCH), 1):
            self._input(records[at : at + BATCH])
            self._encode()
            gc_tuning.freeze_young_objects()
            if number % BATCHES_A_TRANSACTION == 0:
                self.commit()
        self.commit()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - began

    def _input(self, records: list[Record]) -> None:
        topic = records[0][0]
        with self._timed("decode input"):
            first = self._offsets[topic]
            read = [Read(key, value, first + n) for n, (_, key, value) in enumerate(records)]
            batch, rejected = DECODERS[topic].decode_all(read)
            if rejected:
                raise AssertionError(rejected[0][1].reason)
        self._handle(topic, batch)

    def _handle(self, topic: str, batch: list[Delivered]) -> None:
        self._offsets[topic] += len(batch)
        with self._timed(f"handle {topic}"):
            self.machine.handle(topic, batch)

    def commit(self) -> None:
        """Commits, and handles the internal messages of the commit until there are none left."""
        self.machine.flush()
        self._encode()
        while self._back:
            topic, values = self._back.popitem()
            for at in range(0, len(values), BATCH):
                with self._timed("decode internal"):
                    first, some = self._offsets[topic], values[at : at + BATCH]
                    now = 1_800_000_000_000
                    batch = [Delivered(orjson.loads(v), now, first + i) for i, v in enumerate(some)]
                self._handle(topic, batch)
            self.machine.run_background(BATCH)
            self._encode()
        self._packing = None

    def _encode(self) -> None:
        effects = self.machine.drain_effects()
        with self._timed("encode and append"):
            if self._packing is None:
                self._packing = TransactionBatches(0, 1_800_000_000_000, new_batch)
            self._packing.add_effects(effects)
        self.records.update(f"row {table}" for table, _ in effects.rows)
        self.records.update(record[0] for record in effects.records)
        for topic, _, _, value in effects.records:
            if topic.startswith("internal."):
                self._back[topic].append(value if type(value) is bytes else orjson.dumps(value))


def onboarding_loop(users: int) -> Loop:
    """Returns a loop with the configuration of the onboarding of so many users."""
    units = {name: n * SPARE // 100 for name, n in bench_demand(users, GROUPS).items()}
    return Loop(bench_configuration(units, GROUPS))


def new_batch() -> Any:
    """Returns a batch like a producer's, without a connection."""
    return RecordBatch(BatchBuilder(1 << 20, 0, is_transactional=True))
