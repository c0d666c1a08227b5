"""What the workers have done: their lag, and whether they have applied a record that was sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from streams.kafka.group_status import NOT_YET, LagReader, Member, _workers
from streams.kafka.topic_reader import admin_client, connected
from streams.runtime.errors import WorkerError
from streams.runtime.settings import Settings

LOOK_EVERY = 1.0


@dataclass(slots=True)
class ProcessingStatus:
    """Looked at once a second. ``workers`` is None until they are known."""

    settings: Settings
    lag: dict[str, int] = field(default_factory=dict)
    workers: list[Member] | None = None
    problem: str | None = None
    since: float = 0.0
    """When there was no lag the last time."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with LagReader(self.settings) as reader:
                    while True:
                        self.lag = await reader.read()
                        self.workers = await _workers(reader.admin, self.settings.app_id)
                        self.problem = None
                        if not any(self.lag.values()):
                            self.since = time.time()
                        await asyncio.sleep(LOOK_EVERY)
            except WorkerError as error:
                self.problem = str(error)
            await asyncio.sleep(LOOK_EVERY)

    @property
    def records(self) -> int:
        return sum(self.lag.values())

    @property
    def seconds(self) -> float:
        """How long there has been lag without a pause."""
        return time.time() - self.since if self.records and self.since else 0.0

    async def applied(self, place: TopicPartition, offset: int, within: float) -> bool:
        """Whether the workers have applied a record, waiting for it."""
        deadline = time.monotonic() + within
        async with connected(admin_client(self.settings), self.settings) as admin:
            while True:
                if await self._committed(admin, place) > offset:
                    return True
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(0.1)

    async def _committed(self, admin: Any, place: TopicPartition) -> int:
        try:
            found = await admin.list_consumer_group_offsets(self.settings.app_id, None, [place])
        except NOT_YET:
            return -1
        return int(found[place].offset) if place in found else -1
