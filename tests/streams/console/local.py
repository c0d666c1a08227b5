"""A console without Kafka: the engine's cluster in memory behind the real store, API and pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from aiokafka import TopicPartition

from engine.simulation.in_memory_cluster import Cluster, Output
from streams.console.commands.dispatcher import CommandDispatcher
from streams.console.read_model.input_projections import FOLLOWED, apply
from streams.console.read_model.output_projections import ProjectionWriter, Rec
from streams.console.read_model.projector import Lag, Progress
from streams.console.read_model.store import Store, transaction
from streams.console.security.auth import Authenticator
from streams.console.service import Service
from streams.contract.decoder import DECODERS, Rejected
from streams.demo.scenario import Step, demo_steps
from streams.runtime.settings import Settings, load_settings

START = 1_795_500_000_000
Event = tuple[str, str, bytes]


class World:
    """Input records go through the engine; what it publishes, and they, go into the store."""

    def __init__(self, store: Store, partitions: int = 2) -> None:
        self.cluster, self.store = Cluster(partitions), store
        self.applier = ProjectionWriter(store.writer)
        self.at = START
        self.said = 0

    def publish(self, events: Iterable[tuple[str, Any, bytes]]) -> None:
        """All of it settles; only then the store is told."""
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
    """There is never anything to wait for."""

    def __init__(self) -> None:
        self.progress = Progress(caught_up=True, problem=None)

    async def wait_updated(self, within: float) -> bool:
        await asyncio.sleep(0)
        return False

    def lag(self) -> Lag:
        return Lag()


class StillProcessing:
    records, seconds, problem = 0, 0.0, None
    workers: tuple[str, ...] = ("one",)

    async def applied(self, place: TopicPartition, offset: int, within: float) -> bool:
        return True


class LocalDispatcher(CommandDispatcher):
    """Sends to the world instead of a broker."""

    def __init__(self, settings: Settings, world: World, projector: Any, processor: Any) -> None:
        super().__init__(settings, world.store, projector, processor)
        self.world = world

    async def _send(self, topic: str, key: str, value: bytes) -> tuple[TopicPartition, int]:
        if topic == "audit":
            self.world.tell(topic, key, value)
        else:
            self.world.publish([(topic, key, value)])
        return TopicPartition(topic, 0), 0


def local_service(
    path: Path, tokens_file: Path | None = None, **flags: Any
) -> tuple[Settings, Service, World]:
    """Settings, a console's parts, and the world behind them, with nothing in it yet."""
    settings = load_settings(data_dir=path, http_tokens_file=tokens_file, **flags)
    store = Store(path / "console.sqlite3", settings.topic_prefix)
    world = World(store)
    projector: Any = StillProjector()
    processor: Any = StillProcessing()
    commands = LocalDispatcher(settings, world, projector, processor)
    authenticator = Authenticator(tokens_file)
    return settings, Service(settings, store, projector, processor, commands, authenticator), world


def demo(world: World, until: str | None = None) -> None:
    """The demo's tenant, up to and without a step."""
    steps = demo_steps()
    names = [step.name for step in steps]
    world.steps(steps[: names.index(until)] if until else steps)
