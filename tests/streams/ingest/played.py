"""Feeds played into the engine in memory: what became of them, without Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from engine.simulation.in_memory_cluster import InMemoryCluster, Output
from streams.contract.decoder import DECODERS, Rejected
from streams.ingest import FeedItem, FeedProblem


class Played:
    """A cluster that takes feed items, one feed after the other."""

    def __init__(self, partitions: int = 2) -> None:
        self.cluster = InMemoryCluster(partitions)
        self.clock = 1_700_000_000_000

    def feed(self, items: Iterable[FeedItem | FeedProblem]) -> list[Output]:
        """The records that follow from the feed; a problem fails the test."""
        before = len(self.cluster.outputs)
        for item in items:
            assert isinstance(item, FeedItem), str(item)
            decoded = DECODERS[item.topic](item.key, item.value, None)
            assert not isinstance(decoded, Rejected)
            self.clock += 1
            self.cluster.publish(item.topic, item.key.decode(), decoded[0], self.clock, decoded[1])
        self.cluster.settle()
        return self.cluster.outputs[before:]

    def latest(self, topic: str) -> dict[str, Any]:
        found = {}
        for output in self.cluster.outputs:
            if output.topic == topic:
                found[output.key] = output.value
        return {key: value for key, value in found.items() if value is not None}

    def states(self, key: str) -> dict[tuple[str, str | None], str]:
        """(skuId, group) -> state/error of a user."""
        user = self.latest("user-licenses").get(key, {"licenseAssignmentStates": []})
        return {
            (each["skuId"], each["assignedByGroup"]): f"{each['state']}/{each['error']}"
            for each in user["licenseAssignmentStates"]
        }


def events(items: Iterable[FeedItem | FeedProblem]) -> list[dict[str, Any]]:
    """The events without what every one has; a problem fails the test."""
    found = []
    for item in items:
        assert isinstance(item, FeedItem), str(item)
        body = json.loads(item.value)
        found.append({k: v for k, v in body.items() if k not in ("id", "time", "tenant")})
    return found


def told(items: Iterable[FeedItem | FeedProblem]) -> list[tuple[int, str]]:
    return [(each.line, each.reason) for each in items if isinstance(each, FeedProblem)]
