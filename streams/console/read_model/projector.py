"""The projector: reads the topics into the store, committed records only, in no group.

Fetching and writing overlap: while a thread writes one batch, the next is fetched. While the broker
is away, the console serves what it has, reports the problem, and tries again.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition, errors

from streams.console.read_model.input_projections import FOLLOWED, apply
from streams.console.read_model.output_projections import ProjectionWriter
from streams.console.read_model.pending_results import PendingResults
from streams.console.read_model.store import Store, savepoint, transaction
from streams.contract import topics
from streams.kafka.topic_reader import admin_client, connected, consumer, topic_partitions
from streams.runtime import log_events
from streams.runtime.errors import TEMPORARY, WorkerError, log
from streams.runtime.settings import Settings

pause = asyncio.sleep
RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
WAIT_MS = 200
PRUNE_INTERVAL_SECONDS = 86_400.0
ERASE_INTERVAL_SECONDS = 600.0
MOST_RECORDS = 40_000
MOST_LOGGED = 100
"""Unreadable records with a log line of their own; the others are counted."""
REMEMBERED_SECONDS = 130
OUTPUT_NAMES = frozenset(topics.OUTPUT_NAMES)
Batches = dict[TopicPartition, list[Any]]
COUNTED = ("user-licenses", "user-changes", "group-changes")


@dataclass(slots=True)
class Lag:
    """The read model's distance from the topics. ``seconds``: age of what it shows."""

    records: int = 0
    seconds: float = 0.0
    problem: str | None = None


@dataclass(slots=True)
class Progress:
    """The projector's progress. ``applied``: records since the start."""

    started: float = field(default_factory=time.time)
    applied: int = 0
    caught_up: bool = False
    problem: str | None = "not connected yet"
    asked_at: float = 0.0
    failures: int = 0
    rates: dict[str, Counter[int]] = field(default_factory=lambda: {t: Counter() for t in COUNTED})


