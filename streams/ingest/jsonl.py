"""JSON Lines: each line is one event of the contract (section 2), of any topic."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from streams.contract.decoder import MAX_VALUE_BYTES
from streams.contract.event_reader import Event, event_of
from streams.contract.unknown_members import UnknownMember
from streams.ingest.file_formats import HEAD_BYTES, JSONL, check_format
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.ingest.source_files import UTF8_BOM, in_utf8

CHUNK_BYTES = 1 << 20
MAX_UNKNOWN_KEPT = 100
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
        self._unknown: dict[tuple[str, UnknownMember], list[int]] = {}
        try:
            # Closed by the generator that reads it to its end.
            self._file: BinaryIO = sys.stdin.buffer if str(path) == "-" else open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise FeedError(f"{self.name} cannot be read: {error.strerror}") from None
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode):
            self._file = in_utf8(self._file, self.name)
            check_format(self._file.read(HEAD_BYTES), JSONL, self.name)
            self.total_bytes = self._file.seek(0, os.SEEK_END)
            self._file.seek(0)
        elif isinstance(self._file, io.BufferedReader):
            check_format(self._file.peek(HEAD_BYTES)[:HEAD_BYTES], JSONL, self.name)
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
                    if type(found) is str:
                        yield FeedProblem(self.name, number, found)
                        continue
                    if found.unknown:  # type: ignore[union-attr]
                        self._note_unknown(found, number)  # type: ignore[arg-type]
                    yield found  # type: ignore[misc]

    @property
    def warnings(self) -> list[str]:
        """Warnings of members that are ignored, each once, whatever the number of events."""
        empty = [f"{self.name} is empty"] if self.total_bytes == 0 else []
        return empty + [
            f"{self.name}:{first}: {kind} has a member that is not known and is ignored: {member}"
            + (f", in {count:,} events" if count > 1 else "")
            for (kind, member), (first, count) in self._unknown.items()
        ]

    def _read(self) -> Generator[FeedItem | FeedProblem, None, None]:
        for found in self.events():
            yield FeedItem(*found[:3]) if type(found) is Event else found  # type: ignore[misc]

    def _note_unknown(self, event: Event, line: int) -> None:
        for member in event.unknown:
            place = (event.type.name, member)
            if place in self._unknown:
                self._unknown[place][1] += 1
            elif len(self._unknown) < MAX_UNKNOWN_KEPT:
                self._unknown[place] = [line, 1]

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
