"""The commands `seatflow backup` and `seatflow restore`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import AppId, Brokers, Partitions, Prefix, settings_of

if TYPE_CHECKING:
    from streams.kafka.backup_files import Manifest

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup.")]


def backup(
    folder: Folder,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
    partitions: Partitions = None,
) -> None:
    """Write the state, the outputs and what is not applied yet to a folder; workers are stopped.

    A run that was broken off goes on with the files that are missing.
    """
    from streams.kafka.backup import backup as write

    settings = settings_of(
        brokers=brokers, app_id=app_id, topic_prefix=topic_prefix, partitions=partitions
    )
    _report("backed up", asyncio.run(write(settings, folder, _progress)))


def restore(
    folder: Folder,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
    partitions: Partitions = None,
) -> None:
    """Write a backup to the empty topics of another broker; a broken run goes on.

    The topics must exist (`seatflow topics create`).
    """
    from streams.kafka.restore import restore as write

    settings = settings_of(
        brokers=brokers, app_id=app_id, topic_prefix=topic_prefix, partitions=partitions
    )
    _report("restored", asyncio.run(write(settings, folder, _progress)))


def _progress(name: str, number: int, files: int) -> None:
    print(f"{number}/{files} {name}", file=sys.stderr)


def _report(done: str, manifest: Manifest) -> None:
    records = sum(entry["records"] for entry in manifest.files.values())
    size = sum(entry["bytes"] for entry in manifest.files.values())
    print(f"{records:,} records, {size / (1 << 20):,.1f} MiB {done}; cut of {manifest.time}")
