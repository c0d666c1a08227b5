"""The benches themselves: that they run, judge and report; and that the hot path stays short."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from streams import bench
from streams.bench.contention import judge
from streams.bench.directory import ORDERS, QUICK_SIZE
from streams.bench.directory_workload import Directory
from streams.bench.engine import Loop, onboarding_loop
from streams.bench.environment import BenchError
from streams.bench.onboarding import check_licences
from streams.bench.probe import percentiles
from streams.bench.report import Result, write_json, write_plot
from tests.support.kafka import Kafka

# Calls, Python's and C's, per event of an onboarding: decoded, handled, encoded, all that follows
# included. Raise it only for something that is worth its time on every event.
MOST_CALLS = 188  # a quarter of them for the claim of the principal name (R18)


def test_an_event_costs_no_more_calls_than_it_did() -> None:
    users = 3_000
    loop = onboarding_loop(users)
    counts: Counter[str] = Counter()

    def count(_frame: FrameType, event: str, _arg: Any) -> None:
        counts[event] += 1

    sys.setprofile(count)
    try:
        loop.onboard(users)
    finally:
        sys.setprofile(None)
    calls = (counts["call"] + counts["c_call"]) / (3 * users)
    assert calls < MOST_CALLS, f"{calls:.0f} calls per event"


def test_with_seats_at_hand_a_user_is_evaluated_and_written_once_more_for_its_mail_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.bench.engine.SPARE", 400)  # per cent: nobody waits for a lease
    users = 3_000
    loop = onboarding_loop(users)
    loop.onboard(users)
    once = 1.02 * users  # some have events in two batches
    assert users <= loop.machine.users.evaluator.evaluations < 2 * once
    assert users <= loop.records["row users"] < 2 * once
    for name in ("user-licenses", "audit"):
        assert users <= loop.records[name] < once, name
    assert 0.9 * users < loop.records["row claims"] <= users  # before a mail plan (R18)
    for name in ("internal.address-claims", "internal.address-verdicts"):
        assert 0 < loop.records[name] < users / 100, name  # many in one message


@pytest.mark.parametrize("order", ORDERS)
def test_memberships_of_groups_without_licences_cost_no_evaluation(order: str) -> None:
    """A user has 28 of them; there were 29 evaluations user by user, and 12 group by group."""
    directory = Directory(QUICK_SIZE)
    loop = Loop(directory.configuration())
    before = loop.machine.users.evaluator.evaluations
    loop.play(list(ORDERS[order](directory)))
    evaluations = loop.machine.users.evaluator.evaluations - before
    assert directory.size.users <= evaluations < 2 * directory.size.users
    assert not loop.machine.users.allocator.in_flight


def test_both_orders_of_the_directory_are_of_the_same_people() -> None:
    directory = Directory(QUICK_SIZE)
    graph, hr = (sorted(order(directory)) for order in ORDERS.values())
    assert graph == hr
    assert len(graph) == directory.events
    assert len({key for _, key, _ in graph}) == directory.size.users
    licensed = set(directory.licensed)
    for groups in directory.memberships:
        assert len(set(groups)) == directory.size.memberships
        assert len(licensed.intersection(groups)) == 2
    sizes = Counter(group for groups in directory.memberships for group in groups)
    largest, *_, smallest = [size for _, size in sizes.most_common()]
    assert largest > 10 * smallest


def test_the_loop_of_the_engine_bench_serves_everybody() -> None:
    loop = onboarding_loop(300)
    loop.onboard(300)
    assert loop.records["user-licenses"] >= 300
    assert not loop.machine.users.allocator.in_flight
    assert {"decode input", "handle user-changes", "encode and append"} <= set(loop.seconds)


def test_the_engine_bench_needs_no_kafka(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run(["engine"], json_file=tmp_path / "found.json", quick=True) == 0
    (found,) = json.loads((tmp_path / "found.json").read_text())["benches"]
    assert found["name"] == "engine"
    assert found["events_per_second"] > found["details"]["cold_evaluations_per_second"] > 0
    assert "engine" in capsys.readouterr().out


def test_a_bench_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.run(["speed"]) == 2
    assert "There is no bench 'speed'" in capsys.readouterr().err


@pytest.mark.timeout(300)
def test_quick_benches_on_a_broker(kafka: Kafka, tmp_path: Path) -> None:
    file, plot = tmp_path / "found.json", tmp_path / "found.png"
    names = ["contention", "latency", "directory"]
    assert bench.run(names, kafka.bootstrap, file, plot, quick=True) == 0
    found = json.loads(file.read_text())
    contention, latency, directory = found["benches"]
    assert contention["ratio"] == pytest.approx(
        contention["events_per_second"] / contention["limit_events_per_second"]
    )
    assert contention["details"]["refused"] > 0
    assert contention["rss_bytes_per_user"] > 0
    assert latency["percentiles_ms"]["p50"] <= latency["percentiles_ms"]["p99"]
    assert directory["details"].keys() == ORDERS.keys()
    for load in directory["details"].values():
        assert load["bytes_written_per_event"]["changelog"] > 0
        assert load["restored_rows_per_second"] > 0
        assert load["changes_per_second"] > 0
    assert found["machine"]["cores"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def seat(consumed: int) -> dict[str, Any]:
    return {"skuId": "sku", "consumedUnits": consumed}


def state(held: bool) -> dict[str, Any]:
    return {
        "assignedLicenses": [{"skuId": "sku"}] if held else [],
        "licenseAssignmentStates": [
            {"skuId": "sku", "error": "None" if held else "CountViolation"}
        ],
    }


def test_contention_is_judged() -> None:
    full = [state(True), state(True), state(False)]
    assert judge({"sku": 2}, [seat(1), seat(2)], full) == 1
    with pytest.raises(BenchError, match="oversold"):
        judge({"sku": 2}, [seat(3), seat(2)], full)
    with pytest.raises(BenchError, match="1 refused, and 1 seats free"):
        judge({"sku": 3}, [seat(2)], full)
    with pytest.raises(BenchError, match="3 hold it"):
        judge({"sku": 2}, [seat(2)], [state(True)] * 3)
    with pytest.raises(BenchError, match="1 counted"):
        judge({"sku": 2}, [seat(1)], full)


def test_onboarding_is_judged() -> None:
    check_licences({b"ann": {"E3"}, b"bob": {"E3", "E5"}}, {"E3": 2, "E5": 1}, 2)
    with pytest.raises(BenchError, match="1 of 2 users"):
        check_licences({b"ann": {"E3"}}, {"E3": 1}, 2)
    with pytest.raises(BenchError, match="there should be"):
        check_licences({b"ann": {"E3"}}, {"E3": 2}, 1)


def test_percentiles_are_in_milliseconds() -> None:
    found = percentiles([n / 1000 for n in range(101)])
    assert found == pytest.approx({"p50": 50, "p95": 95, "p99": 99, "max": 100})


def test_what_a_bench_does_not_measure_is_left_out(tmp_path: Path) -> None:
    some = [
        Result("memory", "many users", rss_bytes_per_user=650.0, goal="700", reached=True),
        Result("latency", "few", percentiles={"p50": 10.0, "p95": 20.0, "p99": 30.0}),
        Result("onboarding", "all", events_per_second=50.0, limit_events_per_second=100.0),
    ]
    write_json(some, tmp_path / "some.json", quick=False)
    memory, _, onboarding = json.loads((tmp_path / "some.json").read_text())["benches"]
    assert memory["events_per_second"] is None
    assert memory["ratio"] is None
    assert onboarding["ratio"] == 0.5
    write_plot(some, tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 1000
