"""A console without Kafka: the engine's cluster in memory behind the real store, API and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiokafka import TopicPartition

from engine.simulation.in_memory_cluster import InMemoryCluster, Output
from streams.console.commands.definitions import EncodedRecord
from streams.console.commands.dispatcher import CommandDispatcher
from streams.console.commands.producer import CommandProducer, Place
from streams.console.read_model.input_projections import FOLLOWED, apply
from streams.console.read_model.output_projections import ProjectionWriter
from streams.console.read_model.pending_results import PendingResults
from streams.console.read_model.projector import Lag, Progress
from streams.console.read_model.store import Store, transaction
from streams.console.security.auth import Authenticator
from streams.console.service import Service
from streams.contract.decoder import DECODERS, Rejected
from streams.demo.scenario import Step, demo_steps
from streams.kafka.broker_watch import BrokerWatch
from streams.runtime.settings import Settings, load_settings

START = 1_795_500_000_000
Event = tuple[str, str, bytes]


class Rec(NamedTuple):
    """A Kafka record, as far as the projections use it."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int = 0


class World:
    """Input records go through the engine; what it publishes, and they, go into the store."""

    def __init__(self, store: Store, partitions: int = 2) -> None:
        self.cluster, self.store = InMemoryCluster(partitions), store
        self.applier = ProjectionWriter(store.writer)
        self.at = START
        self.said = 0

    def publish(self, events: Iterable[tuple[str, Any, bytes]]) -> None:
        """Applies all events to the engine, and only then the inputs and outputs to the store."""
        told: dict[str, list[Rec]] = {}
        for topic, key, value in events:
            self.at += 1
            raw = key if isinstance(key, bytes) else key.encode()
            read = DECODERS[topic](raw, value, None)
            if topic in FOLLOWED:
                told.setdefault(topic, []).append(Rec(raw, value, self.at, self.at))
            if isinstance(read, Rejected):
                continue
            self.cluster.publish(topic, raw.decode(), read[0], self.at)
        self.cluster.settle()
        for output in self.cluster.outputs[self.said :]:
            told.setdefault(output.topic, []).append(self.record(output))
        self.said = len(self.cluster.outputs)
        with transaction(self.store.writer):
            for topic, records in told.items():
                apply(self.applier, topic, records)

    def record(self, output: Output) -> Rec:
        value = None if output.value is None else orjson.dumps(output.value)
        return Rec(output.key.encode(), value, self.at, self.said)

    def tell(self, topic: str, key: str, value: bytes) -> None:
        """A record of the console's own, straight to the store."""
        with transaction(self.store.writer):
            apply(self.applier, topic, [Rec(key.encode(), value, self.at, 0)])

    def steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.publish(record for record in step.records if record[0] in DECODERS)


class StillProjector:
    """The read model has always passed everything."""

    def __init__(self) -> None:
        self.progress = Progress(caught_up=True, problem=None)
        self.results = PendingResults()
        self.unreadable: tuple[int, str] | None = None

    async def output_ends(self) -> dict[TopicPartition, int]:
        return {}

    async def wait_passed(self, offsets: Mapping[TopicPartition, int]) -> None:
        return

    def lag(self) -> Lag:
        return Lag()


class StillProcessing:
    """The workers have always applied everything."""

    records, seconds, problem, failures = 0, 0.0, None, 0
    workers: tuple[str, ...] = ("one",)

    async def wait_applied(self, partition: TopicPartition, offset: int) -> None:
        return

    async def is_applied(self, partition: TopicPartition, offset: int) -> bool:
        return True


class LocalProducer(CommandProducer):
    """Sends to the world instead of a broker. ``sent``: every record, in order."""

    def __init__(self, settings: Settings, world: World, results: PendingResults) -> None:
        super().__init__(settings)
        self.world, self.results = world, results
        self.sent: list[EncodedRecord] = []

    async def send(self, records: Sequence[EncodedRecord]) -> list[Place]:
        before = self.world.said
        for record in records:
            self.sent.append(record)
            if record.topic == "audit":
                self.world.tell(record.topic, record.key, record.value)
            else:
                self.world.publish([(record.topic, record.key, record.value)])
        new = self.world.cluster.outputs[before:]
        self.results.complete(orjson.dumps(o.value) for o in new if o.topic == "results")
        return [(TopicPartition(record.topic, 0), 0) for record in records]


def local_service(
    path: Path, tokens_file: Path | None = None, **flags: Any
) -> tuple[Settings, Service, World]:
    """Settings, a console's parts, and the world behind them, with nothing in it yet."""
    settings = load_settings(data_dir=path, http_tokens_file=tokens_file, **flags)
    store = Store(path / "console.sqlite3", settings.topic_prefix)
    world = World(store)
    projector: Any = StillProjector()
    processing: Any = StillProcessing()
    dispatcher = CommandDispatcher(settings, store, projector, processing)
    dispatcher.producer = LocalProducer(settings, world, projector.results)
    authenticator = Authenticator(tokens_file)
    return (
        settings,
        Service(
            settings,
            store,
            projector,
            processing,
            dispatcher,
            authenticator,
            BrokerWatch(settings),
        ),
        world,
    )


def demo(world: World, until: str | None = None) -> None:
    """The demo's tenant, up to and without a step."""
    steps = demo_steps()
    names = [step.name for step in steps]
    world.steps(steps[: names.index(until)] if until else steps)
