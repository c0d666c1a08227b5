"""Backup and restore on two real brokers: the same results, damage refused, broken runs resumed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.backup import Progress, backup
from streams.kafka.backup_files import MANIFEST
from streams.kafka.group_status import read_members
from streams.kafka.restore import REFUSED_FORMAT, restore
from streams.kafka.topic_admin import create_topics
from streams.kafka.topic_reader import admin_client, connected
from streams.local.broker import Broker
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError
from streams.runtime.settings import Settings, load_settings
from tests.support.kafka import Kafka
from tests.support.system import ROOT, SAME, Event, Events, System, running
from tests.support.timing import limit_seconds

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SEATS = 6


class BrokenOffError(Exception):
    """Ends a run as a kill would."""


def quiet(name: str, number: int, files: int) -> None:
    """Reports no progress."""


def _until(last: int) -> Progress:
    def progress(name: str, number: int, files: int) -> None:
        if number > last:
            raise BrokenOffError

    return progress


def settings_of(system: System) -> Settings:
    flags = {k.removeprefix("SEATFLOW_").lower(): v for k, v in system.env.items()}
    return load_settings(**flags)


def first_load(events: Events) -> list[Event]:
    users = [events.user(f"u{n:02}") for n in range(12)]
    joins = [events.join(f"u{n:02}", "sales") for n in range(10)]
    return [
        events.product("e3"),
        events.seats("e3", SEATS),
        events.license("sales", "e3"),
        *users,
        *joins,
    ]


def not_applied(events: Events) -> list[Event]:
    return [events.leave("u00", "sales"), events.leave("u01", "sales")]


def more_load(events: Events) -> list[Event]:
    return [events.user("new"), events.join("new", "sales"), events.seats("e3", SEATS + 3)]


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Broker]:
    with Broker(0, tmp_path / "second") as broker:
        yield broker


def stop(system: System) -> None:
    """Stops all workers: the group has no member afterwards."""
    for worker in system.workers:
        worker.stop()
    system.workers.clear()


async def without_members(settings: Settings) -> None:
    """Waits until the session of the worker that ended has timed out."""
    deadline = Deadline(limit_seconds(20))
    async with connected(admin_client(settings), settings) as admin:
        while await read_members(admin, settings.app_id):
            assert not deadline.has_passed
            await asyncio.sleep(0.2)


def moved(system: System, broker: Broker) -> System:
    """Returns the same installation, by its names, on an empty broker."""
    there = System.__new__(System)
    there.__dict__.update(system.__dict__)
    there.bootstrap, there.workers = broker.bootstrap, []
    there.env = system.env | {"SEATFLOW_BROKERS": broker.bootstrap}
    asyncio.run(create_topics(settings_of(there)))
    return there


def test_restored_installation_goes_on(kafka: Kafka, second: Broker, tmp_path: Path) -> None:
    folder, events = tmp_path / "backup", Events()
    with running(kafka.bootstrap) as system:
        system.worker()
        system.publish(first_load(events))
        system.settle()
        with pytest.raises(WorkerError, match="stop them before a backup") as refused:
            asyncio.run(backup(settings_of(system), folder, quiet))
        assert refused.value.exit_code == TEMPORARY
        stop(system)
        later = not_applied(events)
        system.publish(later)
        with pytest.raises(BrokenOffError):
            asyncio.run(backup(settings_of(system), folder, _until(30)))
        before = json.loads((folder / MANIFEST).read_bytes())
        assert len(before["files"]) == 30
        assert not before["complete"]
        begun: list[str] = []
        asyncio.run(
            backup(settings_of(system), folder, lambda name, number, files: begun.append(name))
        )
        assert begun
        assert not set(begun) & before["files"].keys()
        files = len(json.loads((folder / MANIFEST).read_bytes())["files"])

        there = moved(system, second)
        try:
            with pytest.raises(BrokenOffError):  # in the changelog, which is last
                asyncio.run(restore(settings_of(there), folder, _until(files - 2)))
            early = there.worker(ready=False)
            assert early.process.wait(timeout=60) == CONFIGURATION
            asyncio.run(without_members(settings_of(there)))
            asyncio.run(restore(settings_of(there), folder, quiet))
            asyncio.run(restore(settings_of(there), folder, quiet))  # nothing is written twice
            for topic in SAME:
                assert [
                    (r.key, r.value, r.timestamp, r.partition) for r in system.records(topic)
                ] == [(r.key, r.value, r.timestamp, r.partition) for r in there.records(topic)]
            assert REFUSED_FORMAT in {r.value for r in there.records("changelog")}
            more = more_load(events)
            for one in (system, there):
                one.publish(more)
                one.worker()
                one.settle()
            found = there.outcome()
            assert found == system.outcome()
            (seats,) = found["product-seats"].values()
            assert seats["consumedUnits"] == SEATS + 3
            assert not there.records("dead-letters")
        finally:
            there.close()


def test_damaged_file_is_refused(kafka: Kafka, second: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    with running(kafka.bootstrap) as system:
        system.worker()
        system.publish(first_load(Events()))
        system.settle()
        stop(system)
        asyncio.run(backup(settings_of(system), folder, quiet))
        there = moved(system, second)
        path = max(folder.glob("changelog-*.records"), key=lambda path: path.stat().st_size)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "streams", "restore", str(folder), "--brokers", there.bootstrap],
            cwd=ROOT,
            env={**there.env, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == CONFIGURATION
        assert f"{path} is damaged" in done.stderr
        assert not there.records("changelog")
