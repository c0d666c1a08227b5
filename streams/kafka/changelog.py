"""Reading back the changelog of a partition.

Two rows belong to the delivery layer. The applied offsets state for each topic which records are in
the state; they are written in the transaction of that state. The attempted offsets are the applied
ones at the last opening of the partition: if they still are, it ended without a result.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiokafka import TopicPartition

from engine.state.formats import (
    FORMAT_KEY,
    FORMAT_TABLE,
    NewerFormatError,
    check_row_format,
)
from engine.state.row_codecs import USERS
from streams.contract.topics import CHANGELOG
from streams.kafka import changelog_rows
from streams.kafka.changelog_rows import APPLIED, ATTEMPTED, Values, row_key
from streams.kafka.closing import close_with_timeout
from streams.kafka.connect import start_with_retry
from streams.kafka.topic_reader import consumer, read_to_end
from streams.runtime import fault_injection
from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.settings import Settings

ROWS_PER_LOOP_YIELD = 5_000  # between two turns of the event loop
START_TIMEOUT_SECONDS = 60.0


class ChangelogSnapshot:
    """The last value of each row that is not deleted; ``read``: the records it was read from."""

    def __init__(self) -> None:
        self.values: Values = {}
        self.read = 0

    def fold(self, records: Iterable[Any]) -> None:
        """Adds the next records of the log."""
        self.read += changelog_rows.fold_records(self.values, records)

    def applied(self) -> dict[str, int]:
        """Returns, by short topic name, the next offset to apply; removes that row."""
        offsets: dict[str, int] = orjson.loads(self.values.pop(APPLIED, b"{}"))
        return offsets

    def attempted(self) -> dict[str, int] | None:
        """Returns the offsets from which the last owner went on; removes that row."""
        row = self.values.pop(row_key(*ATTEMPTED), None)
        return None if row is None else orjson.loads(row)

    async def load_into(self, machine: Any) -> None:
        """Gives each row to the machine, once, and forgets it; the format row before the others.

        The rows of the delivery layer are dropped; take them before.

        Raises:
            WorkerError: a later release has written the changelog.
        """
        values, self.values = self.values, {}
        for own in (APPLIED, row_key(*ATTEMPTED)):
            values.pop(own, None)
        if row := values.pop(row_key(FORMAT_TABLE, FORMAT_KEY), None):
            found = orjson.loads(row)
            try:
                check_row_format(found)
            except NewerFormatError as error:
                raise WorkerError(str(error), CONFIGURATION) from None
            machine.load(FORMAT_TABLE, FORMAT_KEY, found)
        users = row_key(USERS, "")
        gc.disable()  # nothing that is loaded is garbage
        try:
            others = [name for name in values if not name.startswith(users)]
            await self._load(others, values, machine)
            machine.freeze_configuration()
            await self._load(list(values), values, machine)
        finally:
            gc.freeze()  # and no collection should ever traverse it
            gc.enable()

    @staticmethod
    async def _load(names: list[bytes], values: Values, machine: Any) -> None:
        for first in range(0, len(names), ROWS_PER_LOOP_YIELD):
            part = names[first : first + ROWS_PER_LOOP_YIELD]
            changelog_rows.load_rows(machine.load, part, values)
            await asyncio.sleep(0)


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[Any]:
    """Yields a consumer without a group that reads committed records only."""
    client = await start_with_retry(
        lambda: consumer(settings, auto_offset_reset="none", check_crcs=False),
        START_TIMEOUT_SECONDS,
    )
    try:
        yield client
    finally:
        await close_with_timeout(client.stop())


async def read(client: Any, settings: Settings, partition: int) -> ChangelogSnapshot:
    """Reads the whole changelog of a partition whose previous owner is fenced.

    It waits for the next records without limit; the watchdog ends a worker that stalls.
    """
    tp = TopicPartition(settings.topic_prefix + CHANGELOG.name, partition)
    client.assign([tp])
    restored = ChangelogSnapshot()
    async for batches in read_to_end(client, [tp], from_beginning=True, idle_timeout_seconds=None):
        for records in batches.values():
            restored.fold(records)
            fault_injection.trigger("during-restore")
    return restored


def starts(
    applied: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, int]:
    """Returns the offset to read each topic from; ``bounds``: first and end offset of each log.

    Raises:
        WorkerError: if a log ends before the applied offset, i.e. the topic was recreated.
    """
    for tp, offset in applied.items():
        if offset > bounds[tp][1]:
            raise WorkerError(
                f"{tp.topic}, partition {tp.partition}, ends at offset {bounds[tp][1]}, but the"
                f" state has applied it up to {offset}: the topic was recreated. Restore it, or"
                " recreate all topics",
                CONFIGURATION,
            )
    return {tp: max(applied.get(tp, 0), first) for tp, (first, _) in bounds.items()}
