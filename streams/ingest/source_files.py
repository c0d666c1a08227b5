"""The files of a feed: one file, a folder of pages, or standard input.

An event's id consists of the file's fingerprint and the row, e.g. ``csv:9f3c52ab10de7744:1204``.
Feeding a file twice therefore gives the same ids and changes nothing (R24), and ``causedBy`` leads
back to the row. The fingerprint also covers the options that determine the events (tenant, group,
``--run``).

Files in UTF-16, as Windows PowerShell writes them, are converted to UTF-8 before they are read.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from streams.ingest.file_formats import HEAD_BYTES, check_format
from streams.ingest.items import FeedError, FeedItem, FeedProblem
from streams.runtime.errors import SenderError

CHUNK_BYTES = 1 << 20
UTF8_BOM = codecs.BOM_UTF8


def wide_encoding(head: bytes) -> str | None:
    """Returns the encoding of a text in UTF-16 or UTF-32 by its first four bytes, else None.

    Without a byte order mark, the zero byte of a first ASCII character tells.
    """
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(head) >= 2 and head[0] and not head[1]:
        return "utf-16-le"
    if len(head) >= 2 and not head[0] and head[1]:
        return "utf-16-be"
    return None


def in_utf8(file: BinaryIO, name: str) -> BinaryIO:
    """Returns the file, or a copy in UTF-8 of one in UTF-16. Raises: FeedError, if it is neither.

    ``file`` must be seekable; the file returned is at its beginning.
    """
    encoding = wide_encoding(file.read(4))
    file.seek(0)
    if encoding is None:
        return file
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the feed
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with file:
            while chunk := file.read(CHUNK_BYTES):
                copy.write(decoder.decode(chunk).encode())
            copy.write(decoder.decode(b"", final=True).encode())
    except UnicodeError:
        copy.close()
        raise FeedError(
            f"{name} looks like {encoding.upper()} but is not: save it as UTF-8"
        ) from None
    copy.seek(0)
    return copy


class FeedFile:
    """An open file. ``fingerprint`` identifies its content; ``time``: of its last change.

    ``size``: of the file as it is stored, in bytes.
    """

    def __init__(self, path: Path | None, format: str, options: Iterable[str]) -> None:
        self.name = "standard input" if path is None else str(path)
        self._path = path
        try:
            stored = self._open()
            self.size = stored.seek(0, io.SEEK_END)
            stored.seek(0)
            self.file = in_utf8(stored, self.name)
            check_format(self.file.read(HEAD_BYTES), format, self.name)
            self.file.seek(0)
            digest = hashlib.blake2b("\n".join(options).encode() + b"\n", digest_size=8)
            hashlib.file_digest(self.file, lambda: digest)  # type: ignore[arg-type]
            self.file.seek(0)
        except OSError as error:
            raise FeedError(f"{self.name} cannot be read: {error.strerror}") from None
        self.fingerprint = f"{format}:{digest.hexdigest()}"
        when = datetime.now(UTC) if path is None else datetime.fromtimestamp(self._mtime, UTC)
        self.time = f"{when:%Y-%m-%dT%H:%M:%SZ}"

    def _open(self) -> BinaryIO:
        if self._path is not None:
            self._mtime = self._path.stat().st_mtime
            return self._path.open("rb")
        # Ids depend on the content, so it is read twice: it is copied to an unnamed file first.
        spooled = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the feed
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.seek(0)
        return spooled


Paths = str | Path | Sequence[str | Path]


def _each(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, (str, Path)) else [*paths]


def files_of(path: str | Path, suffixes: tuple[str, ...]) -> list[Path | None]:
    """Returns the file, or those of a folder in natural order (page-2 before page-10).

    None stands for standard input. Raises: FeedError, if the folder has no such file.
    """
    if str(path) == "-":
        return [None]
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = [each for each in path.iterdir() if each.suffix.lower() in suffixes]
    if not found:
        raise FeedError(f"the folder {path} has no file that ends in {' or '.join(suffixes)}")
    return [*sorted(found, key=_natural)]


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


class FileFeed:
    """A feed of files of one format; subclasses read one file in :meth:`_events`.

    ``skipped`` counts, by kind, the data of the format that Seatflow does not use.
    """

    format = ""
    suffixes: tuple[str, ...] = ()

    def __init__(self, path: Paths, options: Iterable[str] = ()) -> None:
        paths = _each(path)
        self._paths = [file for each in paths for file in files_of(each, self.suffixes)]
        self._options = tuple(options)
        self.name = ", ".join("standard input" if str(each) == "-" else str(each) for each in paths)
        self.skipped: Counter[str] = Counter()
        self.done_bytes = 0
        self.total_bytes: int | None = None
        try:
            if None not in self._paths:
                self.total_bytes = sum(each.stat().st_size for each in self._paths if each)
        except OSError as error:
            raise FeedError(f"{error.filename} cannot be read: {error.strerror}") from None
        self._items = self._read()

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]:
        return self

    def __next__(self) -> FeedItem | FeedProblem:
        return next(self._items)

    def _read(self) -> Iterator[FeedItem | FeedProblem]:
        for path in self._paths:
            source = FeedFile(path, self.format, self._options)
            before = self.done_bytes
            with source.file:
                yield from self._events(source)
            self.done_bytes = before + source.size

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        raise NotImplementedError


def documents(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields JSON documents with the line on which they begin: one per line, or the whole file.

    A file is read as JSON Lines if its first line is valid JSON by itself.
    """
    import orjson

    first = file.readline()
    rest_of_blank = first
    while first and not first.strip():
        first = file.readline()
        rest_of_blank += first
    try:
        orjson.loads(first.removeprefix(UTF8_BOM))
    except orjson.JSONDecodeError:
        yield 1, (rest_of_blank + file.read()).removeprefix(UTF8_BOM)
        return
    line = rest_of_blank.count(b"\n") or 1
    yield line, first.removeprefix(UTF8_BOM)
    for following in file:
        line += 1
        if following.strip():
            yield line, following


class NotJsonError(SenderError):
    """Raised for a document that is not JSON. The message states where and why."""


def parse(document: bytes) -> Any:
    """Returns the JSON value of a document. Raises: NotJsonError."""
    import orjson

    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError as error:
        try:
            document.decode()
        except UnicodeDecodeError as found:
            line = document.count(b"\n", 0, found.start) + 1
            byte = f"byte {document[found.start]:#04x} at line {line}"
            raise NotJsonError(f"not UTF-8: {byte}: save the file as UTF-8") from None
        where = f"line {error.lineno} column {error.colno}"
        raise NotJsonError(f"not JSON: {error.msg} at {where}") from None


def parse_object(document: bytes) -> dict[str, Any] | str:
    """Returns the JSON object, or the reason why the document is none."""
    try:
        value = parse(document)
    except NotJsonError as error:
        return str(error)
    return value if isinstance(value, dict) else "not a JSON object"
