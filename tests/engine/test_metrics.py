"""The engine's metrics agree with its published records throughout the demo's scenario."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from engine.metrics import snapshot
from engine.partition_machine import PartitionMachine
from engine.simulation.in_memory_cluster import InMemoryCluster
from engine.state.seat_lease import Lease
from streams.contract.decoder import DECODERS, Rejected
from streams.demo.scenario import demo_steps
from tests.support.expected_metrics import told


def check(cluster: InMemoryCluster) -> None:
    latest: dict[str, dict[str, Any]] = {
        topic: {} for topic in ("errors", "group-status", "product-seats", "user-licenses")
    }
    for topic, _, key, value in cluster.outputs:
        if topic in latest:
            latest[topic].pop(key, None)
            if value is not None:
                latest[topic][key] = json.loads(value) if isinstance(value, bytes) else value
    expected = told({topic: values.values() for topic, values in latest.items()})
    all_figures = [snapshot(machine) for machine in cluster.machines]
    assert sum((Counter(f.errors) for f in all_figures), Counter()) == expected.errors
    assert sum((Counter(f.groups) for f in all_figures), Counter()) == expected.groups
    assert sum(f.with_errors for f in all_figures) == expected.with_errors
    assert sum(f.groups_with_errors for f in all_figures) == expected.groups_with_errors
    seats = {(s.tenant, s.sku): (s.units, s.used, s.waiting) for f in all_figures for s in f.seats}
    assert seats == expected.seats
    assert sum(f.held for f in all_figures) == sum(used for _, used, _ in seats.values())
    assert sum(f.held for f in all_figures) == expected.held
    assert sum(f.denied for f in all_figures) == sum(waiting for *_, waiting in seats.values())
    assert [f.in_flight for f in all_figures] == [0] * len(all_figures)
    assert [f.oversold for f in all_figures] == [0] * len(all_figures)


@pytest.mark.parametrize("restarts", [False, True])
def test_figures_are_those_of_the_topics_after_every_step(restarts: bool) -> None:
    cluster = InMemoryCluster(partitions=4)
    clock = 1_700_000_000_000
    for step in demo_steps():
        for topic, key, value in step.records:
            clock += 1
            decoded = DECODERS[topic](key, value, ())
            if not isinstance(decoded, Rejected):
                cluster.publish(topic, key.decode(), decoded[0], clock, decoded[1])
        cluster.settle()
        if restarts:
            for p in range(4):
                cluster.restart(p)
            cluster.settle()
        check(cluster)


def test_a_seat_used_without_a_lease_is_told() -> None:
    machine = PartitionMachine(0, 1)
    lease = machine.configuration.tenant("contoso").leases["sku"] = Lease("contoso", "sku")
    lease.granted, lease.returned, lease.used = 5, 2, 3
    assert snapshot(machine).oversold == 0
    lease.used = 5
    assert snapshot(machine).oversold == 2
