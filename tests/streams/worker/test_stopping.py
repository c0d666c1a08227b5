"""A worker that is leaving the group, and an assignment that crosses it."""

from __future__ import annotations

import asyncio
from typing import Any

from streams.kafka.assignor import NOTHING_OWNED
from streams.runtime.settings import load_settings
from streams.worker.worker import Worker
from tests.lab.counting_worker import Toy, ToyDecoder


def test_a_worker_that_leaves_the_group_takes_no_assignment() -> None:
    async def run() -> None:
        settings = load_settings(_env_file=None, partitions=2)
        worker = Worker(settings, Toy, {"user-changes": ToyDecoder()}, watch=False)
        opened: list[Any] = []
        worker.read_from = opened.append  # type: ignore[assignment, method-assign]
        worker._stop.set()
        worker.assigned({0, 1}, generation=1)
        assert worker.partitions == {}
        assert worker.owned() == NOTHING_OWNED
        assert opened == []

    asyncio.run(run())
