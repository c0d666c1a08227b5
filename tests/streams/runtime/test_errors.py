"""The errors of streams are one tree, which says who acts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from streams.contract.rejection import DecodeError
from streams.ingest.items import FeedError
from streams.runtime.errors import (
    CONFIGURATION,
    SOFTWARE,
    TEMPORARY,
    Actor,
    SeatflowError,
    WorkerError,
)

ROOT = Path(__file__).resolve().parents[3]
# A violated assertion is a bug: it has no place in the tree of expected errors.
BUG = {"AssertionError"}


def test_every_error_class_is_in_the_tree() -> None:
    bases: dict[str, set[str]] = {}
    for path in sorted((ROOT / "streams").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found = {base.id for base in node.bases if isinstance(base, ast.Name)}
                if any(name.endswith(("Error", "Exception")) for name in found):
                    bases[node.name] = found

    def expected(name: str) -> bool:
        return name == "SeatflowError" or any(map(expected, bases.get(name, ())))

    assert len(bases) > 15
    outside = {name for name, found in bases.items() if not expected(name) and not found <= BUG}
    assert outside == set()


@pytest.mark.parametrize(
    ("error", "actor", "exit_code"),
    [
        (SeatflowError("no file"), Actor.OPERATOR, CONFIGURATION),
        (WorkerError("no broker"), Actor.NOBODY, TEMPORARY),
        (WorkerError("no topics", CONFIGURATION), Actor.OPERATOR, CONFIGURATION),
        (WorkerError("worker 1 ended", SOFTWARE), Actor.DEVELOPER, SOFTWARE),
        (WorkerError("worker 1 ended", 3), Actor.DEVELOPER, 3),
        (DecodeError("user is missing", "bad_member"), Actor.SENDER, CONFIGURATION),
        (FeedError("no such file"), Actor.OPERATOR, CONFIGURATION),
    ],
)
def test_an_error_says_who_acts(error: SeatflowError, actor: Actor, exit_code: int) -> None:
    assert (error.actor, error.exit_code) == (actor, exit_code)


def test_a_feed_that_kafka_stopped_is_tried_again() -> None:
    error = FeedError("Kafka rejected the records")
    error.__cause__ = TimeoutError()
    assert error.actor is Actor.NOBODY


def test_the_text_of_an_error_is_one_line() -> None:
    assert str(DecodeError("user is missing", "bad_member")) == "user is missing"
