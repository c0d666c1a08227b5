"""Plays the scenarios against a system that runs inside the test process."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Protocol

from tests.scenarios.expectations import Published as AllPublished
from tests.scenarios.expectations import compare
from tests.scenarios.language import SCENARIOS as SCENARIOS
from tests.scenarios.language import InputRecord, Scenario, catalog_records

Published = tuple[str, str | None, Any]  # topic without prefix; key; bytes or a decoded value


class Target(Protocol):
    """All that a system must offer to be played against."""

    def publish(self, topic: str, key: str, value: bytes) -> None:
        """Appends an input record; `topic` is without its prefix."""

    def settle(self) -> None:
        """Works until nothing is left to do."""

    def records(self) -> list[Published]:
        """Returns everything published so far, in order; None values are tombstones."""


def play(path: pathlib.Path, target: Target, run: str = "test") -> list[str]:
    """Plays the steps of one scenario; returns the expectations that did not hold."""
    return play_all([path], target, run)[path.stem]


def play_all(paths: list[pathlib.Path], target: Target, run: str = "test") -> dict[str, list[str]]:
    """Plays step k of all scenarios, settles, and compares; returns the failures by file stem.

    Each scenario is a tenant of its own, so they share one system.
    """
    scenarios = [Scenario(path, run) for path in paths]
    publish(target, catalog_records(scenarios))
    for number in range(max(len(s.steps) for s in scenarios)):
        current = [(s, s.steps[number]) for s in scenarios if number < len(s.steps)]
        publish(target, [record for s, step in current for record in s.records(step)])
        expecting = [(scenario, step) for scenario, step in current if "expect" in step]
        published = seen(target.records()) if expecting else None
        for scenario, step in expecting:
            assert published is not None
            compare(scenario, number, step["expect"], published)
    return {s.path.stem: s.failures for s in scenarios}


def publish(target: Target, records: list[InputRecord]) -> None:
    """Publishes the records and lets the system settle."""
    for topic, key, value in records:
        target.publish(topic, key, encoded(value))
    target.settle()


def encoded(value: object) -> bytes:
    """Returns the bytes of a record's value."""
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, separators=(",", ":")).encode()


def seen(records: list[Published]) -> AllPublished:
    """Returns the published records in the form that the expectations use."""
    result = AllPublished()
    for topic, key, value in records:
        if isinstance(value, bytes) and topic != "dead-letters":
            value = json.loads(value)
        result.add(topic, key, value)
    return result
