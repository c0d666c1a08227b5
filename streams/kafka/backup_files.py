"""The files of a backup: a manifest, and one file of records for each partition of each topic.

A record is a fixed head (timestamp, lengths of key and value, number of headers), the headers, the
key and the value; a length of -1 is null. The manifest has the SHA-256 of each complete file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final, NamedTuple

import orjson

from streams.runtime.errors import CONFIGURATION, WorkerError

BACKUP_FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SUFFIX: Final = ".records"
_HEAD: Final = Struct(">qiii")
_LENGTHS: Final = Struct(">ii")
_BLOCK_BYTES: Final = 1 << 20


class SavedRecord(NamedTuple):
    """A record of a topic without its offset."""

    timestamp_ms: int | None  # None: the time of writing
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(slots=True)
class Manifest:
    """The description of a backup.

    ``starts`` and ``ends`` hold the offsets of the cut by file name, ``files`` size, records and
    SHA-256 of each file that is complete.
    """

    build: str
    partitions: int
    topic_prefix: str
    app_id: str
    time: str
    starts: dict[str, int]
    ends: dict[str, int]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    complete: bool = False
    format: int = BACKUP_FORMAT


def file_name(topic: str, partition: int) -> str:
    """Returns the name of a partition's file; the topic without its prefix."""
    return f"{topic}-{partition}{SUFFIX}"


def open_folder(folder: Path) -> Manifest | None:
    """Makes a folder for a backup; returns the manifest of a run that was broken off.

    Raises:
        WorkerError: the folder has something else, or its manifest is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder)
    if manifest is None and any(folder.iterdir()):
        raise WorkerError(f"{folder} is neither empty nor a backup", CONFIGURATION)
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Returns the manifest of a folder; None if it has none.

    Raises:
        WorkerError: the manifest is damaged, or a later release has written it.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        found = orjson.loads(path.read_bytes())
        number = found["format"]
        manifest = Manifest(**found) if number == BACKUP_FORMAT else None
    except (ValueError, TypeError, KeyError) as error:
        raise WorkerError(f"{path} is damaged: {error}", CONFIGURATION) from None
    if manifest is None:
        raise WorkerError(
            f"{path} has format {number}, and this release reads format {BACKUP_FORMAT}:"
            " use the release that wrote it",
            CONFIGURATION,
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces the manifest as a whole, so that a broken run leaves the earlier one."""
    path = folder / MANIFEST
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        out.write(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def encode_record(record: Any) -> bytes:
    """Returns the bytes of a record as a consumer gave it."""
    key, value = record.key, record.value
    headers = record.headers or ()
    parts = [
        _HEAD.pack(
            record.timestamp,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            len(headers),
        )
    ]
    for name, content in headers:
        encoded = name.encode("utf-8", "surrogateescape")
        parts += [_LENGTHS.pack(len(encoded), -1 if content is None else len(content)), encoded]
        parts.append(content or b"")
    return b"".join((*parts, key or b"", value or b""))


def read_records(path: Path) -> Iterator[SavedRecord]:
    """Yields the records of a file whose checksum is right."""
    with path.open("rb", _BLOCK_BYTES) as source:
        while head := source.read(_HEAD.size):
            timestamp, key, value, count = _HEAD.unpack(head)
            headers = tuple(_read_header(source) for _ in range(count))
            yield SavedRecord(timestamp, _part(source, key), _part(source, value), headers)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compares every file with its checksum.

    Raises:
        WorkerError: the backup is incomplete, or a file is missing or damaged.
    """
    if not manifest.complete:
        raise WorkerError(
            f"the backup in {folder} is incomplete: run `seatflow backup` on it again",
            CONFIGURATION,
        )
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.exists():
            raise WorkerError(f"{path} is missing: use another backup", CONFIGURATION)
        if checksum(path) != expected["sha256"]:
            raise WorkerError(
                f"{path} is damaged, its SHA-256 is not that of the manifest: use another backup",
                CONFIGURATION,
            )


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _read_header(source: IO[bytes]) -> tuple[str, bytes | None]:
    name, content = _LENGTHS.unpack(source.read(_LENGTHS.size))
    return source.read(name).decode("utf-8", "surrogateescape"), _part(source, content)


def _part(source: IO[bytes], length: int) -> bytes | None:
    return None if length < 0 else source.read(length)
