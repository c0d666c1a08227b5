"""The table of contents of the scenarios is complete; a false expectation is noticed."""

from __future__ import annotations

import re

import pytest

from tests.engine.test_scenarios import EngineTarget
from tests.scenarios.expectations import READERS, compare
from tests.scenarios.language import FOLDER, SCENARIOS, Scenario
from tests.support.scenario_player import play, publish, seen


def test_the_readme_lists_every_scenario_with_its_name_and_rules() -> None:
    readme = (FOLDER / "README.md").read_text()
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\) \| (.+) \| (.+) \|$", readme, re.MULTILINE)
    found = [
        (path.name, path.name, document["name"], ", ".join(document["rules"]))
        for path in SCENARIOS
        for document in [Scenario(path, "readme").document]
    ]
    assert listed == found


def test_every_scenario_has_a_number_of_its_own() -> None:
    numbers = [int(path.name[:2]) for path in SCENARIOS]
    assert numbers == sorted(set(numbers))
    assert numbers[:29] == list(range(1, 30))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("users", {"a": {}}),
        ("plans", {"a": {"E3": ["none"]}}),
        ("revision", {"a": 99}),
        ("errors", {"a": ["E3/g CountViolation"]}),
        ("seats", {"E3": {"consumed": 0}}),
        ("products", {"E3": "Deleted"}),
        ("groups", {"g": {"members": 7}}),
        ("results", {"g": []}),
        ("dead_letters", 1),
    ],
)
def test_a_false_expectation_is_a_failure(kind: str, wrong: object) -> None:
    scenario, target = Scenario(SCENARIOS[0], "wrong"), EngineTarget()
    publish(target, [("catalog", e["skuId"], e) for e in scenario.catalog.values()])
    scenario.document["steps"] = [
        {"do": [{"user": "a", "location": "US"}, {"seats": {"E3": 5}}]},
        {"do": [{"license": ["g", {"E3": []}]}, {"join": ["a", "g"]}]},
    ]
    for step in scenario.steps:
        publish(target, list(scenario.records(step)))
    compare(scenario, 1, {kind: wrong}, seen(target.records()))
    assert len(scenario.failures) == 1


def test_every_kind_of_expectation_is_used() -> None:
    used = {
        kind
        for path in SCENARIOS
        for step in Scenario(path, "kinds").steps
        for kind in step.get("expect", {})
    }
    assert used <= set(READERS)


def test_a_scenario_plays_alone() -> None:
    assert play(SCENARIOS[0], EngineTarget(), run="alone") == []
