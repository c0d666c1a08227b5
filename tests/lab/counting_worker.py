"""A worker with a machine that only counts, to test delivery: python tests/lab/counting_worker.py

It counts the events of each key, tells another partition of each by an internal topic, and counts
there what was heard. Were anything lost or applied twice, on either side of the hop, the rows and
the published counts would say so. Fan-out: an event with ``fan`` publishes that many records.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import orjson

from engine.domain.events import Delivered
from engine.partition_machine import BatchResult
from engine.state.message_codecs import MEMBERS
from streams.contract.decoder import Rejected
from streams.contract.topics import INPUT_NAMES
from streams.runtime.settings import load_settings
from streams.worker.worker import run_worker

HOP = "internal.seat-requests"
OUT = "user-licenses"
MESSAGE: dict[str, Any] = dict.fromkeys(MEMBERS[HOP], 0) | {
    "tenant": "toy", "skuId": "toy", "causedBy": "", "heads": [], "low": False, "off": False,
}  # fmt: skip
"""A message that passes the worker's check of internal ones."""


class ToyEffects:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Any] = {}
        self.records: list[tuple[str, int | None, str, Any]] = []


class Toy:
    """The interface of ``engine.partition_machine.PartitionMachine``."""

    def __init__(self, number: int, partitions: int) -> None:
        self.number, self.partitions = number, partitions
        self.has_unreported_changes = self.is_backpressured = False
        self.counters: Counter[str] = Counter()
        self._counts: dict[tuple[str, str], int] = {}
        self._fan: list[str] = []
        self._effects = ToyEffects()

    def load(self, table: str, key: str, row: Any) -> None:
        self._counts[table, key] = row

    def freeze_configuration(self) -> None:
        pass

    def start(self) -> None:
        pass

    def handle(self, topic: str, batch: Sequence[Delivered]) -> BatchResult:
        if topic == HOP:
            for delivered in batch:
                heard: Any = delivered.event
                self._count("heard", heard["key"])
            return BatchResult(())
        for delivered in batch:
            event: Any = delivered.event
            key, body = event
            if body.get("crash"):
                raise RuntimeError("the toy crashes as asked")
            if body.get("stall"):
                sum(range(10**15))  # in C: no thread and no signal handler of Python runs
            self._count("seen", key)
            self._fan += [f"{key}-{n}" for n in range(body.get("fan", 0))]
            if not body.get("quiet"):
                to = (crc32(key.encode()) + 1) % self.partitions
                self._effects.records.append((HOP, to, key, MESSAGE | {"key": key}))
        self.counters["events"] += len(batch)
        return BatchResult(())

    def _count(self, table: str, key: str) -> None:
        count = self._counts.get((table, key), 0) + 1
        self._counts[table, key] = self._effects.rows[table, key] = count
        self.has_unreported_changes = True

    def run_background(self, limit: int) -> bool:
        now, self._fan = self._fan[:limit], self._fan[limit:]
        self._effects.records += [(OUT, None, key, {"fan": True}) for key in now]
        return bool(self._fan)

    def flush(self) -> None:
        self.has_unreported_changes = False

    def drain_effects(self) -> ToyEffects:
        effects, self._effects = self._effects, ToyEffects()
        for (table, key), count in effects.rows.items():
            if table == "seen":
                effects.records.append((OUT, None, key, {"seen": count}))
        return effects


class ToyDecoder:
    @staticmethod
    def decode_all(records: list[Any]) -> tuple[list[Delivered], list[tuple[Any, Rejected]]]:
        batch, rejected = [], []
        for record in records:
            try:
                event = ((record.key or b"\xff").decode(), orjson.loads(record.value or b""))
                batch.append(Delivered(event, record.timestamp, record.offset))
            except ValueError as error:
                rejected.append((record, Rejected(f"not the toy's: {error}")))
        return batch, rejected


if __name__ == "__main__":
    sys.exit(
        run_worker(
            load_settings(),
            Toy,
            dict.fromkeys(INPUT_NAMES, ToyDecoder()),
            watch=os.environ.get("TOY_WATCH", "1") == "1",
        )
    )
