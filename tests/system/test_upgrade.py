"""Two releases side by side: a rolling upgrade, its reversal, and state of a later release."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import tarfile
import time
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaProducer

from engine.state.formats import FORMAT_KEY, FORMAT_TABLE, MESSAGE_FORMAT, ROW_FORMAT
from streams.kafka.changelog_rows import row_key
from streams.runtime.errors import CONFIGURATION, OK
from tests.lab.load import Load
from tests.lab.record import record
from tests.lab.tenants import Tenants
from tests.lab.verdict import Row, judge
from tests.support.kafka import Kafka
from tests.support.system import ROOT, System, Worker, running

EARLIER = "24fbd5997da58c9a6130073482e3b72424c2ca64"
"""The commit of the earlier release: 0.1.0."""

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


def started(system: System, root: Path, name: str, times: int = 1) -> Worker:
    """Starts a worker of the release in ``root``; returns when it has restored its partitions."""
    env = {"SEATFLOW_WORKER_ID": name, "SEATFLOW_PURE": "1", "PYTHONPATH": str(root)}
    worker = system.worker_of(root, env)
    worker.wait_for("partition_restored", times)
    return worker


def test_workers_are_replaced_one_by_one_and_back(kafka: Kafka, earlier: Path) -> None:
    with running(kafka.bootstrap) as system:
        tenants = Tenants(Random(11), bad=0.002, again=0.01, hot=0.1)
        load = Load(kafka.bootstrap, system.prefix, tenants.next)
        workers = {name: started(system, earlier, name) for name in WORKERS}
        load.start()
        try:
            for events in tenants.setup():
                load.publish(events)
                load.wait()
                system.settle()
            load.pace = RECORDS_PER_SECOND
            # One worker after the other gets this release; then the last one goes back.
            for root, name in [(ROOT, n) for n in WORKERS] + [(earlier, "worker-1")]:
                time.sleep(BETWEEN_SECONDS)
                assert workers[name].stop() == OK, workers[name].log()
                workers[name] = started(system, root, name)
            time.sleep(BETWEEN_SECONDS)
            load.pace = 0.0
            load.wait()
            system.settle()
        finally:
            load.close()
        recording = record(kafka.bootstrap, system.prefix, system.partitions)
        row = Row("upgrade", 11)
        found = judge(row, recording, load.acknowledged)
        assert not found, [str(violation) for violation in found[:10]]
        assert row.inputs > 100
        for worker in workers.values():
            assert worker.stop() == OK, worker.log()


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
