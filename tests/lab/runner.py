"""One experiment from its seed to its row: cluster, workers, load, faults, healing, verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from streams.kafka.topic_admin import create_topics
from streams.runtime.deadline import Deadline
from streams.runtime.settings import load_settings
from tests.lab.cluster import Cluster, NoSmallDiskError, SmallDisk
from tests.lab.load import Load
from tests.lab.record import Recording, record
from tests.lab.supervisor import Supervisor
from tests.lab.tenants import Tenants
from tests.lab.verdict import Row, judge
from tests.support.system import System

PARTITIONS = 4
SETTLE_WITHIN = 120.0


@dataclass(frozen=True)
class Experiment:
    name: str
    harm: str
    faults: Callable[[Lab], None]
    workers: int = 3
    brokers: int = 1
    pace: float = 150.0  # input records a second
    bad: float = 0.002  # of the input
    again: float = 0.002
    hot: float = 0.1
    disk: int = 0  # MiB of the broker's disk, if it is to be small
    proxied: bool = False
    mixed: bool = False  # partitioners of the producers


def mixed_partitions(key: bytes) -> int | None:
    """Returns the partition of half of the keys by librdkafka's default, CRC32; of others None."""
    found = zlib.crc32(key)
    return found % PARTITIONS if found & 1 << 16 else None


class LabSystem(System):
    """A `System` whose topics have as many copies as there are brokers."""

    def __init__(self, cluster: Cluster) -> None:
        self.bootstrap, self.partitions = cluster.bootstrap, PARTITIONS
        self.name, self.prefix, self.workers = "lab", "lab.", []
        self.env = {
            "SEATFLOW_BROKERS": cluster.bootstrap,
            "SEATFLOW_APP_ID": self.name,
            "SEATFLOW_TOPIC_PREFIX": self.prefix,
            "SEATFLOW_PARTITIONS": str(PARTITIONS),
            "SEATFLOW_REPLICATION": str(len(cluster.nodes)),
            "SEATFLOW_SESSION_TIMEOUT": "6",
        }
        flags = {k.removeprefix("SEATFLOW_").lower(): v for k, v in self.env.items()}
        report = asyncio.run(create_topics(load_settings(**flags)))
        if report.problems:
            raise RuntimeError("; ".join(report.problems))


