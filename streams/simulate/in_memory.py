"""The engine alone, as fast as it goes: one partition, whose messages come back to it at once.

Nothing is published and no rows are made: what became of everybody is read off the machine at the
end. The rules are the same code that the workers run.
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
from streams.ingest.items import FeedProblem
from streams.ingest.jsonl import Event

# Users are evaluated once per batch. Longer batches save no more.
BATCH_EVENTS = 10_000
# Counters are told when so many events have passed, as a worker does a few times a second.
FLUSH_EVENTS = 10_000
EVERYBODY = 1 << 60
BEGINNING = 1_800_000_000_000


class Simulation:
    """Takes events in their order; events of one topic that follow each other are one batch.

    ``rejected``: results that are not "applied", in their order. Each event is a millisecond later
    than the one before it, as if they were sent one by one.
    """

    def __init__(self) -> None:
        self.machine = PartitionMachine(0, 1)
        # Rows and published states are most of the work, and nobody would read them.
        self.machine.users.applier.quiet = True
        self.events = 0
        self.results: Counter[str] = Counter()
        self.rejected: list[dict[str, Any]] = []
        self._offsets: Counter[str] = Counter()
        self._unflushed = 0

    def run(self, events: Iterable[Event | FeedProblem]) -> list[FeedProblem]:
        """Applies the events until nothing is left to do; returns the rows that are none."""
        problems: list[FeedProblem] = []
        batch: list[Delivered] = []
        topic, at = "", BEGINNING + self.events
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
        self._answer()

    def _answer(self) -> None:
        """What partitions tell each other: all of them are this one."""
        while True:
            answers: dict[str, list[Any]] = defaultdict(list)
            for topic, _, _, value in self.machine.take().records:
                if topic.startswith("internal."):
                    # A group's licences live on in its machine: the message is to be a copy.
                    if topic == "internal.configuration":
                        value = orjson.loads(orjson.dumps(value))
                    answers[topic].append(value)
                elif topic == "results":
                    self._result(value)
            if not answers and not self.machine.working:
                return
            for topic, values in answers.items():
                first = self._offsets[topic]
                self._offsets[topic] += len(values)
                messages = [Delivered(v, v.get("at", 0), first + i) for i, v in enumerate(values)]
                self.machine.handle(topic, messages)
            self.machine.work(EVERYBODY)

    def _settle(self) -> None:
        while self.machine.unreported or self.machine.working:
            self.machine.flush()
            self._answer()

    def _result(self, value: dict[str, Any]) -> None:
        self.results[value["status"]] += 1
        if value["status"] != "applied":
            self.rejected.append(value)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Millions of objects that live to the end are not looked through again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
