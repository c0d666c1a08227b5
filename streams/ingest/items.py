"""The items of a feed: records for Kafka, and problems of rows that give no record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from streams.runtime.errors import Actor, SeatflowError


class FeedItem(NamedTuple):
    """One record. ``topic``: a topic of contract section 1, without the prefix."""

    topic: str
    key: bytes
    value: bytes


class FeedProblem(NamedTuple):
    """A row that gives no record, and the reason. ``line`` counts from 1."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class FeedError(SeatflowError):
    """Raised if a feed as a whole cannot be read or published. The message states the remedy."""

    @property
    def actor(self) -> Actor:
        """NOBODY if Kafka caused it: the next attempt may succeed."""
        return Actor.NOBODY if self.__cause__ else Actor.OPERATOR


class Feed(Protocol):
    """An iterator that knows its progress. ``total_bytes`` is None for standard input."""

    total_bytes: int | None
    done_bytes: int

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]: ...

    def __next__(self) -> FeedItem | FeedProblem: ...
