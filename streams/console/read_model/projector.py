"""Follows the topics into the store: committed records only, in no group, from where it stopped.

Fetching and writing overlap: while a thread writes one batch, the next is fetched. When the broker
goes away the console goes on with what it knows, says so, and tries again.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from streams.console.read_model.input_projections import FOLLOWED, apply
from streams.console.read_model.output_projections import ProjectionWriter
from streams.console.read_model.store import Store, transaction
from streams.kafka.topic_reader import admin_client, connected, consumer, topic_partitions
from streams.runtime.errors import WorkerError, log
from streams.runtime.settings import Settings

RETRY_AFTER = 1.0
WAIT_MS = 200
PRUNE_INTERVAL_SECONDS = 86_400.0
MOST_RECORDS = 40_000
REMEMBERED_SECONDS = 130
COUNTED = ("user-licenses", "user-changes", "group-changes")


@dataclass(slots=True)
class Lag:
    """How far the read model is behind the topics. ``seconds``: age of what it shows."""

    records: int = 0
    seconds: float = 0.0
    problem: str | None = None


@dataclass(slots=True)
class Progress:
    """What the projector tells of itself. ``applied``: records since the start."""

    started: float = field(default_factory=time.time)
    applied: int = 0
    caught_up: bool = False
    problem: str | None = "not connected yet"
    asked_at: float = 0.0
    rates: dict[str, Counter[int]] = field(default_factory=lambda: {t: Counter() for t in COUNTED})


class ReadModelProjector:
    """``changed`` is set and replaced whenever new records are in the store."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.progress = Progress()
        self.changed = asyncio.Event()
        self._applier = ProjectionWriter(store.writer)
        self._writer = ThreadPoolExecutor(1, "console-writer")
        self._short = {settings.topic_prefix + topic: topic for topic in FOLLOWED}
        self._behind: dict[TopicPartition, int] = {}
        self._pruned_at = 0.0
        self._seen_at: dict[TopicPartition, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        # Millions of small objects come and go and refer to nothing: current for cycles that often
        # costs a fifth of the time.
        gc.set_threshold(100_000, 20, 50)
        while True:
            try:
                await self._follow()
            except WorkerError as error:
                told = str(error)
            except OSError as error:
                told = f"the read model cannot be written: {error}"
            if told != self.progress.problem:
                log.warning("console_problem", problem=told)
            self.progress.problem = told
            self._notify()
            await asyncio.sleep(RETRY_AFTER)

    async def _follow(self) -> None:
        settings = self.settings
        async with connected(admin_client(settings), settings) as admin:
            places = await topic_partitions(admin, settings, FOLLOWED)
            cluster = str((await admin.describe_cluster()).get("cluster_id"))
        async with connected(consumer(settings), settings) as client:
            client.assign(places)
            await self._seek(client, places, cluster)
            self.progress.problem = None
            await self._read(client, places)

    async def _seek(self, client: Any, places: list[TopicPartition], cluster: str) -> None:
        """To where each topic was read; to the start of all if these are other topics."""
        self.store.bind_cluster(cluster)
        offsets = self.store.offsets()
        ends = await client.end_offsets(places)
        known = {p: offsets.get((self._short[p.topic], p.partition), 0) for p in places}
        if any(known[place] > ends[place] for place in places):
            log.warning("console_rebuilt", why="the topics are shorter than what was read of them")
            self.store.clear()
            known = {}
        with transaction(self.store.writer):
            self.store.prune(time.time())
        self._pruned_at = time.time()
        self._applier = ProjectionWriter(self.store.writer)
        begins = await client.beginning_offsets(places)
        self._behind = {}
        for place in places:
            start = max(known.get(place, 0), begins[place])
            client.seek(place, start)
            self._behind[place] = max(0, ends[place] - start)

    async def _read(self, client: Any, places: list[TopicPartition]) -> None:
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            while True:
                batches = await client.getmany(timeout_ms=WAIT_MS, max_records=MOST_RECORDS)
                if writing is not None:
                    await writing
                    self._notify()
                    writing = None
                await self._look(client, places)
                if batches:
                    writing = loop.run_in_executor(self._writer, self._write, batches)
                    self._count(batches)
                if writing is not None and not self._lagging():
                    await writing
                    self._notify()
                    writing = None
                self.progress.caught_up |= not self._lagging()
        finally:
            if writing is not None:
                await asyncio.wait([writing])

    async def _look(self, client: Any, places: list[TopicPartition]) -> None:
        """How far the topics have gone, as the last answers to fetches told."""
        for place in places:
            end = client.last_stable_offset(place)
            if end is not None:
                self._behind[place] = max(0, end - await client.position(place))
        self.progress.asked_at = time.time()

    def _write(self, batches: dict[TopicPartition, list[Any]]) -> None:
        """Rows and offsets in one transaction; runs in the writer's thread."""
        by_topic: dict[str, list[Any]] = {}
        offsets = []
        for place, records in batches.items():
            topic = self._short[place.topic]
            by_topic.setdefault(topic, []).extend(records)
            offsets.append((topic, place.partition, records[-1].offset + 1))
        with transaction(self.store.writer) as db:
            if time.time() - self._pruned_at > PRUNE_INTERVAL_SECONDS:
                self._pruned_at = time.time()
                self.store.prune(self._pruned_at)
                self._applier = ProjectionWriter(db)
            for topic, records in by_topic.items():
                apply(self._applier, topic, records)
            db.executemany("INSERT OR REPLACE INTO offsets VALUES(?, ?, ?)", offsets)

    def _count(self, batches: dict[TopicPartition, list[Any]]) -> None:
        now = time.time()
        for place, records in batches.items():
            self.progress.applied += len(records)
            self._seen_at[place] = records[-1].timestamp / 1000
            rates = self.progress.rates.get(self._short[place.topic])
            if rates is not None and records[-1].timestamp > (now - REMEMBERED_SECONDS) * 1000:
                rates.update(record.timestamp // 1000 for record in records)
                for second in [s for s in rates if s < now - REMEMBERED_SECONDS]:
                    del rates[second]

    def _lagging(self) -> bool:
        return any(self._behind.values())

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait_updated(self, within: float) -> bool:
        """Waits for new records in the store; False if none came in time."""
        try:
            await asyncio.wait_for(self.changed.wait(), within)
        except TimeoutError:
            return False
        return True

    def lag(self) -> Lag:
        """Of the read model. A partition that lags is as old as the last record read from it."""
        progress, now = self.progress, time.time()
        if progress.problem:
            since = progress.asked_at or progress.started
            return Lag(sum(self._behind.values()), now - since, progress.problem)
        behind = [place for place, records in self._behind.items() if records]
        seconds = max((now - self._seen_at.get(p, progress.started) for p in behind), default=0.0)
        return Lag(sum(self._behind.values()), seconds)

    def close(self) -> None:
        self._writer.shutdown()
