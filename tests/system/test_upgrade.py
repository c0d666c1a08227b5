"""Two releases side by side: a rolling upgrade, the way back, and state of a later release."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import tarfile
import time
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from engine.domain.partitioner import partition_of
from engine.state.formats import FORMAT_KEY, FORMAT_TABLE, MESSAGE_FORMAT, ROW_FORMAT
from streams.contract.topics import FORWARDED_EVENTS, USER_CHANGES
from streams.kafka.changelog_rows import row_key
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, OK
from tests.lab.load import Load
from tests.lab.record import record
from tests.lab.tenants import Event, Tenants
from tests.lab.verdict import Row, judge
from tests.support.kafka import Kafka, latest, produce
from tests.support.system import ROOT, Events, System, Worker, running

EARLIER = "8756617871f299050f7a5614bb01438d1e7cf949"
"""The commit of the earlier release; its workers know the format row, and write format 1."""

WORKERS = ("worker-1", "worker-2")
RECORDS_PER_SECOND = 60.0
BETWEEN_SECONDS = 2.0


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provides a checkout of the earlier release."""
    archive = subprocess.run(
        ["git", "archive", EARLIER, "engine", "streams", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"the history does not have {EARLIER[:7]}, the earlier release")
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def format_read_by(root: Path) -> int:
    """Returns the latest row format that the release in ``root`` reads."""
    source = (root / "engine" / "state" / "formats.py").read_text(encoding="utf-8")
    found = re.search(r"^ROW_FORMAT: Final = (\d+)$", source, re.MULTILINE)
    assert found is not None
    return int(found[1])


def environment(root: Path, name: str) -> dict[str, str]:
    """Returns the environment of a worker of the release in ``root``."""
    return {"SEATFLOW_WORKER_ID": name, "SEATFLOW_PURE": "1", "PYTHONPATH": str(root)}


def started(system: System, root: Path, name: str, times: int = 1) -> Worker:
    """Starts a worker of the release in ``root``; returns when it has restored its partitions."""
    worker = system.worker_of(root, environment(root, name))
    worker.wait_for("partition_restored", times)
    return worker


def taken_back(system: System, earlier: Path, name: str) -> Worker:
    """Starts a worker of the earlier release in place of one of this release.

    Where it cannot read the rows that this release has written it must refuse them; a worker of
    this release then takes the place.
    """
    if format_read_by(earlier) >= ROW_FORMAT:
        return started(system, earlier, name)
    worker = system.worker_of(earlier, environment(earlier, name))
    line = refused(worker, ROW_FORMAT)
    assert f"reads up to format {format_read_by(earlier)}" in line
    return started(system, ROOT, name)


NEW_TYPES = (b"licenses.set", b"user.snapshot")
"""Types of events, in the load of the laboratory, that the earlier release does not know."""
NEW_FACTS = ("restorable", "initialDomain", "mailNickname", "mail")
"""Members of events that it does not know, or uses otherwise."""

NEW_MEMBERS = frozenset(("effectiveUsageLocation", "mailNickname", "capabilityStatus"))
"""Members that records of the earlier release lack; they come with the next change."""
WRITTEN_OTHERWISE = ("audit agrees",)
"""Checks of texts that the earlier release words otherwise."""


def known_earlier(tenants: Tenants) -> Event:
    """Returns the next record of a type that the earlier release knows: others are dead letters."""
    while True:
        event = tenants.next()
        if event[2] is None or not any(kind in event[2] for kind in NEW_TYPES):
            return with_facts_known_earlier(event)


def with_facts_known_earlier(event: Event) -> Event:
    """Returns the event without new facts, and with a principal name of the user's own.

    The earlier release does not claim principal names: it publishes those that clash.
    """
    topic, key, value = event
    try:
        body = json.loads(value or b"")
        facts = {name: fact for name, fact in body.items() if name not in NEW_FACTS}
    except (ValueError, AttributeError):
        return event  # bad input, which stays as it is
    if "userPrincipalName" in facts:
        facts["userPrincipalName"] = f"{facts.get('user')}@{facts.get('tenant')}.example"
    return (topic, key, json.dumps(facts).encode()) if facts != body else event


def test_workers_are_replaced_one_by_one(kafka: Kafka, earlier: Path) -> None:
    with running(kafka.bootstrap) as system:
        tenants = Tenants(Random(11), bad=0.002, again=0.01, hot=0.1)
        load = Load(kafka.bootstrap, system.prefix, lambda: known_earlier(tenants))
        workers = {name: started(system, earlier, name) for name in WORKERS}
        load.start()
        try:
            for events in tenants.setup():
                load.publish(map(with_facts_known_earlier, events))
                load.wait()
                system.settle()
            load.pace = RECORDS_PER_SECOND
            for name in WORKERS:
                time.sleep(BETWEEN_SECONDS)
                assert workers[name].stop() == OK, workers[name].log()
                workers[name] = started(system, ROOT, name)
            time.sleep(BETWEEN_SECONDS)
            assert workers[WORKERS[0]].stop() == OK, workers[WORKERS[0]].log()
            workers[WORKERS[0]] = taken_back(system, earlier, WORKERS[0])
            time.sleep(BETWEEN_SECONDS)
            load.pace = 0.0
            load.wait()
            system.settle()
        finally:
            load.close()
        recording = record(kafka.bootstrap, system.prefix, system.partitions)
        row = Row("upgrade", 11)
        found = [
            violation
            for violation in judge(row, recording, load.acknowledged, NEW_MEMBERS)
            if violation.check not in WRITTEN_OTHERWISE
        ]
        assert not found, [str(violation) for violation in found[:10]]
        assert row.inputs > 100
        for worker in workers.values():
            assert worker.stop() == OK, worker.log()


def owned(worker: Worker) -> set[int]:
    """Returns the partitions of the worker, by its last line about them."""
    line = [line for line in worker.lines if " assigned " in line][-1]
    return {int(n) for n in re.findall(r"\d+", line.rpartition("partitions=")[2].split("]")[0])}


def test_forwarded_events_wait_for_a_worker_that_reads_them(kafka: Kafka, earlier: Path) -> None:
    """R29 in a rolling upgrade: the first worker of this release makes the topic, and forwards to
    partitions whose owner does not know it."""
    with running(kafka.bootstrap) as system:
        asyncio.run(without_topic(system, FORWARDED_EVENTS))
        workers = [started(system, earlier, name) for name in WORKERS]
        make = Events()
        system.publish([make.product("e3"), make.seats("e3", 100), make.license("sales", "e3")])
        until_published(system, "group-status")
        assert workers[0].stop() == OK, workers[0].log()
        workers[0] = started(system, ROOT, WORKERS[0])
        assert any("topics_checked" in line and "made=1" in line for line in workers[0].lines)
        mine, theirs = owned(workers[0]), owned(workers[1])
        assert mine.isdisjoint(theirs)
        assert len(mine | theirs) == system.partitions
        users = [u for n in range(200) if partition_of(f"contoso/{(u := f'u{n}')}", 4) in theirs]
        events = [each for user in users for each in (make.user(user), make.join(user, "sales"))]
        assert {topic for topic, _, _ in events} == {USER_CHANGES}
        records = [(key.encode(), value) for _, key, value in events]
        name = system.prefix + USER_CHANGES
        asyncio.run(produce(system.bootstrap, name, records, partition=min(mine)))
        deadline = Deadline(60)
        while len(system.records(FORWARDED_EVENTS)) < 2 * len(users):
            assert not deadline.has_passed, workers[0].log()
            time.sleep(0.2)
        assert not system.records("user-licenses")
        assert workers[1].process.poll() is None, workers[1].log()
        assert workers[1].stop() == OK, workers[1].log()
        workers[1] = started(system, ROOT, WORKERS[1])
        system.settle()
        held = [json.loads(value) for value in latest(system.records("user-licenses")).values()]
        assert [len(state["assignedLicenses"]) for state in held] == [1] * len(users)
        assert not system.records("dead-letters")


def until_published(system: System, topic: str) -> None:
    deadline = Deadline(60)
    while not system.records(topic):
        assert not deadline.has_passed, system.workers[0].log()
        time.sleep(0.2)


async def without_topic(system: System, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=system.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([system.prefix + name])
        while system.prefix + name in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


# -- state of a later release
def put(system: System, topic: str, key: bytes, value: bytes) -> None:
    """Writes one record to partition 0 of a topic."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=system.bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(system.prefix + topic, value, key=key, partition=0)
        finally:
            await producer.stop()

    asyncio.run(send())


def refused(worker: Worker, found: int) -> str:
    """Returns the one line with which the worker refuses the format ``found``."""
    assert worker.process.wait(timeout=40) == CONFIGURATION, worker.log()
    time.sleep(0.2)  # the thread that reads the log
    lines = [line for line in worker.lines if f"of format {found}" in line]
    assert len(lines) == 1, worker.log()
    assert "Traceback" not in worker.log()
    return lines[0]


def test_a_worker_refuses_rows_of_a_later_release(kafka: Kafka) -> None:
    later = ROW_FORMAT + 1
    with running(kafka.bootstrap, partitions=1) as system:
        put(system, "changelog", row_key(FORMAT_TABLE, FORMAT_KEY), str(later).encode())
        line = refused(system.worker(ready=False), later)
        assert f"reads up to format {ROW_FORMAT}" in line
        assert "run that release or a later one" in line


def test_a_worker_refuses_a_message_of_a_later_release(kafka: Kafka) -> None:
    later = MESSAGE_FORMAT + 1
    message = {"tenant": "contoso", "skuId": "base", "format": later}
    with running(kafka.bootstrap, partitions=1) as system:
        put(system, "internal.seat-grants", b"contoso/base", json.dumps(message).encode())
        line = refused(system.worker(ready=False), later)
        assert "internal.seat-grants holds a message" in line
        assert f"reads up to format {MESSAGE_FORMAT}" in line
