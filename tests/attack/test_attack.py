"""A short attack on a real broker, and the parts of the harness that need none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.attack.attacks import ATTACKS
from tests.attack.grammar import Grammar, Sent
from tests.attack.runner import AttackRun
from tests.attack.target import Observations
from tests.attack.verdict import GROWTH_MIB, LIMIT_SECONDS, Row
from tests.support.kafka import Kafka

SEED, SECONDS = 14, 45.0


def test_the_grammar_draws_the_same_from_the_same_seed() -> None:
    drawn = []
    for _ in range(2):
        grammar = Grammar(SEED)
        grammar.learned = [Sent("internal.seat-requests", b"a/b", b'{"type":"x","units":1}')]
        drawn.append(
            (
                grammar.records(200),
                [grammar.request() for _ in range(100)],
                [grammar.file() for _ in range(20)],
            )
        )
    assert drawn[0] == drawn[1]


def test_the_grammar_reaches_every_door() -> None:
    grammar = Grammar(SEED)
    topics = {record.topic for record in grammar.records(500)}
    assert {"user-changes", "internal.seat-grants", "internal.address-claims"} <= topics
    assert {grammar.request().door for _ in range(50)} == {"console", "receiver"}
    assert {grammar.file()[0] for _ in range(100)} == {"jsonl", "csv", "graph", "scim", "catalog"}


def test_changes_without_a_result_count_as_waiting() -> None:
    seen = Observations()
    for line in (["event", 100.0, 0.1], ["open", 101.0, 0.0], ["open", 104.0, 3.5]):
        seen.note(json.dumps(line))
    assert seen.longest_wait(100.0) == 3.5
    assert seen.longest_wait(103.0) == 1.0  # of an attack that began later
    seen.note(json.dumps(["console", 105.0, 0.2, 503]))
    assert (seen.refused("console", 100.0), seen.refused("receiver", 100.0)) == (1, 0)


@pytest.mark.parametrize(
    "harm",
    [
        {"waited": LIMIT_SECONDS + 0.1},
        {"console": LIMIT_SECONDS + 0.1},
        {"receiver": LIMIT_SECONDS + 0.1},
        {"refused": 1},
        {"ended": {"worker-1": 75}},
        {"growth_mib": GROWTH_MIB + 1},
        {"problems": ["the console does not follow any more"]},
    ],
)
def test_every_harm_is_a_success_of_the_attack(harm: dict[str, object]) -> None:
    for still, good in (("", False), ("not mended", True)):
        row = Row("x", "topics", still=still, **harm)  # type: ignore[arg-type]
        assert (row.held, row.good) == (False, good)
    assert Row("x", "topics", still="mended meanwhile").word.startswith("held, so remove")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_short_attack_is_held(kafka: Kafka, tmp_path: Path) -> None:
    """The known attacks that are quick, and a round of the grammar where time is left."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    run = AttackRun(kafka.bootstrap, tmp_path, SEED, SECONDS)
    rows = run.run()
    assert len(rows) > len(ATTACKS) / 3, run.not_run
    assert [f"{row.attack}: {row.reasons()}" for row in rows if not row.good] == []
