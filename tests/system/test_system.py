"""Exactly once, on a real Kafka with real workers and real faults (contract, section 4)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streams.runtime.errors import TEMPORARY
from tests.scenarios.language import SCENARIOS
from tests.support.fault_points import KILLS, STATES
from tests.support.kafka import Kafka
from tests.support.system import Event, Events, System, running

USERS = 1500
SEATS = 700


@pytest.fixture
def system(kafka: Kafka) -> Iterator[System]:
    with running(kafka.bootstrap) as system:
        yield system


def configuration() -> list[Event]:
    """Returns two groups that share a scarce product; one of them needs a second product."""
    make = Events(run="c")
    return [
        make.product("base"),
        make.product("extra"),
        make.tenant_settings(usageLocation="US"),
        make.seats("base", SEATS),
        make.seats("extra", USERS),
        make.license("staff", "base"),
        make.license("lab", "base", "extra"),
    ]


def onboarding(users: int = USERS, run: str = "u") -> list[Event]:
    make = Events(run=run)
    found = []
    for i in range(users):
        found += [make.user(f"user{i}"), make.join(f"user{i}", ("staff", "lab")[i % 2])]
    return found


def holders(system: System) -> Counter[str]:
    users = system.outcome()["user-licenses"].values()
    return Counter(a["skuId"] for user in users for a in user["assignedLicenses"])


def counts(system: System) -> dict[str, tuple[int, int]]:
    seats = system.outcome()["product-seats"].values()
    return {s["skuId"]: (s["consumedUnits"], s["waitingUsers"]) for s in seats}


def never_oversold(system: System) -> None:
    """Checks that neither a published counter nor the final holders exceed the purchased seats."""
    for record in system.records("product-seats"):
        value = json.loads(record.value or b"{}")
        assert value["consumedUnits"] <= value["prepaidUnits"]["enabled"], value
    assert holders(system)["base"] <= SEATS


def settled_totals(system: System) -> None:
    """Checks the totals that do not depend on batches: all seats used, all other users waiting."""
    held = holders(system)
    assert held["base"] == SEATS
    assert counts(system)["base"] == (SEATS, USERS - SEATS)
    assert counts(system)["extra"][0] == held["extra"]


def revisions_are_gapless(system: System) -> None:
    seen: dict[bytes | None, int] = {}
    for record in system.records("user-licenses"):
        revision = json.loads(record.value or b"{}")["revision"]
        assert revision == seen.get(record.key, 0) + 1, record
        seen[record.key] = revision


@pytest.mark.parametrize("workers", [1, 3])
def test_the_scenarios_pass_on_workers_started_one_after_the_other(
    kafka: Kafka, workers: int
) -> None:
    with running(kafka.bootstrap, partitions=8) as system:
        for _ in range(workers):
            system.worker()
        run = subprocess.run(
            [
                *(sys.executable, "-m", "tests.scenarios.over_kafka"),
                *("--brokers", kafka.bootstrap),
                *("--app-id", system.name, "--prefix", system.prefix),
                *map(str, SCENARIOS),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_a_worker_killed_in_a_bulk_load_loses_and_repeats_nothing(system: System) -> None:
    """SIGKILL in the middle of the load, twice; the load has one outcome whatever the batches."""
    first, second = system.worker(), system.worker()
    system.publish(configuration())
    system.settle()
    load = onboarding()
    system.publish(load[: len(load) // 2])
    first.kill()
    system.publish(load[len(load) // 2 :])
    third = system.worker(ready=False)
    second.kill()
    third.wait_for("partition_restored", timeout=30)
    system.settle()
    never_oversold(system)
    settled_totals(system)
    revisions_are_gapless(system)


def test_a_kill_changes_nothing_in_the_states(kafka: Kafka) -> None:
    """Seats enough for all: then the states are the same to the last member, kill or not."""
    outcomes: list[Any] = []
    for fault in ("", *(f"{point}:{visit}" for point, visit in KILLS[STATES].items())):
        with running(kafka.bootstrap) as system:
            setup = system.worker()
            system.publish([*configuration(), Events(run="s").seats("base", USERS)])
            system.settle()
            assert setup.stop() == 0
            system.publish(onboarding(600))
            if fault:
                doomed = system.worker(ready=False, SEATFLOW_FAULT=fault)
                assert doomed.process.wait(timeout=60) == -signal.SIGKILL, doomed.log()
            system.worker(ready=False)
            system.settle()
            revisions_are_gapless(system)
            outcomes.append(system.outcome())
    assert all(outcome == outcomes[0] for outcome in outcomes[1:])
    assert len(outcomes[0]["user-licenses"]) == 600


def test_a_paused_worker_that_wakes_up_is_fenced(system: System) -> None:
    """SIGSTOP past the session timeout, then SIGCONT: what it still writes is refused."""
    zombie = system.worker()
    system.publish(configuration())
    system.settle()
    load = onboarding()
    system.publish(load[:1000])
    zombie.signal(signal.SIGSTOP)
    system.publish(load[1000:])
    heir = system.worker(ready=False)
    heir.wait_for("partition_restored", times=system.partitions, timeout=40)
    system.settle()
    before = system.outcome()
    zombie.signal(signal.SIGCONT)
    assert zombie.process.wait(timeout=30) == TEMPORARY, zombie.log()
    system.settle()
    assert system.outcome() == before
    never_oversold(system)
    settled_totals(system)
    revisions_are_gapless(system)


def test_a_restart_and_the_same_input_again_change_nothing(system: System) -> None:
    worker = system.worker()
    events = [*configuration(), *onboarding(300)]
    system.publish(events)
    system.settle()
    before, count = system.outcome(), len(system.records("user-licenses"))
    assert worker.stop() == 0
    system.worker()
    system.publish(events)
    system.settle()
    assert system.outcome() == before
    assert len(system.records("user-licenses")) == count


def test_poison_in_each_input_topic_is_a_dead_letter_with_its_bytes(system: System) -> None:
    poison: list[Event] = [
        ("user-changes", "contoso/x", b"\xff\x00 not json"),
        ("group-changes", "contoso/g", b"[1,2,3]"),
        ("catalog", "sku", b'{"type":"product.undefined"}'),
        ("subscriptions", "contoso/sku", b'{"type":"subscription.updated","id":"1"}'),
        ("tenants", "contoso", b"x" * 1_100_000),
    ]
    system.worker()
    system.publish(poison[:-1])
    system.publish([*configuration(), *onboarding(50)])
    system.settle()
    letters = system.records("dead-letters")
    assert {(dict(r.headers)["dlq.topic"].decode(), r.key, r.value) for r in letters} == {
        (system.prefix + topic, key.encode(), value) for topic, key, value in poison[:-1]
    }
    for record in letters:
        reason = dict(record.headers)["dlq.reason"].decode()
        assert reason
        assert "\n" not in reason
    assert holders(system)["base"] == 50


def test_a_rebalance_while_seats_are_asked_for(system: System) -> None:
    """Workers come and go while users are in flight: nobody is forgotten, nothing is oversold."""
    first = system.worker()
    system.publish(configuration())
    system.settle()
    load = onboarding()
    for part in range(5):
        system.publish(load[part * 600 : (part + 1) * 600])
        if part in (1, 3):
            system.worker(ready=False)
    assert first.stop() == 0
    system.settle()
    never_oversold(system)
    settled_totals(system)
    revisions_are_gapless(system)


def test_sigterm_ends_a_loaded_worker_within_ten_seconds(system: System) -> None:
    worker = system.worker()
    system.publish([*configuration(), *onboarding()])
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 10
    system.worker()
    system.settle()
    settled_totals(system)


def test_a_worker_without_topics_says_so_and_exits(kafka: Kafka) -> None:
    with running(kafka.bootstrap) as system:
        missing = system.worker(ready=False, SEATFLOW_TOPIC_PREFIX="nowhere.")
        assert missing.process.wait(timeout=30) == 78
        assert "seatflow topics create" in missing.log()
        other = system.worker(ready=False, SEATFLOW_PARTITIONS="5")
        assert other.process.wait(timeout=30) == 78
        assert "5" in other.log()
