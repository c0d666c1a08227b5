"""The demo: its report, told by the engine in memory; then all of it, on a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.decoder import DECODERS, Rejected
from streams.demo import runner
from streams.demo.report import show
from streams.demo.scenario import demo_steps
from streams.demo.summary import CompletedStep, SeatUsage, Summary, seat_usage, summarize
from streams.kafka.topic_reader import TopicRecord
from streams.local.kafka_jars import BrokerError, find_java
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.settings import load_settings
from tests.support.kafka import Kafka

STEPS = demo_steps()
BAD = sum(
    isinstance(DECODERS[topic](key, value, None), Rejected)
    for step in STEPS
    for topic, key, value in step.records
)
ADMISSION = {  # R7
    "ProhibitedInUsageLocationViolation",
    "MutuallyExclusiveViolation",
    "DependencyViolation",
    "UniquenessViolation",
    "CountViolation",
    "Other",
}
REMOVAL = {"DependencyViolation", "UniquenessViolation"}  # R11
DRIFT = {"ProhibitedInUsageLocationViolation"}  # R14
DIRECT = {  # R16
    *(ADMISSION - {"Other"}),
    "UserNotFound",
    "InvalidDisabledPlan",
    "InheritedLicense",
    "NotAssigned",
    "InvalidUsageLocation",
    "NoChange",
}


class Seen:
    """Stands in for a TopicReader: what was followed, without Kafka."""

    def __init__(self) -> None:
        self.latest: dict[str, dict[str, Any]] = {topic: {} for topic in (*runner.TOPICS, "audit")}
        self.log: dict[str, list[TopicRecord]] = {topic: [] for topic in (*runner.TOPICS, "audit")}
        self.clock = 0

    def add(self, topic: str, key: str, value: Any, headers: dict[str, str] | None = None) -> None:
        self.clock += 1
        self.log[topic].append(TopicRecord(topic, self.clock, key, value, headers or {}))
        if value is None:
            self.latest[topic].pop(key, None)
        else:
            self.latest[topic][key] = value


def play() -> Summary:
    cluster, seen, taken, told = InMemoryCluster(partitions=4), Seen(), [], 0
    for number, step in enumerate(STEPS):
        for topic, key, value in step.records:
            decoded = DECODERS[topic](key, value, None)
            if isinstance(decoded, Rejected):
                headers = {"dlq.topic": topic, "dlq.reason": decoded.reason}
                seen.add("dead-letters", key.decode(), value, headers)
                continue
            if topic == "subscriptions":
                seen.add(topic, key.decode(), json.loads(value))
            cluster.publish(topic, key.decode(), decoded[0], 1_000 * number, decoded[1])
        cluster.settle()
        for output in cluster.outputs[told:]:
            seen.add(output.topic, output.key, output.value)
        told = len(cluster.outputs)
        taken.append(CompletedStep(step.name, step.sentence, len(step.records), 0.5))
    return summarize(seen, taken)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return play()


def check(summary: Summary) -> None:
    """Checks that the summary has everything that the demo is meant to show."""
    kinds = {state: set[str]() for state in ("Error", "ActiveWithError")}
    for kind in summary.errors:
        kinds[kind.state].add(kind.error)
        assert kind.count > 0
        assert kind.example.message.endswith(".")
    assert kinds["Error"] >= ADMISSION
    assert kinds["ActiveWithError"] >= REMOVAL | DRIFT
    assert summary.converted > 0  # R13
    refused = {kind.error for kind in summary.refused if kind.state == "User"}
    assert refused >= DIRECT
    assert {kind.error for kind in summary.refused if kind.state == "Group"} == {  # R20
        "DependencyViolation",
        "InvalidDisabledPlan",
    }
    assert summary.results["deferred"] > 0  # R21
    assert 0 < summary.licensed < summary.users
    assert summary.in_error > 0
    assert len(summary.seats) == 12
    assert summary.oversold == 0
    assert all(seats.peak >= seats.consumed for seats in summary.seats)
    assert len(summary.dead_letters) == BAD
    assert summary.groups == 40
    assert sum(step.events for step in summary.steps) == sum(len(s.records) for s in STEPS)


def test_the_story_shows_what_it_is_there_to_show(summary: Summary) -> None:
    check(summary)


def test_nobody_has_a_licence_by_a_group_that_never_had_one(summary: Summary) -> None:
    assert "All Staff" not in {group["displayName"] for group in summary.groups_in_error}


def test_the_report_fits_the_screen_and_tells_every_kind(summary: Summary) -> None:
    console = Console(width=100, file=open(os.devnull, "w"), record=True, highlight=False)  # noqa: SIM115
    show(summary, console)
    console.file.close()
    shown = console.export_text()
    for kind in (*summary.errors, *summary.refused):
        assert kind.error in shown
        assert kind.example.who in shown
    for seats in summary.seats:
        assert seats.product in shown
    assert f"Dead letters: {BAD}" in shown
    assert "Never oversold" in shown
    assert max(map(len, shown.splitlines())) <= 100


def seats_log(*changes: tuple[str, str, Any]) -> tuple[Counter[str], Counter[str]]:
    seen = Seen()
    for topic, key, value in changes:
        seen.add(topic, key, value)
    return seat_usage(seen)  # type: ignore[arg-type]


def units(enabled: int) -> dict[str, Any]:
    return {"prepaidUnits": {"enabled": enabled, "warning": 0}}


def holds(*skus: str) -> dict[str, Any]:
    return {"assignedLicenses": [{"skuId": sku} for sku in skus]}


def test_a_seat_beyond_the_units_is_found() -> None:
    peaks, oversold = seats_log(
        ("subscriptions", "t/x", units(1)),
        ("user-licenses", "t/a", holds("x")),
        ("user-licenses", "t/b", holds("x")),
        ("user-licenses", "t/a", None),
    )
    assert (peaks["t/x"], oversold["t/x"]) == (2, 1)


def test_a_seat_that_is_freed_may_be_taken_again() -> None:
    peaks, oversold = seats_log(
        ("subscriptions", "t/x", units(1)),
        ("user-licenses", "t/a", holds("x")),
        ("user-licenses", "t/a", holds()),
        ("user-licenses", "t/b", holds("x")),
    )
    assert (peaks["t/x"], oversold["t/x"]) == (1, 0)


def test_units_given_up_oversell_nothing_until_another_seat_is_taken() -> None:
    bought = [("subscriptions", "t/x", units(2)), ("product-seats", "t/x", units(2))]
    shrunk = [("subscriptions", "t/x", units(1)), ("product-seats", "t/x", units(1))]
    taken = [("user-licenses", f"t/{user}", holds("x")) for user in "ab"]
    _, oversold = seats_log(*bought, *taken, *shrunk)
    assert oversold["t/x"] == 0
    _, oversold = seats_log(*bought, taken[0], *shrunk, taken[1])
    assert oversold["t/x"] == 1


def test_an_oversold_product_is_told_in_red(summary: Summary) -> None:
    bad = Summary(summary.steps, seats=[SeatUsage("E3", 2, 1, 0, 2, 1)])
    console = Console(width=100, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    show(bad, console)
    console.file.close()
    assert "Oversold: 1 seats were taken that were not bought" in console.export_text()


# --- on a real Kafka -----------------------------------------------------------------------------


def test_a_worker_that_ends_is_told_with_the_end_of_its_log(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    settings = load_settings(brokers=kafka.bootstrap, topic_prefix=topic_prefix)
    with runner.Workers(settings, 1, tmp_path) as workers, pytest.raises(WorkerError) as told:
        workers.wait_until_ready()
    assert told.value.exit_code == CONFIGURATION
    assert "worker 1 ended with exit code 78" in str(told.value)
    assert "topics are missing" in str(told.value)


@pytest.fixture
def java() -> None:
    try:
        find_java()
    except BrokerError as error:
        pytest.skip(str(error))


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_the_whole_demo(
    java: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    found: list[Summary] = []

    def keep(summary: Summary, console: Console) -> None:
        found.append(summary)
        show(summary, console)

    monkeypatch.setattr(runner, "show", keep)
    assert runner.run_demo(once=True, data_dir=tmp_path) == 0
    check(*found)
    shown = capsys.readouterr().out
    for step in STEPS:
        assert step.sentence in shown
    assert "Never oversold" in shown
    (directory,) = tmp_path.iterdir()
    for number in (1, 2):
        log = (directory / f"worker-{number}.log").read_text()
        assert "worker_stopped" in log
        assert "Traceback" not in log


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_ctrl_c_ends_the_demo_and_leaves_nothing_running(java: None, tmp_path: Path) -> None:
    package = str(Path(runner.__file__).parent.parent)
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams", "demo", "--data-dir", str(tmp_path / "data")],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": package},
            start_new_session=True,
        )
    deadline = Deadline(60)
    while "events" not in (tmp_path / "out").read_text():  # in the middle of the story
        assert process.poll() is None, (tmp_path / "out").read_text()
        assert not deadline.has_passed
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == runner.INTERRUPTED
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert not running(str(tmp_path))


def running(words: str) -> list[str]:
    """Command lines of processes that name these words."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [row for row in found.stdout.splitlines() if words in row]
