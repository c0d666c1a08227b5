"""The engine in memory: one partition, whose internal messages are delivered back to it.

Nothing is published and no rows are written; the result is read from the machine at the end. The
rules are the same code that the workers run.
"""

from __future__ import annotations

import gc
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from engine.domain.effects import Row, as_json
from engine.domain.events import Delivered
from engine.partition_machine import PartitionMachine
from streams.contract.event_reader import Event

# Users are evaluated once per batch; longer batches save nothing.
BATCH_EVENTS = 10_000
# Counters are flushed after this many events; a worker does so a few times a second.
FLUSH_EVENTS = 10_000
UNLIMITED = 1 << 60
FIRST_TIMESTAMP_MS = 4_102_444_800_000
"""The beginning of 2100: nothing in a snapshot is later than the event that brings it (R25)."""


class Simulation:
    """Applies events to a state; the state is empty, or given as rows of a changelog.

    ``now_ms``: the time of the next event, ``start_ms`` at first. Each event is one millisecond
    later than the previous one, as if they were sent one by one; set it to let time pass.
    ``result_counts``: results by status. ``results``: those other than "applied" in their order,
    all of them with ``keep_applied``.
    """

    def __init__(
        self,
        rows: Mapping[tuple[str, str], Row] | None = None,
        start_ms: int = FIRST_TIMESTAMP_MS,
        keep_applied: bool = False,
    ) -> None:
        # Rows and published states are most of the work, and are not needed here.
        self.machine = PartitionMachine(0, 1, suppress_output=True)
        self.now_ms = start_ms
        self.events = 0
        self.result_counts: Counter[str] = Counter()
        self.results: list[dict[str, Any]] = []
        self._keep_applied = keep_applied
        self._offsets: Counter[str] = Counter()
        self._unflushed = 0
        if rows:
            self._load(rows)

    def _load(self, rows: Mapping[tuple[str, str], Row]) -> None:
        for (table, key), row in rows.items():
            self.machine.load(table, key, json.loads(as_json(row)))
        self.machine.start()
        self._deliver()
        self._settle()

    def run(self, events: Iterable[Event]) -> None:
        """Applies the events until everything has settled.

        Consecutive events of one topic form a batch, as in a worker under load.
        """
        batch: list[Delivered] = []
        topic = ""
        with _no_collection():
            for event in events:
                if event[0] != topic or len(batch) >= BATCH_EVENTS:
                    self._handle(topic, batch)
                    topic, batch = event[0], []
                offset = self.events + len(batch)
                batch.append(Delivered(event[3], self.now_ms, offset, event[4]))
                self.now_ms += 1
            self._handle(topic, batch)
            self._settle()

    def run_one_by_one(self, events: Iterable[Event]) -> None:
        """Applies the events, each when everything has settled after the previous one."""
        for event in events:
            self.run((event,))

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
        self.result_counts[value["status"]] += 1
        if self._keep_applied or value["status"] != "applied":
            self.results.append(value)


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
