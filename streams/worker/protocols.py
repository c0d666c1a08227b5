"""What a partition needs of the machine that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from engine.domain.events import Delivered


class Machine(Protocol):
    """What the engine's partition offers; see ``engine/partition_machine.py``."""

    unreported: bool
    crowded: bool  # users are better taken in later
    misplaced: Sequence[int]  # offsets of the last batch that belong to another partition

    def load(self, table: str, key: str, row: Any) -> None: ...
    def prepare(self) -> None: ...
    def start(self) -> None: ...
    def handle(self, topic: str, batch: list[Delivered]) -> None: ...
    def work(self, limit: int) -> bool: ...
    def flush(self) -> None: ...
    def take(self) -> Any: ...
