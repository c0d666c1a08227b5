"""Runs the engine in this process: the whole system in memory, without Kafka.

python examples/embed_engine.py examples/onboarding.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.event_reader import Event, event_of

START_MS = 1_800_000_000_000


def main(path: str) -> None:
    """Applies the events of a file and prints the state of every user."""
    cluster = InMemoryCluster(partitions=2)
    for number, line in enumerate(Path(path).read_bytes().splitlines()):
        event = event_of(line)
        assert isinstance(event, Event), event
        cluster.publish(event.topic, event.key.decode(), event.event, START_MS + number)
    cluster.settle()
    latest = {
        record.key: record.value for record in cluster.outputs if record.topic == "user-licenses"
    }
    for key, user in sorted(latest.items()):
        for state in user["licenseAssignmentStates"]:
            print(key, state["skuId"], state["assignedByGroup"], state["state"], state["error"])


if __name__ == "__main__":
    main(*sys.argv[1:])
