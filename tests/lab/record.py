"""All topics of a run as the checkers want them, and what else they tell of it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.contract.topics import CHANGELOG, INPUT_NAMES, TOPICS
from streams.kafka.changelog_rows import APPLIED
from streams.kafka.topic_reader import read_to_end
from tests.checkers import Record
from tests.support.kafka import reading

CONTRACT_PREFIX = "licensing."


class Taken(NamedTuple):
    """A record with its timestamp, in epoch milliseconds."""

    at: int
    record: Record
    key: bytes | None


class Recording(NamedTuple):
    """In the order of the timestamps, and in each partition that of the log."""

    taken: list[Taken]

    @property
    def records(self) -> list[Record]:
        changelog = CHANGELOG.name
        return [t.record for t in self.taken if t.record.topic != changelog]

    def longest_wait(self) -> float:
        """Seconds from sending an input record to the transaction that applied it, at most."""
        sent: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for t in self.taken:
            if t.record.topic in INPUT_NAMES:
                place = (t.record.topic, t.record.partition)
                sent.setdefault(place, []).append((t.record.offset, t.at))
        worst, done = 0, dict.fromkeys(sent, 0)
        for t in self.taken:
            if t.key != APPLIED or t.record.topic != CHANGELOG.name:
                continue
            assert isinstance(t.record.value, bytes)
            for topic, upto in json.loads(t.record.value).items():
                place = (topic, t.record.partition)
                line = sent.get(place, [])
                while done.get(place, 0) < len(line) and line[done[place]][0] < upto:
                    worst = max(worst, t.at - line[done[place]][1])
                    done[place] += 1
        return worst / 1000

    def last_output(self) -> float:
        """Returns the time of the last record that is not input, in epoch seconds."""
        return (
            max((t.at for t in self.taken if t.record.topic not in INPUT_NAMES), default=0) / 1000
        )

    def save(self, path: Path) -> None:
        with gzip.open(path, "wt", compresslevel=3) as file:
            for t in self.taken:
                file.write(json.dumps(_as_json(t)) + "\n")


def _as_json(t: Taken) -> dict[str, object]:
    record, value = t.record, t.record.value
    shown: object = value
    if isinstance(value, bytes):
        try:
            shown = value.decode()
        except UnicodeDecodeError:
            shown = {"base64": base64.b64encode(value).decode()}
    found = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return found | {"at": t.at, "key": record.key, "value": shown, "headers": dict(record.headers)}


def record(bootstrap: str, prefix: str, partitions: int, timeout: float = 60.0) -> Recording:
    """Reads the present committed records of all topics."""
    return asyncio.run(_record(bootstrap, prefix, partitions, timeout))


async def _record(bootstrap: str, prefix: str, partitions: int, timeout: float) -> Recording:
    tps = [TopicPartition(prefix + t.name, p) for t in TOPICS for p in range(partitions)]
    async with reading(bootstrap, "read_committed") as consumer:
        consumer.assign(tps)
        logs: dict[TopicPartition, list[Taken]] = {}
        async for batches in read_to_end(
            consumer,
            tps,
            from_beginning=True,
            idle_timeout_seconds=None,
            timeout_seconds=timeout,
        ):
            for tp, messages in batches.items():
                logs.setdefault(tp, []).extend(_taken(m, prefix) for m in messages)
    return Recording(_merged(logs.values()))


def _taken(m: Any, prefix: str) -> Taken:

    headers = {name: value.decode() for name, value in m.headers}
    if origin := headers.get("dlq.topic"):
        headers["dlq.topic"] = CONTRACT_PREFIX + origin.removeprefix(prefix)
    key: bytes | None = m.key
    found = Record(
        m.topic.removeprefix(prefix),
        m.partition,
        m.offset,
        None if key is None else key.decode(),
        m.value,
        headers,
    )
    return Taken(m.timestamp, found, key)


def _merged(logs: Iterable[list[Taken]]) -> list[Taken]:
    """Merges by timestamp, and keeps the order of each partition."""
    keyed = []
    for log in logs:
        latest = 0
        for taken in log:
            latest = max(latest, taken.at)
            keyed.append((latest, taken))
    keyed.sort(key=lambda pair: pair[0])
    return [taken for _, taken in keyed]
