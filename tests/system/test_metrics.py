"""The metrics of real workers say what the topics say, counted once more from the topics."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streams.contract.topics import CONSUMED, INPUT_NAMES
from streams.demo.scenario import demo_steps
from streams.runtime.deadline import Deadline
from tests.support.expected_metrics import told
from tests.support.kafka import Kafka, latest
from tests.support.scrape import Sample, address, get, scrape, summed, total
from tests.support.system import Events, System, running


@pytest.fixture(scope="module")
def story(kafka: Kafka) -> Iterator[System]:
    """Runs the demo's tenant on two workers until it settles; partitions move once."""
    with running(kafka.bootstrap) as system:
        system.worker(SEATFLOW_METRICS_PORT="0")
        steps = demo_steps()
        for number, step in enumerate(steps):
            if number == len(steps) // 2:
                system.worker(SEATFLOW_METRICS_PORT="0")
            system.publish([(topic, key.decode(), value) for topic, key, value in step.records])
            system.settle()
        yield system


@pytest.fixture(scope="module")
def samples(story: System) -> list[Sample]:
    return scrape(*story.workers)


def values(system: System, topic: str) -> list[Any]:
    """Returns the last value of each key."""
    return [json.loads(value) for value in latest(system.records(topic)).values()]


def test_the_licences(story: System, samples: list[Sample]) -> None:
    topics = ("errors", "group-status", "product-seats", "user-licenses")
    expected = told({topic: values(story, topic) for topic in topics})
    kinds = summed(samples, "seatflow_users_in_error", "kind")
    assert kinds == {(kind,): count for kind, count in expected.errors.items()}
    assert len(kinds) == 6
    assert total(samples, "seatflow_users_with_errors") == expected.with_errors
    states = summed(samples, "seatflow_groups", "state")
    assert states == {(state,): count for state, count in expected.groups.items()}
    assert total(samples, "seatflow_groups_with_errors") == expected.groups_with_errors
    units = summed(samples, "seatflow_seats_units", "tenant", "sku")
    used = summed(samples, "seatflow_seats_used", "tenant", "sku")
    waiting = summed(samples, "seatflow_users_waiting", "tenant", "sku")
    available = summed(samples, "seatflow_seats_available", "tenant", "sku")
    for key, figures in expected.seats.items():
        assert [units.get(key, 0), used.get(key, 0), waiting.get(key, 0)] == list(figures)
        assert available.get(key, 0) == figures[0] - figures[1]
    assert set(units) <= set(expected.seats)
    assert total(samples, "seatflow_seats_held") == sum(used.values()) == expected.held
    assert total(samples, "seatflow_users_denied") == sum(waiting.values())
    assert total(samples, "seatflow_seats_oversold") == 0
    assert total(samples, "seatflow_seat_requests_in_flight") == 0


def test_each_input_record_is_an_event_or_a_dead_letter(
    story: System, samples: list[Sample]
) -> None:
    """Counters are of one worker's life: here both workers live, and each record went to one."""
    inputs = {name: story.records(name) for name in INPUT_NAMES}
    letters = story.records("dead-letters")
    reasons = Counter(dict(r.headers)["dlq.topic"].decode() for r in letters)
    by_topic = summed(samples, "seatflow_dead_letters_total", "topic")
    assert by_topic == {(t.removeprefix(story.prefix),): n for t, n in reasons.items()}
    assert len(summed(samples, "seatflow_dead_letters_total", "reason")) >= 3
    types: Counter[str] = Counter()
    dead = {
        (dict(r.headers)["dlq.topic"], dict(r.headers)["dlq.offset"], r.partition) for r in letters
    }
    for name, records in inputs.items():
        for record in records:
            if (record.topic.encode(), str(record.offset).encode(), record.partition) not in dead:
                types[engine_name(name, json.loads(record.value or b""))] += 1
    assert summed(samples, "seatflow_events_total", "type") == {(t,): n for t, n in types.items()}
    read = summed(samples, "seatflow_records_in_total", "topic")
    assert {t: n for (t,), n in read.items() if t in INPUT_NAMES} == {
        name: len(records) for name, records in inputs.items()
    }
    assert total(samples, "seatflow_latency_seconds_count") >= sum(types.values())


def engine_name(topic: str, event: dict[str, Any]) -> str:
    name = str(event["type"]).replace(".", "_")
    if event.get("memberType", "user") != "user":
        return "membership_ignored"
    owner = {"user-changes": "user", "group-changes": "group"}.get(topic, "")
    return f"{owner}_{name}" if name == "licenses_changed" else name


def test_the_work(story: System, samples: list[Sample]) -> None:
    committed = len(story.records("user-licenses"))
    written = summed(samples, "seatflow_records_out_total", "topic")
    assert written["user-licenses",] == committed
    tombstones = sum(r.value is None for r in story.records("user-licenses"))
    assert total(samples, "seatflow_published_total") == committed - tombstones
    evaluations = total(samples, "seatflow_evaluations_total")
    assert evaluations > total(samples, "seatflow_memo_hits_total") > 0
    assert total(samples, "seatflow_duplicates_total") > 0
    assert total(samples, "seatflow_ignored_memberships_total") == 1
    assert total(samples, "seatflow_transaction_seconds_count") > 0
    assert total(samples, "seatflow_restore_seconds_count") == story.partitions + len(
        [line for line in story.workers[1].lines if "partition_restored" in line]
    )
    assert total(samples, "seatflow_restored_rows_total") > 0
    assert total(samples, "seatflow_rebalances_total") >= 3
    assert total(samples, "seatflow_partitions_owned") == story.partitions
    assert {s.value for s in samples if s.name == "seatflow_partitions"} == {story.partitions}
    for name in ("lag_records", "lag_seconds", "queue_records"):
        assert summed(samples, f"seatflow_{name}", "topic") == {}
        assert {s.labels["topic"] for s in samples if s.name == f"seatflow_{name}"} == set(CONSUMED)
    assert total(samples, "process_resident_memory_bytes") > 1e7


def test_no_user_and_no_group_is_in_it(story: System) -> None:
    text = "".join(get(f"{address(worker)}/metrics")[1] for worker in story.workers)
    ids = {user["user"] for user in values(story, "user-licenses")}
    ids |= {group["group"] for group in values(story, "group-status")}
    assert not [id for id in ids if f'"{id}"' in text]


def test_ready_when_restored_and_not_behind(kafka: Kafka) -> None:
    with running(kafka.bootstrap) as system:
        make = Events()
        worker = system.worker(ready=False)
        worker.wait_for("worker_started")
        assert get(f"{address(worker)}/healthz")[0] == 200
        assert get(f"{address(worker)}/metrics")[0] == 200
        worker.wait_for("partition_restored", system.partitions)
        deadline = Deadline(10)
        while get(f"{address(worker)}/readyz") != (200, "ok\n"):
            assert not deadline.has_passed, get(f"{address(worker)}/readyz")
            time.sleep(0.1)
        system.publish([make.user("ann"), make.join("ann", "staff")])
        system.settle()
        assert get(f"{address(worker)}/readyz") == (200, "ok\n")
