"""The demo's tenant in an in-memory cluster."""

from __future__ import annotations

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.decoder import DECODERS, Rejected
from streams.demo.scenario import demo_steps
from tests.streams.ingest.played import Played


def demo_cluster() -> InMemoryCluster:
    """Returns a settled cluster of four partitions to which all events of the demo were sent."""
    played = Played(partitions=4)
    cluster, clock = played.cluster, played.clock
    for step in demo_steps():
        for topic, key, value in step.records:
            decoded = DECODERS[topic](key, value, None)
            if not isinstance(decoded, Rejected):
                clock += 1
                cluster.publish(topic, key.decode(), decoded[0], clock, decoded[1])
        cluster.settle()
    return cluster
