"""Writes the state of an installation to a folder, while no worker runs.

A transaction writes rows, outputs, messages and applied offsets together. Without members in the
consumer group and without an open transaction, the ends of all topics are therefore one consistent
cut. Of inputs and internal topics, only what is not applied belongs to it. At the end, the ends of
all topics that workers write must be those of the cut: a worker that ran meanwhile is found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition

from streams.contract.topics import CHANGELOG, CONSUMED, RECEIVED, TOPICS
from streams.kafka import changelog
from streams.kafka.backup_files import (
    Manifest,
    encode_record,
    file_name,
    open_folder,
    write_manifest,
)
from streams.kafka.changelog_rows import APPLIED, ATTEMPTED, row_key
from streams.kafka.group_status import read_members
from streams.kafka.topic_reader import (
    WAIT_MS,
    admin_client,
    connected,
    consumer,
    topic_partitions,
)
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError
from streams.runtime.settings import Settings

IDLE_SECONDS: Final = 30.0
BACKED_UP: Final = (*(topic.name for topic in TOPICS), RECEIVED.name)
"""The topic of the receiver only where it exists."""
OMITTED_ROWS: Final = (APPLIED, row_key(*ATTEMPTED))
"""Offsets of the broker that is backed up: on another one every log begins at 0."""

Progress = Callable[[str, int, int], None]
"""Receives the name of a file, its number, and the number of all files."""
Cut = dict[TopicPartition, int]


async def backup(settings: Settings, folder: Path, progress: Progress) -> Manifest:
    """Writes a backup to the folder, or goes on with one that was broken off.

    Raises:
        WorkerError: workers run, a transaction is open, or the topics have changed since the
            broken run.
    """
    manifest = open_folder(folder)
    async with (
        connected(admin_client(settings), settings) as admin,
        connected(consumer(settings), settings) as client,
        connected(consumer(settings, "read_uncommitted"), settings) as uncommitted,
    ):
        await _refuse_members(admin, settings)
        places = await _places(admin, settings)
        ends = await _stable_ends(client, uncommitted, places, settings)
        if manifest is None:
            manifest = await _new_manifest(client, settings, places, ends)
            write_manifest(folder, manifest)
        _refuse_changes(manifest, settings, ends)
        for number, place in enumerate(places, 1):
            name = _name(settings, place)
            if name not in manifest.files:
                progress(name, number, len(places))
                manifest.files[name] = await _save(client, place, manifest, folder / name)
                write_manifest(folder, manifest)
        await _refuse_members(admin, settings)
        _refuse_changes(
            manifest, settings, await _stable_ends(client, uncommitted, places, settings)
        )
    manifest.complete = True
    write_manifest(folder, manifest)
    return manifest


def _short(settings: Settings, place: TopicPartition) -> str:
    return str(place.topic).removeprefix(settings.topic_prefix)


def _name(settings: Settings, place: TopicPartition) -> str:
    return file_name(_short(settings, place), place.partition)


async def _places(admin: Any, settings: Settings) -> list[TopicPartition]:
    existing = {found["topic"] for found in await admin.describe_topics()}
    names = [n for n in BACKED_UP if n != RECEIVED.name or settings.topic_prefix + n in existing]
    return await topic_partitions(admin, settings, names)


async def _refuse_members(admin: Any, settings: Settings) -> None:
    if members := await read_members(admin, settings.app_id):
        raise WorkerError(
            f"{len(members)} workers of {settings.app_id} run (first {members[0].id}): stop them"
            " before a backup; a worker that was killed is a member until its session times out",
            TEMPORARY,
        )


async def _stable_ends(
    client: Any, uncommitted: Any, places: list[TopicPartition], settings: Settings
) -> Cut:
    """Returns the ends of committed records. Raises: WorkerError, if a transaction is open."""
    ends: Cut = await client.end_offsets(places)
    written: Cut = await uncommitted.end_offsets(places)
    for place, end in ends.items():
        if _short(settings, place) not in _INPUTS and written[place] != end:
            raise WorkerError(
                f"{place.topic}, partition {place.partition}, has an open transaction: try again"
                " when it has timed out, after some seconds",
                TEMPORARY,
            )
    return ends


_INPUTS: Final = frozenset(name for name in CONSUMED if not name.startswith("internal."))


async def _new_manifest(
    client: Any, settings: Settings, places: list[TopicPartition], ends: Cut
) -> Manifest:
    starts: Cut = await client.beginning_offsets(places)
    for partition in range(settings.partitions):
        applied = (await changelog.read(client, settings, partition)).applied()
        for topic in CONSUMED:
            place = TopicPartition(settings.topic_prefix + topic, partition)
            starts[place] = max(starts[place], applied.get(topic, 0))
    return Manifest(
        build=version("seatflow"),
        partitions=settings.partitions,
        topic_prefix=settings.topic_prefix,
        app_id=settings.app_id,
        time=datetime.now(UTC).isoformat(),
        starts={_name(settings, place): offset for place, offset in starts.items()},
        ends={_name(settings, place): offset for place, offset in ends.items()},
    )


def _refuse_changes(manifest: Manifest, settings: Settings, ends: Cut) -> None:
    """Raises WorkerError if a topic that workers or the receiver write is not as at the cut."""
    now = {_name(settings, place): (place, end) for place, end in ends.items()}
    same = manifest.topic_prefix == settings.topic_prefix and manifest.ends.keys() == now.keys()
    changed = not same or any(
        end < manifest.ends[name]
        or (end > manifest.ends[name] and _short(settings, place) not in _INPUTS)
        for name, (place, end) in now.items()
    )
    if changed:
        raise WorkerError(
            "the topics have changed since this backup began: begin again in an empty folder,"
            " while neither a worker nor `seatflow receive` runs",
            CONFIGURATION,
        )


async def _save(
    client: Any, place: TopicPartition, manifest: Manifest, path: Path
) -> dict[str, Any]:
    """Writes a partition's records of the cut to its file; returns the manifest's entry."""
    end = manifest.ends[path.name]
    omitted = OMITTED_ROWS if path.name.startswith(CHANGELOG.name + "-") else ()
    client.assign([place])
    client.seek(place, manifest.starts[path.name])
    digest, records, size, idle = sha256(), 0, 0, Deadline(IDLE_SECONDS)
    with path.open("wb") as out:
        while await client.position(place) < end:
            for batch in (await client.getmany(timeout_ms=WAIT_MS)).values():
                idle.extend()
                kept = [r for r in batch if r.offset < end and r.key not in omitted]
                block = b"".join(map(encode_record, kept))
                digest.update(block)
                out.write(block)
                records, size = records + len(kept), size + len(block)
            if idle.has_passed:
                raise WorkerError(f"{place.topic} was not read to its end", TEMPORARY)
        out.flush()
        os.fsync(out.fileno())
    return {"records": records, "bytes": size, "sha256": digest.hexdigest()}
