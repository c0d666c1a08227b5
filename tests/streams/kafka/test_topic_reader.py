"""The loop that reads to the end of a log, on a client that replays batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.kafka.topic_reader import read_to_end

FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)


class Log:
    """A consumer's stand-in: each ``getmany`` takes the next step, a position by partition."""

    def __init__(self, ends: dict[TopicPartition, int], steps: Sequence[Any]) -> None:
        self.ends, self.steps = ends, list(steps)
        self.at = dict.fromkeys(ends, 0)

    async def end_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        return {p: self.ends[p] for p in partitions}

    async def beginning_offsets(self, partitions: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 3)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.at[partition]

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[int]]:
        batches = {}
        for partition, (records, position) in (self.steps.pop(0) if self.steps else {}).items():
            self.at[partition] = position
            if records:
                batches[partition] = records
        return batches


async def all_of(log: Log, **options: Any) -> list[Any]:
    return [
        record
        async for batches in read_to_end(log, list(log.ends), **options)
        for records in batches.values()
        for record in records
    ]


async def test_ends_by_position_not_by_record() -> None:
    """The last offset of the second log is a transaction marker: no record comes for it."""
    steps = [{FIRST: (["a"], 1), SECOND: (["b"], 1)}, {SECOND: ([], 2)}, {FIRST: (["late"], 2)}]
    assert await all_of(Log({FIRST: 1, SECOND: 2}, steps)) == ["a", "b"]


async def test_an_empty_log_is_read_without_a_fetch() -> None:
    log = Log({FIRST: 0}, [{FIRST: (["new"], 1)}])
    assert await all_of(log) == []
    assert log.steps


async def test_starts_at_the_first_offset_if_asked_to() -> None:
    log = Log({FIRST: 3, SECOND: 4}, [{SECOND: (["x"], 4)}])
    assert await all_of(log, from_beginning=True) == ["x"]


async def test_gives_up_without_records() -> None:
    log = Log({FIRST: 2}, [{FIRST: (["a"], 1)}])
    with pytest.raises(TimeoutError, match="no record of t came within"):
        await all_of(log, idle_timeout_seconds=0.02)


async def test_gives_up_when_the_whole_log_takes_too_long() -> None:
    log = Log({FIRST: 10**9}, [{FIRST: (["a"], n)} for n in range(100_000)])
    with pytest.raises(TimeoutError, match="was not read to its end"):
        await all_of(log, timeout_seconds=0.02)


async def test_buffered_batches_let_the_loop_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = []

    async def sleep(seconds: float) -> None:
        turns.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await all_of(Log({FIRST: 3}, [{FIRST: (["a"], n)} for n in (1, 2, 3)]))
    assert turns == [0, 0, 0]
