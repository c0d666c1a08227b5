"""Reading the changelog of a partition back.

One row is the delivery layer's own: it says for each topic up to where its records are in the
state, and is written in the transaction of that state.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from engine.state.formats import (
    FORMAT_KEY,
    FORMAT_TABLE,
    NewerFormatError,
    check_row_format,
)
from engine.state.row_codecs import USERS
from streams.contract.topics import CHANGELOG
from streams.kafka import changelog_rows
from streams.kafka.changelog_rows import APPLIED, Values, row_key
from streams.kafka.closing import closed
from streams.runtime import fault_injection
from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.settings import Settings, client_options

FETCH_BYTES = 8 << 20
BREATHE_ROWS = 5_000  # between two turns of the loop


class Restored:
    """What the changelog holds: the last value of each row that is not deleted."""

    def __init__(self) -> None:
        self.values: Values = {}
        self.read = 0

    def take(self, records: Iterable[Any]) -> None:
        self.read += changelog_rows.take(self.values, records)

    def applied(self) -> dict[str, int]:
        """Short topic name -> offset of the next record to apply; empties that row."""
        offsets: dict[str, int] = orjson.loads(self.values.pop(APPLIED, b"{}"))
        return offsets

    async def load_into(self, machine: Any) -> None:
        """Gives each row to the machine, once, and forgets it; the format row before the others.

        Raises:
            WorkerError: a later release has written the changelog.
        """
        values, self.values = self.values, {}
        if row := values.pop(row_key(FORMAT_TABLE, FORMAT_KEY), None):
            found = orjson.loads(row)
            try:
                check_row_format(found)
            except NewerFormatError as error:
                raise WorkerError(str(error), CONFIGURATION) from None
            machine.load(FORMAT_TABLE, FORMAT_KEY, found)
        users = row_key(USERS, "")
        gc.disable()  # nothing of what is loaded is garbage
        try:
            others = [name for name in values if not name.startswith(users)]
            await self._load(others, values, machine)
            machine.prepare()
            await self._load(list(values), values, machine)
        finally:
            gc.freeze()  # nor is to be gone through, ever again
            gc.enable()

    @staticmethod
    async def _load(names: list[bytes], values: Values, machine: Any) -> None:
        for at in range(0, len(names), BREATHE_ROWS):
            changelog_rows.load(machine.load, names[at : at + BREATHE_ROWS], values)
            await asyncio.sleep(0)


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[Any]:
    """A consumer without a group that sees committed records only."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=100,
        check_crcs=False,
    )
    await _start(consumer)
    try:
        yield consumer
    finally:
        await closed(consumer.stop())


async def _start(consumer: Any, patience: int = 60) -> None:
    """A broker that is just away for a moment is waited for."""
    while True:
        try:
            await consumer.start()
            return
        except KafkaConnectionError:
            patience -= 1
            if patience == 0:
                raise
            await asyncio.sleep(0.5)


async def read(consumer: Any, settings: Settings, partition: int) -> Restored:
    """The whole changelog of a partition whose former owner is fenced.

    To the end by position: at the end of a log of transactions are control records, which are
    never delivered.
    """
    tp = TopicPartition(settings.topic_prefix + CHANGELOG.name, partition)
    consumer.assign([tp])
    end = (await consumer.end_offsets([tp]))[tp]
    consumer.seek(tp, (await consumer.beginning_offsets([tp]))[tp])
    restored = Restored()
    while await consumer.position(tp) < end:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            restored.take(records)
            fault_injection.hit("during-restore")
    return restored


def starts(
    applied: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, int]:
    """Where to read each topic from; ``bounds`` are the first and the end offset of each log.

    Raises WorkerError if a log ends before what was applied of it: it was made anew, and reading
    on would pass over all that it gets up to that offset.
    """
    for tp, offset in applied.items():
        if offset > bounds[tp][1]:
            raise WorkerError(
                f"{tp.topic}, partition {tp.partition}, ends at offset {bounds[tp][1]}, but the"
                f" state has applied it up to {offset}: the topic was made anew. Bring it back, or"
                " make all topics anew",
                CONFIGURATION,
            )
    return {tp: max(applied.get(tp, 0), first) for tp, (first, _) in bounds.items()}
