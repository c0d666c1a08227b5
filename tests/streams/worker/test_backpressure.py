"""A burst of twenty times what a worker does in a second: nothing is lost, and memory stays."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from streams.ingest.items import FeedItem
from streams.ingest.publisher import publish
from tests.support.kafka import Kafka
from tests.support.scrape import scrape
from tests.support.system import Events, System, Worker, running

USERS = 2_000
SECOND = 40_000  # events: more than a worker does in one on the smallest machine that tests run on
TIMES = 20

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def changes(first: int, events: int) -> Iterator[FeedItem]:
    """Each user's mail nickname, changed again and again; the number says which came last.

    No address depends on it here, so no claims (R18) are measured: they have tests of their own.
    """
    for n in range(first, first + events):
        user = f"u{n % USERS}"
        body = {"type": "user.upserted", "id": f"c{n}", "tenant": "contoso", "user": user}
        body |= {"usageLocation": "US", "mailNickname": f"n{n}"}
        yield FeedItem("user-changes", f"contoso/{user}".encode(), orjson.dumps(body))


def feed(system: System, items: Iterator[FeedItem]) -> None:
    asyncio.run(publish(items, system.bootstrap, system.prefix, console=Console(quiet=True)))


class Peak:
    """The largest resident size of a worker while it is watched, in bytes."""

    def __init__(self, worker: Worker) -> None:
        self.bytes = 0
        self._worker, self._ended = worker, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        statm = Path(f"/proc/{self._worker.process.pid}/statm")
        while not self._ended.wait(0.05):
            pages = int(statm.read_text().split()[1])
            self.bytes = max(self.bytes, pages * os.sysconf("SC_PAGE_SIZE"))


def test_a_burst_is_worked_off_in_the_memory_that_there_is(kafka: Kafka) -> None:
    with running(kafka.bootstrap) as system:
        usual = system.worker()
        make = Events()
        users = [f"u{n}" for n in range(USERS)]
        system.publish([make.product("base"), make.seats("base", USERS)])
        system.publish([make.license("staff", "base"), *(make.join(u, "staff") for u in users)])
        with Peak(usual) as steady:
            feed(system, changes(0, SECOND))
            system.settle()
        assert usual.stop() == 0
        # All of it is there before the next worker reads the first of it.
        burst = TIMES * SECOND
        feed(system, changes(SECOND, burst))
        worker = system.worker()
        with Peak(worker) as peak:
            system.settle(timeout=180)
        handled = sum(s.value for s in scrape(worker) if s.name == "seatflow_events_total")
        assert handled == burst
        assert not system.records("dead-letters")
        states = system.outcome()["user-licenses"].values()
        names = {state["user"]: state["mailNickname"] for state in states}
        last = SECOND + burst - USERS
        assert names == {f"u{n % USERS}": f"n{n}" for n in range(last, last + USERS)}
        assert peak.bytes < 2 * steady.bytes, (peak.bytes, steady.bytes)
