"""Writes a backup to the empty topics of another broker.

The records of a partition get the offsets from 0 on, so that the end of its log says how far a
broken run came. First, each partition of the changelog gets a format row that every worker refuses;
its last record replaces it, when all other topics are complete. So no worker starts from half of
the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition, errors

from engine.state.formats import FORMAT_KEY, FORMAT_TABLE
from streams.contract.topics import CHANGELOG, INTERNAL_NAMES, RECEIVED
from streams.kafka.backup_files import (
    SUFFIX,
    Manifest,
    SavedRecord,
    check_files,
    file_name,
    read_manifest,
    read_records,
)
from streams.kafka.changelog_rows import row_key
from streams.kafka.group_status import read_members
from streams.kafka.producers import idempotent_producer
from streams.kafka.topic_admin import check_topics, new_topic, until_led
from streams.kafka.topic_reader import admin_client, connected, consumer, read_to_end
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError
from streams.runtime.settings import Settings

MAX_REQUEST_BYTES: Final = 9 << 20
BATCH_BYTES: Final = 1 << 20
FORMAT: Final = row_key(FORMAT_TABLE, FORMAT_KEY)
REFUSED_FORMAT: Final = b"1000000000"
"""A row format that no release has: a worker ends with exit code 78."""
RETIMED: Final = tuple(f"{name}-" for name in INTERNAL_NAMES)
"""Beginnings of the names of the files whose records get the time of the restore."""

Progress = Callable[[str, int, int], None]
Cut = dict[TopicPartition, int]


async def restore(settings: Settings, folder: Path, progress: Progress) -> Manifest:
    """Restores the backup in the folder, or goes on with a restore that was broken off.

    Raises:
        WorkerError: the backup is damaged or incomplete, the topics do not fit or have other
            records, or workers run.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise WorkerError(f"{folder} has no backup", CONFIGURATION)
    check_files(folder, manifest)
    if manifest.partitions != settings.partitions:
        raise WorkerError(
            f"the backup has {manifest.partitions} partitions, but SEATFLOW_PARTITIONS is"
            f" {settings.partitions}: set it to {manifest.partitions}",
            CONFIGURATION,
        )
    await check_topics(settings)
    places = [_place(settings, name) for name in _in_order(manifest)]
    async with (
        connected(admin_client(settings), settings) as admin,
        connected(consumer(settings, "read_uncommitted"), settings) as client,
        connected(_producer(settings), settings) as producer,
    ):
        if members := await read_members(admin, settings.app_id):
            raise WorkerError(
                f"{len(members)} workers of {settings.app_id} run: stop them before a restore",
                TEMPORARY,
            )
        if any(place.topic == settings.topic_prefix + RECEIVED.name for place in places):
            await _create_received(admin, settings)
        ends: Cut = await client.end_offsets(places)
        firsts = await client.beginning_offsets(places)
        for place in places:
            if firsts[place] < ends[place]:  # otherwise retention has deleted what was written
                await _check_written(client, place, ends[place], _path(folder, settings, place))
        await _hold(settings, folder, producer, ends)
        for number, place in enumerate(places, 1):
            path = _path(folder, settings, place)
            progress(path.name, number, len(places))
            await _write(producer, place, islice(_records(path), ends[place], None))
    return manifest


async def _hold(settings: Settings, folder: Path, producer: Any, ends: Cut) -> None:
    """Writes the refused format row to every changelog that is empty, before anything else."""
    for place, end in ends.items():
        if place.topic == settings.topic_prefix + CHANGELOG.name and not end:
            await _write(producer, place, islice(_records(_path(folder, settings, place)), 1))
            ends[place] = 1


def _place(settings: Settings, name: str) -> TopicPartition:
    topic, _, partition = name.removesuffix(SUFFIX).rpartition("-")
    return TopicPartition(settings.topic_prefix + topic, int(partition))


def _path(folder: Path, settings: Settings, place: TopicPartition) -> Path:
    return folder / file_name(place.topic.removeprefix(settings.topic_prefix), place.partition)


def _in_order(manifest: Manifest) -> list[str]:
    """Returns the names of all files, those of the changelog last."""
    return sorted(manifest.files, key=lambda name: (name.startswith(CHANGELOG.name), name))


def _producer(settings: Settings) -> Any:
    return idempotent_producer(
        settings, max_request_size=MAX_REQUEST_BYTES, max_batch_size=BATCH_BYTES
    )


async def _create_received(admin: Any, settings: Settings) -> None:
    response = await admin.create_topics([new_topic(RECEIVED, settings)])
    for name, code, *_ in response.topic_errors:
        if code and errors.for_code(code) is not errors.TopicAlreadyExistsError:
            raise WorkerError(f"{name} could not be created: {errors.for_code(code)}")
    await until_led(admin, settings, [settings.topic_prefix + RECEIVED.name])


def _records(path: Path) -> Iterator[SavedRecord]:
    """Yields the records to write: those of the file; the changelog between two format rows."""
    if path.name.startswith(RETIMED):
        # With its old time, retention could delete a message before a worker reads it.
        yield from (record._replace(timestamp_ms=None) for record in read_records(path))
        return
    if not path.name.startswith(CHANGELOG.name):
        yield from read_records(path)
        return
    last = SavedRecord(0, FORMAT, None, ())
    yield SavedRecord(0, FORMAT, REFUSED_FORMAT, ())
    for record in read_records(path):
        if record.key == FORMAT:
            last = record
        else:
            yield record
    yield last


async def _check_written(client: Any, place: TopicPartition, end: int, path: Path) -> None:
    """Checks that the last record of a log is the one that a broken run of this restore wrote.

    Raises: WorkerError, if the topic has other records.
    """
    expected = next(islice(_records(path), end - 1, None), None)
    client.assign([place])
    client.seek(place, end - 1)
    found = None
    async for batches in read_to_end(client, [place]):
        found = batches[place][-1]
    if expected is None or found is None or (found.key, found.value) != expected[1:3]:
        raise WorkerError(
            f"{place.topic}, partition {place.partition}, has records that are not of this"
            " backup: restore to topics that are empty",
            CONFIGURATION,
        )


async def _write(producer: Any, place: TopicPartition, records: Iterator[SavedRecord]) -> None:
    """Writes records batch by batch, each after the broker has the one before."""
    batch, sent = producer.create_batch(), None
    for record in records:
        if not _append(batch, record):
            if sent:
                await sent
            sent = await producer.send_batch(batch, place.topic, partition=place.partition)
            batch = producer.create_batch()
            _append(batch, record)
    if sent:
        await sent
    if batch.record_count():
        batch.close()
        await (await producer.send_batch(batch, place.topic, partition=place.partition))


def _append(batch: Any, record: SavedRecord) -> bool:
    """Returns False if the batch has no room for the record; an empty one has it for any."""
    appended = batch.append(
        timestamp=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
    )
    return appended is not None
