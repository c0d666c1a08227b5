"""Many events of one user in one batch: the end is that of the same events one by one.

The engine handles a step as one batch, whatever it has to ask others for meanwhile; the oracle
applies its events in order. Units are plentiful or none, and addresses are the user's own, so that
no other user decides.
"""

from __future__ import annotations

import json
import pathlib
import random
from typing import Any

import pytest
import yaml

from engine.simulation.in_memory_cluster import InMemoryCluster
from tests.engine.test_scenarios import EngineTarget
from tests.scenarios.language import Scenario, catalog_records
from tests.spec.documents import short_form
from tests.spec.test_scenarios import WorldTarget
from tests.support.scenario_player import Target, publish

Json = dict[str, Any]
PRODUCTS = ["E1", "E3", "EMS", "VISIO", "E5", "AUDIO"]
GROUPS = ["g", "h", "i"]
FACTS: list[Json] = [
    {"location": "US"},
    {"location": None},
    {"upn": "a@contoso.example"},
    {"upn": "b@contoso.example"},
    {"mail": "m@contoso.example"},
    {"mail": None},
    {"nickname": "nick"},
    {"nickname": None},
    {"addresses": ["SMTP:s@contoso.example"]},
    {"addresses": []},
]


def licenses(dice: random.Random) -> Json:
    return {
        name: ["EXCHANGE_S_ENTERPRISE"] if name in ("E3", "E5") and dice.random() < 0.3 else []
        for name in dice.sample(PRODUCTS, dice.choice([0, 1, 1, 2]))
    }


def action(dice: random.Random) -> Json:
    some = dice.sample(PRODUCTS, dice.choice([0, 1, 2]))
    held: Json = {f"{name}/{dice.choice([*GROUPS, 'direct'])}": [] for name in some}
    snapshot: Json = {"location": dice.choice(["US", None]), "upn": "a@contoso.example"}
    snapshot |= {"groups": dice.sample(GROUPS, dice.choice([0, 1, 2])), "holds": held}
    actions: list[tuple[int, Json]] = [
        (2, {"user": "a"} | dice.choice(FACTS)),
        (1, {"user": "a", "location": "US"}),
        (3, {"join": ["a", dice.choice(GROUPS)]}),
        (1, {"leave": ["a", dice.choice(GROUPS)]}),
        (2, {"assign": ["a", licenses(dice), some[:1]]}),
        (2, {"set_direct": ["a", licenses(dice)]}),
        (1, {"delete_user": "a", "restorable": dice.random() < 0.8}),
        (1, {"snapshot": "a"} | snapshot),
        (1, {"reprocess_user": "a"}),
    ]
    return dice.choices([a for _, a in actions], [weight for weight, _ in actions])[0]


def history(dice: random.Random) -> Json:
    """Returns a scenario: its groups, then steps of a few events of the user each."""
    second: Json = dice.choice([{"E1": []}, {"EMS": []}, {"E5": [], "EMS": []}])
    licensed: Json = {"g": {"E3": []}, "h": second, "i": {"VISIO": []}}
    steps: list[Json] = [{"do": [{"license": [g, some]} for g, some in licensed.items()]}]
    for _ in range(dice.randint(1, 3)):
        steps.append({"do": [action(dice) for _ in range(dice.randint(2, 7))]})
        other: list[Json] = [
            {"cancel": [dice.choice(PRODUCTS)]},
            {"seats": {dice.choice(PRODUCTS): 100}},
            {"delete_group": "g"},
            {"set_licenses": ["h", {}]},
        ]
        steps.append({"do": [dice.choice(other)] if dice.random() < 0.3 else []})
    seats: Json = dict.fromkeys(PRODUCTS, 100)
    seats[dice.choice(PRODUCTS)] = dice.choice([100, {"suspended": 5}])
    domain = {"domain": "contoso.onmicrosoft.com"} if dice.random() < 0.5 else {}
    return {"name": "burst", "tenant": {"location": "US"} | domain, "seats": seats, "steps": steps}


def outcome(path: pathlib.Path, target: Target) -> Json:
    """Plays the file; returns the end, without revisions and without users who have nothing."""
    scenario = Scenario(path, "burst")
    publish(target, catalog_records([scenario]))
    for step in scenario.steps:
        publish(target, list(scenario.records(step)))
    log = [
        (topic, key or "", json.loads(value) if isinstance(value, bytes) else value)
        for topic, key, value in target.records()
    ]
    end = short_form(log, scenario.tenant)
    having = {user for user, states in end["users"].items() if states}
    users = {
        kind: {u: v for u, v in end[kind].items() if u in having} for kind in ("users", "mail")
    }
    same = ("errors", "seats", "groups", "results")
    return users | {kind: end[kind] for kind in same}


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_a_burst_ends_as_its_events_one_by_one(first: int, tmp_path: pathlib.Path) -> None:
    for seed in range(first, first + 20):
        path = tmp_path / f"{seed:02}.yaml"
        path.write_text(yaml.safe_dump(history(random.Random(seed)), sort_keys=False))
        target = EngineTarget()
        target.cluster = InMemoryCluster(partitions=partitions(seed))
        assert outcome(path, target) == outcome(path, WorldTarget()), path.read_text()


def partitions(seed: int) -> int:
    """Returns the number of partitions: one, where nobody has to be asked elsewhere, or four."""
    return 1 if seed % 2 else 4
