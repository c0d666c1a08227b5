"""Plays the shared scenarios against any system that runs inside the test process.

The runner that is handed out with the scenarios builds the events and compares the outcome; here it
is only driven without Kafka. `Target` is all that a system must offer.
"""

from __future__ import annotations

import importlib.util
import json
import pathlib
from types import ModuleType
from typing import Any, Protocol

import pytest

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
RUNNER = SHARED / "tools" / "conform.py"
SCENARIOS = sorted((SHARED / "scenarios").glob("*.yaml"))
ABSENT = "the shared scenarios and their runner are not beside this checkout"

Published = tuple[str, str | None, Any]  # topic without prefix; key; bytes or a decoded value


class Target(Protocol):
    def publish(self, topic: str, key: str, value: bytes) -> None:
        """Appends an input record; `topic` is without its prefix."""

    def settle(self) -> None:
        """Works until nothing is left to do."""

    def records(self) -> list[Published]:
        """All that was published so far, in order; None values are tombstones."""


def load_runner() -> ModuleType:
    if not RUNNER.exists():
        pytest.skip(ABSENT)
    spec = importlib.util.spec_from_file_location("conform", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play(path: pathlib.Path, target: Target, run: str = "test") -> list[str]:
    """Publishes the steps of one scenario; returns the expectations that did not hold."""
    return play_all([path], target, run)[path.stem]


def play_all(paths: list[pathlib.Path], target: Target, run: str = "test") -> dict[str, list[str]]:
    """As the runner does: step k of all scenarios, everything settles, expectations are compared.

    Each scenario is a tenant of its own, so they may share one system. Failures by file stem.
    """
    runner = load_runner()
    catalogue = runner.load_catalogue()
    scenarios = [runner.Scenario(path, catalogue, run) for path in paths]
    publish_catalogue(runner, scenarios, target)
    for step in range(max(len(s.steps) for s in scenarios)):
        current = [(s, s.steps[step]) for s in scenarios if step < len(s.steps)]
        for scenario, what in current:
            for action in what.get("do", ()):
                for topic, key, value in scenario.events(action):
                    target.publish(topic, key, encoded(value))
        target.settle()
        for scenario, what in current:
            if "expect" in what:
                scenario.compare(step, what["expect"], seen(runner, target.records()))
    return {s.path.stem: s.failures for s in scenarios}


def publish_catalogue(runner: ModuleType, scenarios: list[Any], target: Target) -> None:
    named = {name for s in scenarios for name in runner.products_of(s)}
    catalogue = runner.load_catalogue()
    for name in sorted(named & set(catalogue)):
        event = catalogue[name]
        target.publish("catalog", event["skuId"], encoded(event))
    target.settle()


def encoded(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, separators=(",", ":")).encode()


def seen(runner: ModuleType, records: list[Published]) -> Any:
    """The published records in the form that the runner compares."""
    result = runner.Seen()
    for topic, key, value in records:
        if isinstance(value, bytes) and topic != "dead-letters":
            value = json.loads(value)
        result.latest[topic][key] = value
        result.log[topic].append((key, value))
    return result
