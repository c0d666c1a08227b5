"""JSON Lines: each line is one event of the contract (section 2), of any topic."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from streams.contract.decoder import MAX_VALUE_BYTES
from streams.contract.event_reader import Event, event_of
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
