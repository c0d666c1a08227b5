"""`seatflow status` of a real system: as JSON, on one screen, and on one that refreshes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupLoadInProgressError
from aiokafka.structs import OffsetAndMetadata

from streams.contract.topics import CONSUMED
from streams.kafka import group_status
from streams.kafka.group_status import LagReader, read_members
from streams.runtime.deadline import Deadline
from streams.runtime.errors import WorkerError
from streams.runtime.settings import load_settings
from tests.support.kafka import Kafka
from tests.support.system import ROOT, Events, System, running


@pytest.fixture
def system(kafka: Kafka) -> Iterator[System]:
    """Five of seven have a seat, one record is a dead letter, and nobody works any more."""
    with running(kafka.bootstrap) as system:
        worker = system.worker()
        make = Events()
        system.publish([make.product("base"), make.seats("base", 5), make.license("staff", "base")])
        for n in range(7):
            system.publish([make.user(f"u{n}"), make.join(f"u{n}", "staff")])
        system.publish([("tenants", "contoso", b"{")])
        system.settle()
        worker.stop()
        yield system


def status(system: System, *flags: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "streams", "status", *flags],
        cwd=ROOT,
        env={**os.environ, **system.env, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def as_json(system: System) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(status(system, "--json"))
    return found


def test_json_tells_all_of_it(system: System) -> None:
    told = as_json(system)
    assert (told["lag_total"], told["lag_seconds_max"]) == (0, 0.0)
    assert set(told["lag"]) == set(CONSUMED)
    assert told["lag_seconds"] == {}
    assert told["users_by_error"] == {"CountViolation": 2}
    (group,) = told["groups_in_error"]
    assert (group["group"], group["membersWithErrors"]) == ("staff", 2)
    (seats,) = told["seats"]
    assert (seats["consumedUnits"], seats["availableUnits"], seats["waitingUsers"]) == (5, 0, 2)
    assert told["dead_letters"] == 1
    assert "not JSON" in told["last_dead_letter"]


def test_lag_is_told_in_records_and_in_seconds(system: System) -> None:
    make = Events(run="late")
    system.publish([make.user("late1"), make.user("late2")])
    time.sleep(2)
    told = as_json(system)
    assert told["lag"]["user-changes"] == told["lag_total"] == 2
    assert 2 <= told["lag_seconds"]["user-changes"] <= 60
    assert told["lag_seconds_max"] == told["lag_seconds"]["user-changes"]
    assert re.search(r"2 records: user-changes 2 \(\d+ s\)", status(system))


def test_the_screen_shows_partitions_and_who_has_them(system: System) -> None:
    worker = system.worker()
    text = status(system)
    assert "partitions 0 1 2 3" in text
    assert "staff" in text
    assert "CountViolation 2" in text
    (member,) = as_json(system)["workers"]
    assert member["partitions"] == [0, 1, 2, 3]
    worker.stop()
    told = as_json(system)
    assert (told["workers"], told["unowned"]) == ([], [0, 1, 2, 3])


def test_watch_refreshes_until_ctrl_c(system: System) -> None:
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "streams", "status", "--watch"],
        cwd=ROOT,
        env={**os.environ, **system.env, "COLUMNS": "120", "LINES": "40", "TERM": "xterm"},
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    try:
        seen_on(master, "Users in error")
        make = Events(run="more")
        system.publish([make.user("more")])
        seen_on(master, "user-changes 1")
        watching.send_signal(signal.SIGINT)
        deadline = Deadline(20)
        while watching.poll() is None and not deadline.has_passed:
            read(master)  # or the terminal fills up, and the screen waits for a reader
        assert watching.poll() == 130
    finally:
        watching.kill()
        os.close(master)
        os.close(slave)


def seen_on(terminal: int, words: str, timeout: float = 30.0) -> None:
    text = ""
    deadline = Deadline(timeout)
    while words not in text:
        assert not deadline.has_passed, text
        text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read(terminal))


def read(terminal: int) -> str:
    """Returns the output of the last 0.2 s; a character that a read cuts in two is replaced."""
    if not select.select([terminal], [], [], 0.2)[0]:
        return ""
    return os.read(terminal, 65536).decode(errors="replace")


# --- offsets that the coordinator is still loading ------------------------------------------------


class LoadingAdmin:
    """An admin client whose coordinator has not loaded the group for the first answers.

    aiokafka returns no offsets then, as for a group that has never committed any.
    """

    def __init__(self, answers: int) -> None:
        self.answers = answers

    async def list_consumer_group_offsets(self, _group: str) -> dict[Any, Any]:
        if self.answers > 0:
            return {}
        return {TopicPartition("licensing.tenants", 0): OffsetAndMetadata(7, "")}

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        self.answers -= 1
        code = GroupLoadInProgressError.errno if self.answers >= 0 else 0
        found: Any = (code, groups[0], "Dead", "", "", [])
        return [SimpleNamespace(groups=[found])]


def reader(admin: Any) -> LagReader:
    found = LagReader(load_settings())
    found.admin = admin
    return found


async def test_offsets_that_are_being_loaded_are_waited_for() -> None:
    found = await reader(LoadingAdmin(2))._committed()
    assert found == {TopicPartition("licensing.tenants", 0): 7}


async def test_offsets_that_are_not_loaded_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no 0, which would look like a lag of all records."""
    monkeypatch.setattr(group_status, "LOADED_WITHIN", 0.3)
    with pytest.raises(WorkerError, match="has not loaded the offsets") as raised:
        await reader(LoadingAdmin(1000))._committed()
    assert raised.value.exit_code == 75
    with pytest.raises(WorkerError, match="has not loaded the offsets"):
        await read_members(LoadingAdmin(1000), "seatflow")
