"""What every feed yields: records for Kafka, and rows that could not become one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class FeedItem(NamedTuple):
    """One record. ``topic`` is a name of contract section 1 without its prefix."""

    topic: str
    key: bytes
    value: bytes


class FeedProblem(NamedTuple):
    """A row that gives no record, and why; ``line`` counts from 1."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class FeedError(Exception):
    """The file as a whole cannot be fed; the message says what to do."""


class Feed(Protocol):
    """An iterator that knows how far it is. ``total_bytes`` is None where it cannot be known."""

    total_bytes: int | None
    done_bytes: int

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]: ...

    def __next__(self) -> FeedItem | FeedProblem: ...
