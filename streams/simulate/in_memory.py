"""The engine in memory: one partition, whose internal messages are delivered back to it.

Nothing is published and no rows are written; the result is read from the machine at the end. The
rules are the same code that the workers run.
"""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from engine.domain.events import Delivered
from engine.partition_machine import PartitionMachine
from streams.contract.event_reader import Event
from streams.ingest.items import FeedProblem

# Users are evaluated once per batch; longer batches save nothing.
BATCH_EVENTS = 10_000
# Counters are flushed after this many events; a worker does so a few times a second.
FLUSH_EVENTS = 10_000
UNLIMITED = 1 << 60
FIRST_TIMESTAMP_MS = 1_800_000_000_000


class Simulation:
    """Applies events in their order; consecutive events of one topic form a batch.

    ``rejected``: the results other than "applied", in their order. Each event is one millisecond
    later than the previous one, as if they were sent one by one.
    """

    def __init__(self) -> None:
        # Rows and published states are most of the work, and are not needed here.
        self.machine = PartitionMachine(0, 1, suppress_output=True)
        self.events = 0
        self.results: Counter[str] = Counter()
        self.rejected: list[dict[str, Any]] = []
        self._offsets: Counter[str] = Counter()
        self._unflushed = 0

    def run(self, events: Iterable[Event | FeedProblem]) -> list[FeedProblem]:
        """Applies the events until everything has settled; returns the problems among them."""
        problems: list[FeedProblem] = []
        batch: list[Delivered] = []
        topic, at = "", FIRST_TIMESTAMP_MS + self.events
        with _no_collection():
            for event in events:
                if type(event) is FeedProblem:
                    problems.append(event)
                    continue
                if event[0] != topic or len(batch) >= BATCH_EVENTS:
                    self._handle(topic, batch)
                    topic, batch = event[0], []
                at += 1
                batch.append(Delivered(event[3], at, at, event[4]))  # type: ignore[misc]
            self._handle(topic, batch)
            self._settle()
        return problems

    def _handle(self, topic: str, batch: list[Delivered]) -> None:
        if not batch:
            return
        self.events += len(batch)
        self.machine.handle(topic, batch)
        self._unflushed += len(batch)
        if self._unflushed >= FLUSH_EVENTS:
            self._unflushed = 0
            self.machine.flush()
        self._deliver()

    def _deliver(self) -> None:
        """Delivers the messages between partitions, all of which are this one."""
        while True:
            messages_by_topic: dict[str, list[Any]] = defaultdict(list)
            for topic, _, _, value in self.machine.drain_effects().records:
                if topic.startswith("internal."):
                    # A group's licences live on in its machine: the message is to be a copy.
                    if topic == "internal.configuration":
                        value = orjson.loads(orjson.dumps(value))
                    messages_by_topic[topic].append(value)
                elif topic == "results":
                    self._result(value)
            if not messages_by_topic and not self.machine.has_background_work:
                return
            for topic, values in messages_by_topic.items():
                first = self._offsets[topic]
                self._offsets[topic] += len(values)
                messages = [Delivered(v, v.get("at", 0), first + i) for i, v in enumerate(values)]
                self.machine.handle(topic, messages)
            self.machine.run_background(UNLIMITED)

    def _settle(self) -> None:
        while self.machine.has_unreported_changes or self.machine.has_background_work:
            self.machine.flush()
            self._deliver()

    def _result(self, value: dict[str, Any]) -> None:
        self.results[value["status"]] += 1
        if value["status"] != "applied":
            self.rejected.append(value)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Turns the cyclic garbage collector off: it would scan millions of long-lived objects."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
