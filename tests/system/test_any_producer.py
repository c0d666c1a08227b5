"""Any producer (R29): the promises hold whatever partition a client chooses for a key."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.domain.partitioner import partition_of
from streams.contract.topics import FORWARDED_EVENTS
from tests.scenarios.language import SCENARIOS
from tests.support.kafka import Kafka, latest
from tests.support.system import Event, Events, System, running

CLIENTS = Path(__file__).parent / "clients"
USERS = 60
INSTALL_SECONDS = 240.0

Command = list[str]
Install = Callable[[Path], Command]


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    with running(kafka.bootstrap, partitions=8) as system:
        for _ in range(2):
            system.worker()
        yield system


def test_the_scenarios_pass_where_keys_are_placed_by_crc32(system: System) -> None:
    """librdkafka's default: seven of eight events are on another partition."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.scenarios.over_kafka"),
            *("--brokers", system.bootstrap, "--partitioner", "crc32"),
            *("--app-id", system.name, "--prefix", system.prefix),
            *map(str, SCENARIOS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    forwarded = system.records(FORWARDED_EVENTS)
    assert len(forwarded) > 300
    assert all(record.partition == partition_of(record.key or b"", 8) for record in forwarded)
    codes = {dict(record.headers)["dlq.code"] for record in system.records("dead-letters")}
    assert b"wrong_partition" not in codes


# ---- clients that others wrote, with their default settings


def _run(command: Command, folder: Path) -> None:
    """Installs something; skips the test where that is impossible, for instance without network."""
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except FileNotFoundError as error:
        pytest.skip(f"there is no {error.filename}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"not installed in {INSTALL_SECONDS:.0f} s: {' '.join(command)}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"not installed: {' '.join(command)}: {error.stderr.strip()[-300:]}")


def confluent(folder: Path) -> Command:
    """confluent-kafka: librdkafka, as in the clients for .NET, Go and Node."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    _run([*pip, "confluent-kafka>=2.5,<3"], folder)
    return [sys.executable, "confluent.py"]


def kafkajs(folder: Path) -> Command:
    _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "kafkajs@2.2.4"], folder)
    return ["node", "kafkajs.js"]


def kafka_go(folder: Path) -> Command:
    _run(["go", "mod", "init", "producer"], folder)
    _run(["go", "get", "github.com/segmentio/kafka-go@v0.4.47"], folder)
    _run(["go", "build", "-o", "producer", "."], folder)
    return ["./producer"]


def tenant_of(name: str) -> list[Event]:
    """Returns events whose outcome does not depend on the order of different keys."""
    make = Events(name, name)
    return [
        make.product(f"{name}-suite"),
        make.seats(f"{name}-suite", USERS),
        make.license("sales", f"{name}-suite"),
        *(each for n in range(USERS) for each in (make.user(f"u{n}"), make.join(f"u{n}", "sales"))),
    ]


@pytest.mark.parametrize("install", [confluent, kafkajs, kafka_go])
def test_a_client_works_as_it_comes(system: System, tmp_path: Path, install: Install) -> None:
    name = install.__name__.replace("_", "-")
    folder = tmp_path / "producer"
    folder.mkdir()
    for source in CLIENTS.glob(f"{install.__name__}.*"):
        shutil.copy(source, folder)
    command = install(folder)
    events = tenant_of(name)
    lines = [
        json.dumps([system.prefix + topic, key, value.decode()]) for topic, key, value in events
    ]
    sent = subprocess.run(
        [*command, system.bootstrap],
        cwd=folder,
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    system.settle()
    own = f"{name}/".encode()
    letters = [r for r in system.records("dead-letters") if (r.key or b"").startswith(own)]
    assert not letters
    states = {
        key: json.loads(value)["assignedLicenses"]
        for key, value in latest(system.records("user-licenses")).items()
        if (key or b"").startswith(own)
    }
    assert len(states) == USERS
    assert all([each["skuId"] for each in held] == [f"{name}-suite"] for held in states.values())
    if install is not kafkajs:  # whose partitioner is murmur2, as Kafka's
        forwarded = [r for r in system.records(FORWARDED_EVENTS) if (r.key or b"").startswith(own)]
        assert len(forwarded) > USERS