class ReadModelProjector:
    """Projects the topics into the store.

    ``results``: futures of the commands whose results are expected.
    ``updated``: notified whenever the read model has passed further records.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.progress = Progress()
        self.results = PendingResults()
        self.updated = asyncio.Condition()
        self._projection = ProjectionWriter(store.writer)
        self._executor = ThreadPoolExecutor(1, "console-writer")
        self._short = {settings.topic_prefix + topic: topic for topic in FOLLOWED}
        self._ends: dict[TopicPartition, int] = {}
        """Last stable offsets."""
        self._positions: dict[TopicPartition, int] = {}
        """Offsets up to which the store has everything."""
        self._fetched: dict[TopicPartition, int] = {}
        """Offsets up to which was fetched; the last batch may still be on its way to the store."""
        self._end_reader: Any = None
        self._is_following = False
        self._pruned_at = 0.0
        self._erased_at = time.monotonic()
        self._seen_at: dict[TopicPartition, float] = {}
        self.unreadable = store.unreadable()
        """Records that could not be applied: their number, and the first one's problem."""

    async def run(self) -> None:
        """Projects until cancelled."""
        # Millions of small objects come and go and refer to nothing: current for cycles that often
        # costs a fifth of the time.
        gc.set_threshold(100_000, 20, 50)
        delay = RETRY_SECONDS
        while True:
            self._is_following = False
            try:
                await self._follow()
            except Exception as error:
                problem, bug = _problem_of(error)
            if self._is_following:
                delay = RETRY_SECONDS
            self.progress.failures += 1
            if problem != self.progress.problem:
                log.warning(log_events.CONSOLE_PROBLEM, problem=problem, exc_info=bug)
            self.progress.problem = problem
            await self._notify()
            await pause(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    async def _follow(self) -> None:
        settings = self.settings
        async with connected(admin_client(settings), settings) as admin:
            partitions = await topic_partitions(admin, settings, FOLLOWED)
            cluster = str((await admin.describe_cluster()).get("cluster_id"))
        async with (
            connected(consumer(settings), settings) as client,
            connected(consumer(settings, "read_uncommitted"), settings) as end_reader,
        ):
            client.assign(partitions)
            await self._seek(client, partitions, cluster)
            self.progress.problem = None
            self._is_following = True
            self._end_reader = end_reader
            try:
                await self._read(client, partitions)
            finally:
                self._end_reader = None

    async def _seek(self, client: Any, partitions: list[TopicPartition], cluster: str) -> None:
        """Seeks to the stored offsets; to the start of all topics if these are other topics."""
        self.store.bind_cluster(cluster)
        offsets = self.store.offsets()
        self._ends = dict(await client.end_offsets(partitions))
        known = {p: offsets.get((self._short[p.topic], p.partition), 0) for p in partitions}
        if any(known[partition] > self._ends[partition] for partition in partitions):
            why = "the topics are shorter than what was read of them"
            log.warning(log_events.CONSOLE_REBUILT, why=why)
            self.store.clear()
            known = {}
        self.unreadable = self.store.unreadable()
        with transaction(self.store.writer):
            self.store.prune(time.time())
        self._pruned_at = time.time()
        self._projection = ProjectionWriter(self.store.writer)
        begins = await client.beginning_offsets(partitions)
        self._fetched = {p: max(known.get(p, 0), begins[p]) for p in partitions}
        for partition, offset in self._fetched.items():
            client.seek(partition, offset)
        await self._passed(self._fetched, {})

    async def _read(self, client: Any, partitions: list[TopicPartition]) -> None:
        loop = asyncio.get_running_loop()
        writing: tuple[asyncio.Future[None], dict[TopicPartition, int], Batches] | None = None
        try:
            while True:
                batches = await client.getmany(timeout_ms=WAIT_MS, max_records=MOST_RECORDS)
                if writing is not None:
                    await writing[0]
                    await self._passed(*writing[1:])
                    writing = None
                await self._refresh_offsets(client, partitions)
                if batches:
                    future = loop.run_in_executor(self._executor, self._write, batches)
                    writing = future, self._fetched, batches
                    self._count(batches)
                if writing is None:
                    await self._passed(self._fetched, {})
                    await loop.run_in_executor(self._executor, self._erase_deleted)
                elif not self._lagging():
                    await writing[0]
                    await self._passed(*writing[1:])
                    writing = None
                self.progress.caught_up |= not self._lagging()
        finally:
            if writing is not None:
                await asyncio.wait([writing[0]])

    async def _refresh_offsets(self, client: Any, partitions: list[TopicPartition]) -> None:
        """Takes the ends that the last fetches problem, and the offsets up to which was fetched."""
        for partition in partitions:
            end = client.last_stable_offset(partition)
            if end is not None:
                self._ends[partition] = end
        self._fetched = {p: await client.position(p) for p in partitions}
        self.progress.asked_at = time.time()

    async def _passed(self, positions: dict[TopicPartition, int], batches: Batches) -> None:
        """Notes that the store has all records up to these positions, including the batches."""
        moved = positions != self._positions
        self._positions = positions
        for partition, records in batches.items():
            if self._short[partition.topic] == "results":
                self.results.complete(record.value for record in records)
        if moved:
            await self._notify()

    def _write(self, batches: dict[TopicPartition, list[Any]]) -> None:
        """Writes rows and offsets in one transaction; runs in the writer's thread."""
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
                self._projection = ProjectionWriter(db)
            for topic, records in by_topic.items():
                self._apply(topic, records)
            db.executemany("INSERT OR REPLACE INTO offsets VALUES(?, ?, ?)", offsets)
        self._erase_deleted()

    def _erase_deleted(self) -> None:
        """Erases what deleted rows left in the file, if that is due; in the writer's thread."""
        if time.monotonic() - self._erased_at < ERASE_INTERVAL_SECONDS:
            return
        try:
            if self.store.erase_deleted(time.time()):
                self._erased_at = time.monotonic()
        except sqlite3.OperationalError as error:  # no space for a copy of the file
            self._erased_at = time.monotonic()
            problem = f"what was deleted could not be erased from the read model's file: {error}"
            log.warning(log_events.CONSOLE_PROBLEM, problem=problem)

    def _apply(self, topic: str, records: list[Any]) -> None:
        """Applies a batch of one topic; of one that fails, everything but the culprits."""
        try:
            with savepoint(self.store.writer):
                apply(self._projection, topic, records)
        except (OSError, sqlite3.OperationalError):
            raise  # of the file, not of a record: the whole batch is retried
        except Exception as error:
            self._projection = ProjectionWriter(self.store.writer)  # without what was rolled back
            if len(records) == 1:
                self._pass_over(topic, records[0], error)
                return
            middle = len(records) // 2
            self._apply(topic, records[:middle])
            self._apply(topic, records[middle:])

    def _pass_over(self, topic: str, record: Any, error: Exception) -> None:
        """Notes a record that cannot be shown: the console goes on, but never says it is well."""
        where = f"{topic}, partition {record.partition}, offset {record.offset}"
        problem = f"{where}: {type(error).__name__}: {error}"
        if self.unreadable is None or self.unreadable[0] < MOST_LOGGED:
            log.warning(log_events.CONSOLE_PROBLEM, problem=problem, exc_info=error)
        self.store.note_unreadable(problem)
        self.unreadable = self.store.unreadable()

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
        return any(end > self._fetched.get(p, 0) for p, end in self._ends.items())

    async def _notify(self) -> None:
        async with self.updated:
            self.updated.notify_all()

    async def output_ends(self) -> dict[TopicPartition, int]:
        """Returns the present ends of the output topics, records of open transactions included.

        Raises: WorkerError, if the projector is not connected.
        """
        reader = self._end_reader
        if reader is None:
            raise WorkerError(self.progress.problem or "not connected", TEMPORARY)
        partitions = [p for p in self._positions if self._short[p.topic] in OUTPUT_NAMES]
        try:
            ends: dict[TopicPartition, int] = await reader.end_offsets(partitions)
        except (errors.KafkaError, TimeoutError) as error:
            raise WorkerError(f"the broker did not answer: {error!r}", TEMPORARY) from None
        return ends

    async def wait_passed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Returns when the read model has passed these offsets. The caller sets the timeout."""

        def passed() -> bool:
            """Returns True if all positions are at or beyond the offsets."""
            return all(self._positions.get(p, 0) >= offset for p, offset in offsets.items())

        async with self.updated:
            await self.updated.wait_for(passed)

    def lag(self) -> Lag:
        """Returns how far the read model is behind the topics.

        A partition that lags is as old as the last record read from it.
        """
        progress, now = self.progress, time.time()
        behind = {p: end - self._positions.get(p, 0) for p, end in self._ends.items()}
        behind = {p: records for p, records in behind.items() if records > 0}
        if progress.problem:
            since = progress.asked_at or progress.started
            return Lag(sum(behind.values()), now - since, progress.problem)
        seconds = max((now - self._seen_at.get(p, progress.started) for p in behind), default=0.0)
        return Lag(sum(behind.values()), seconds, self._unreadable_problem())

    def _unreadable_problem(self) -> str | None:
        if self.unreadable is None:
            return None
        count, first = self.unreadable
        return (
            f"records that cannot be read and are not shown: {count:,}, the first is {first}."
            " Please report this error; a release that reads them needs the file of the read model"
            " deleted"
        )

    def close(self) -> None:
        """Ends the writing thread."""
        self._executor.shutdown()


def _problem_of(error: Exception) -> tuple[str, Exception | None]:
    """Returns what is wrong, and the exception where its traceback is needed."""
    if isinstance(error, WorkerError):
        return str(error), None
    if isinstance(error, (OSError, sqlite3.OperationalError)):
        return f"the read model cannot be written: {error}", None
    return f"the read model cannot follow the topics: {type(error).__name__}: {error}", error
