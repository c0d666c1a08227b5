"""The workers' progress: their lag, and whether they have applied a record that was sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from streams.kafka.group_status import NOT_YET, LagReader, Member, read_members
from streams.kafka.topic_reader import admin_client, connected
from streams.runtime import log_events
from streams.runtime.errors import WorkerError, log
from streams.runtime.settings import Settings

REFRESH_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
COMMIT_POLL_SECONDS = 0.1
"""Kafka notifies nobody of an offset commit, so a commit can only be polled for."""


@dataclass(slots=True)
class ProcessingStatus:
    """The lag and the members of the workers' group, refreshed once a second.

    ``workers`` is None until they are known. ``settled_at``: when there was no lag the last time.
    """

    settings: Settings
    lag: dict[str, int] = field(default_factory=dict)
    workers: list[Member] | None = None
    problem: str | None = None
    settled_at: float = 0.0
    failures: int = 0

    async def run(self) -> None:
        """Refreshes until cancelled."""
        delay = REFRESH_SECONDS
        while True:
            bug: Exception | None = None
            try:
                async with LagReader(self.settings) as reader:
                    while True:
                        await self._refresh(reader)
                        delay = REFRESH_SECONDS
                        await asyncio.sleep(REFRESH_SECONDS)
            except WorkerError as error:
                problem = str(error)
            except Exception as error:
                bug = error
                problem = f"the workers' progress is unknown: {type(error).__name__}: {error}"
            self.failures += 1
            if problem != self.problem:
                log.warning(log_events.CONSOLE_PROBLEM, problem=problem, exc_info=bug)
            self.problem = problem
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    async def _refresh(self, reader: LagReader) -> None:
        self.lag = await reader.read()
        self.workers = await read_members(reader.admin, self.settings.app_id)
        self.problem = None
        if not any(self.lag.values()):
            self.settled_at = time.time()

    @property
    def records(self) -> int:
        """The records that the workers have not applied yet."""
        return sum(self.lag.values())

    @property
    def seconds(self) -> float:
        """The seconds for which there has been lag without a pause."""
        return time.time() - self.settled_at if self.records and self.settled_at else 0.0

    async def wait_applied(self, partition: TopicPartition, offset: int) -> None:
        """Returns when the workers have applied the record. The caller sets the timeout.

        Raises: WorkerError, if the broker does not answer.
        """
        async with connected(admin_client(self.settings), self.settings) as admin:
            while True:
                if await self._committed(admin, partition) > offset:
                    return
                await asyncio.sleep(COMMIT_POLL_SECONDS)

    async def is_applied(self, partition: TopicPartition, offset: int) -> bool:
        """Returns True if the workers have applied the record. Raises: WorkerError."""
        async with connected(admin_client(self.settings), self.settings) as admin:
            return await self._committed(admin, partition) > offset

    async def _committed(self, admin: Any, partition: TopicPartition) -> int:
        try:
            found = await admin.list_consumer_group_offsets(self.settings.app_id, None, [partition])
        except NOT_YET:
            return -1
        return int(found[partition].offset) if partition in found else -1
