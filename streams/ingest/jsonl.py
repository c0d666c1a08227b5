"""JSON Lines: each line is one event of the contract (section 2), of any topic."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import orjson

from engine.domain.events import InputEvent
from streams.contract.decoder import DECODERS, MAX_VALUE_BYTES, Rejected
from streams.contract.event_types import resolve
from streams.contract.rejection import DecodeError
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import UTF8_BOM, in_utf8

CHUNK_BYTES = 1 << 20
# The longest event, its line end, and some white space around it.
MAX_LINE_BYTES = MAX_VALUE_BYTES + 1024


def events_from_jsonl(path: str | Path) -> JsonlFeed:
    """Returns the feed of a file, or of standard input for ``-``; it is read in constant memory.

    Raises: FeedError, if the file cannot be opened.
    """
    return JsonlFeed(path)


class JsonlFeed:
    """The events of a file in its order; a bad line gives a problem, and reading continues."""

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.total_bytes: int | None = None
        self.done_bytes = 0
        try:
            # Closed by the generator that reads it to its end.
            self._file: BinaryIO = sys.stdin.buffer if str(path) == "-" else open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise FeedError(f"{self.name} cannot be read: {error.strerror}") from None
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode):
            self._file = in_utf8(self._file, self.name)
            self.total_bytes = self._file.seek(0, os.SEEK_END)
            self._file.seek(0)
        self._items = self._read()

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]:
        return self

    def __next__(self) -> FeedItem | FeedProblem:
        return next(self._items)

    def close(self) -> None:
        """Closes the file; for a feed that is not read to its end."""
        self._items.close()
        self._file.close()

    def events(self) -> Iterator[Event | FeedProblem]:
        """Yields the decoded events instead of records; used where nothing is published."""
        with self._file:
            for number, line in self._lines():
                if line is None:
                    reason = f"the line is longer than {MAX_VALUE_BYTES} bytes"
                    yield FeedProblem(self.name, number, reason)
                elif value := line.strip():
                    found = event_of(value)
                    yield (
                        FeedProblem(self.name, number, found) if type(found) is str else found  # type: ignore[misc]
                    )

    def _read(self) -> Generator[FeedItem | FeedProblem, None, None]:
        for found in self.events():
            yield FeedItem(*found[:3]) if type(found) is Event else found  # type: ignore[misc]

    def _lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Yields numbered lines, None for one too long; at most two chunks are in memory."""
        number, rest, too_long = 1, b"", False
        while chunk := self._file.read(CHUNK_BYTES):
            first, *others = chunk.split(b"\n")
            if self.done_bytes == 0:
                first = first.removeprefix(UTF8_BOM)
            self.done_bytes += len(chunk)
            rest = b"" if too_long else rest + first
            too_long = too_long or len(rest) > MAX_LINE_BYTES
            for following in others:
                yield number, None if too_long else rest
                number, rest, too_long = number + 1, following, False
        if rest or too_long:
            yield number, None if too_long else rest


class Event(NamedTuple):
    """A line that is an event: the record, the decoded event, and its CloudEvents source."""

    topic: str
    key: bytes
    value: bytes
    event: InputEvent
    source: str


def event_of(value: bytes) -> Event | str:
    """Returns the event with its record, or the reason why the line is no event."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _reason("user-changes", value)
    if type(body) is not dict:
        return _reason("user-changes", value)
    members = body
    if "specversion" in body and type(body.get("data")) is dict:
        members = body["data"]  # a CloudEvent in structured mode
    try:
        event_type = resolve(body.get("type"), members)
    except DecodeError as error:
        return str(error.args[0])
    key = _encoded(event_type.key_of(members))
    if key is None:
        return _reason(event_type.topic, value)
    parsed = body if len(value) <= MAX_VALUE_BYTES else None
    decoded = DECODERS[event_type.topic](key, value, None, parsed)
    if type(decoded) is Rejected:
        return decoded.reason
    event, source = decoded  # type: ignore[misc]
    return Event(event_type.topic, key, value, event, source)


def _encoded(key: str | None) -> bytes | None:
    """Returns the key as bytes; None where there is none: the decoder tells what is wrong."""
    try:
        return None if key is None else key.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


def _reason(topic: str, value: bytes) -> str:
    decoded = DECODERS[topic](None, value, None)
    return decoded.reason if isinstance(decoded, Rejected) else "the event has no key"