class Lab:
    """The parts of the laboratory that an experiment's faults act on."""

    def __init__(
        self,
        cluster: Cluster,
        system: System,
        workers: Supervisor,
        load: Load,
        tenants: Tenants,
        dice: Random,
        disk: SmallDisk | None,
        pace: float,
    ) -> None:
        self.cluster, self.system, self.workers, self.load = cluster, system, workers, load
        self.tenants, self.dice, self.disk, self.pace = tenants, dice, disk, pace
        self.began = time.monotonic()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(f"{time.monotonic() - self.began:7.2f}  {text}")

    def sleep(self, least: float, most: float | None = None) -> None:
        time.sleep(self.dice.uniform(least, least if most is None else most))

    def until(self, true: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = Deadline(timeout)
        while not true():
            if deadline.has_passed:
                raise TimeoutError(f"{what} did not come in {timeout:.0f} s")
            time.sleep(0.1)

    def heal(self) -> None:
        """Repairs everything that the faults left broken: disk, brokers, network and workers."""
        if self.disk:
            self.disk.free()
        for node in self.cluster.nodes:
            if not node.running:
                self.note(f"start the broker {node.bootstrap} again")
                self.cluster.start_node(node)
        if self.cluster.proxy:
            self.cluster.proxy.heal()
        self.workers.resume_all()

    def settle(self) -> None:
        """Waits until nothing lags and every partition is run by a worker.

        Raises:
            TimeoutError: that is not so within ``SETTLE_WITHIN`` seconds.
        """
        deadline = Deadline(SETTLE_WITHIN)
        while True:
            try:
                self.system.settle(timeout=max(1.0, deadline.remaining_seconds))
                if self.workers.settled():
                    self.system.settle(timeout=max(1.0, deadline.remaining_seconds))
                    return
            except TimeoutError:
                raise
            except Exception as error:  # brokers that have just come back
                self.note(f"not settled yet: {error!r}")
            if deadline.has_passed:
                raise TimeoutError("some partition is run by nobody")
            time.sleep(0.2)


def run(experiment: Experiment, seed: int, folder: Path) -> Row:
    """Writes to `folder`: verdict.json, violations.txt, notes.txt, records, logs."""
    folder.mkdir(parents=True, exist_ok=True)
    # aiokafka tells of every retry that will succeed.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    row = Row(experiment.name, seed)
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            _run(experiment, row, folder, stack)
    except NoSmallDiskError as refusal:
        row.skipped = str(refusal)
    except Exception as error:
        row.problems.append(f"{type(error).__name__}: {str(error)[:2000]}")
        (folder / "error.txt").write_text(traceback.format_exc())
    row.seconds = time.monotonic() - began
    verdict = {**row.as_json(), "git": _commit()}
    (folder / "verdict.json").write_text(json.dumps(verdict, indent=1) + "\n")
    return row


def _run(experiment: Experiment, row: Row, folder: Path, stack: contextlib.ExitStack) -> None:
    dice = Random(f"{experiment.name}/{row.seed}")
    tenants = Tenants(
        Random(dice.random()), bad=experiment.bad, again=experiment.again, hot=experiment.hot
    )
    disk = stack.enter_context(_small_disk(experiment, folder)) if experiment.disk else None
    data = disk.place if disk else folder / "data"
    cluster = Cluster(data, folder, experiment.brokers, experiment.proxied)
    stack.callback(cluster.close)
    cluster.start()
    system = LabSystem(cluster)
    row.static = dice.random() < 0.5
    workers = Supervisor(system, row.static)
    stack.callback(workers.close, folder / "workers")
    where = mixed_partitions if experiment.mixed else lambda _: None
    load = Load(cluster.bootstrap, system.prefix, tenants.next, where)
    lab = Lab(cluster, system, workers, load, tenants, dice, disk, experiment.pace)
    stack.callback(lambda: (folder / "notes.txt").write_text("\n".join(lab.notes) + "\n"))
    _begin(experiment, lab)
    stack.callback(load.close)
    load.pace = experiment.pace
    experiment.faults(lab)
    load.pace = 0.0
    lab.heal()
    lab.note("healed")
    healed = time.time()
    _end(lab, row)
    recording = record(cluster.nodes[0].bootstrap, system.prefix, system.partitions)
    row.settle = max(0.0, recording.last_output() - healed)
    row.exits = dict(workers.codes)
    row.problems += workers.bugs()
    _judge(lab, row, recording, folder)


def _begin(experiment: Experiment, lab: Lab) -> None:
    for number in range(experiment.workers):
        detour = experiment.proxied and number == 0
        lab.workers.add(**({"SEATFLOW_BROKERS": lab.cluster.detour} if detour else {}))
    lab.load.start()
    for events in lab.tenants.setup():
        lab.load.publish(events)
        lab.load.wait()
        lab.settle()
    lab.note("the load begins")


def _end(lab: Lab, row: Row) -> None:
    try:
        lab.load.wait()
        lab.settle()
        lab.note("settled")
    except TimeoutError as error:
        row.problems.append(f"not settled: {str(error).splitlines()[0]}")


def _judge(lab: Lab, row: Row, recording: Recording, folder: Path) -> None:
    recording.save(folder / "records.jsonl.gz")
    found = judge(row, recording, lab.load.acknowledged)
    (folder / "violations.txt").write_text("".join(f"{violation}\n" for violation in found))


@contextlib.contextmanager
def _small_disk(experiment: Experiment, folder: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder / "disk", experiment.disk)
    try:
        yield disk
    finally:
        disk.close()


def _commit() -> str:
    """Returns the commit of the code, with "+" if it has changes; empty outside of a checkout."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return run.stdout.strip()
