"""The interfaces that a partition needs: its state machine, and the worker that it runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Protocol

from aiokafka import TopicPartition

from engine.domain.events import Delivered
from engine.partition_machine import BatchResult
from streams.contract.decoder import Rejected
from streams.metrics.registry import WorkerMetrics
from streams.runtime.settings import Settings

Bounds = Mapping[TopicPartition, tuple[int, int]]
"""The first offset of each log and the end of its committed records."""


class Machine(Protocol):
    """The deterministic machines of a partition; see ``engine/partition_machine.py``."""

    @property
    def has_unreported_changes(self) -> bool:
        """True while :meth:`flush` has something to send."""

    @property
    def is_backpressured(self) -> bool:
        """True while changes of users should wait."""

    def load(self, table: str, key: str, row: Any) -> None:
        """Loads a restored row."""

    def freeze_configuration(self) -> None:
        """Ends the loading of all rows but those of users."""

    def start(self) -> None:
        """Ends the loading."""

    def handle(self, topic: str, batch: list[Delivered]) -> BatchResult:
        """Applies the records of one topic; returns those that belong to another partition."""

    def run_background(self, limit: int) -> bool:
        """Computes a slice of the fan-outs; returns whether more is left."""

    def flush(self) -> None:
        """Sends the reports that were collected."""

    def drain_effects(self) -> Any:
        """Returns the rows and records since the last call."""


class BatchDecoder(Protocol):
    """As :class:`streams.contract.decoder.Decoder`."""

    def decode_all(self, records: list[Any]) -> tuple[list[Delivered], list[tuple[Any, Rejected]]]:
        """Returns the events, and the records that cannot be read with the reasons."""


class PartitionContext(Protocol):
    """The worker, as its partitions see it."""

    settings: Settings
    metrics: WorkerMetrics
    decoders: Mapping[str, BatchDecoder]
    restore_slots: asyncio.Semaphore
    compute_lock: asyncio.Lock  # held while a slice is computed
    rebalancing: bool  # from `hold` to the next assignment

    def new_machine(self, partition: int) -> Machine:
        """Creates the machine of a partition, without any state."""

    async def bounds(self, tps: Iterable[TopicPartition]) -> Bounds:
        """Returns the first offset of each log and the end of its committed records."""

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Starts to read each log from its position, without waiting for it."""

    def failed(self, error: BaseException, partition: int | None = None) -> NoReturn:
        """Ends the process."""
