"""A checker must be able to fail: each rejects bad histories, and accepts what the oracle did."""

from __future__ import annotations

import pytest

from tests import checkers
from tests.checkers import Checker, History
from tests.checkers.bad_histories import (
    BAD,
    Change,
    appending,
    dropping,
    in_last,
    in_user,
    setting,
)
from tests.checkers.history_builder import Builder, example, random_history
from tests.spec.contract import KEYS


def name(value: object) -> str:
    return value.__name__ if callable(value) and hasattr(value, "__name__") else str(value)


@pytest.mark.parametrize(
    ("checker", "change"),
    [pytest.param(c, change, id=f"{name(c)}: {what}") for c, what, change in BAD],
)
def test_a_bad_history_is_rejected(checker: Checker, change: Change) -> None:
    found = checker(History(change(example())))
    assert found
    assert all(str(violation) for violation in found)


def test_every_checker_has_at_least_two_bad_histories() -> None:
    for checker in checkers.ALWAYS + checkers.AT_THE_END:
        assert sum(1 for c, _, _ in BAD if c is checker) >= 2, name(checker)


def test_the_example_is_accepted_and_shows_every_kind_of_state() -> None:
    records = example()
    assert checkers.violations(records) == []
    kinds = {
        (s["state"], s["error"])
        for user in History(records).users.values()
        for s in user["licenseAssignmentStates"]
    }
    assert kinds == {
        ("Active", "None"),
        ("Error", "CountViolation"),
        ("Error", "Other"),
        ("Error", "MutuallyExclusiveViolation"),
        ("Error", "UniquenessViolation"),
        ("ActiveWithError", "DependencyViolation"),
    }


def test_what_holds_always_holds_at_every_prefix() -> None:
    records = example()
    for length in range(len(records)):
        assert checkers.violations(records[:length], at_end=False) == []


@pytest.mark.parametrize("seed", range(120))
def test_the_oracle_keeps_the_promises_on_random_histories(seed: int) -> None:
    assert checkers.violations(random_history(seed).records) == []


def test_same_outcome_accepts_a_run_with_every_event_repeated() -> None:
    once = random_history(7)
    twice = Builder()
    for record in once.records:
        if record.topic in KEYS and record not in History(once.records).bad:
            twice.again(record)
            twice.again(record)
    assert checkers.same_outcome(History(once.records), History(twice.records)) == []


@pytest.mark.parametrize(
    "change",
    [
        in_user("t/a", setting(0, state="Error", error="CountViolation")),
        in_last("group-status", "t/g", lambda g: g.update(members=4)),
        in_last("product-seats", "t/suite", lambda c: c.update(consumedUnits=3)),
        dropping("errors", "t/b/g/suite"),
        appending("user-licenses", "t/a", None),
    ],
)
def test_same_outcome_rejects_another_end(change: Change) -> None:
    first, second = History(example()), History(change(example()))
    assert checkers.same_outcome(first, second)
    assert checkers.same_outcome(second, first)


def test_same_outcome_ignores_revisions_and_times() -> None:
    changed = in_user("t/a", lambda u: u.update(revision=5, updatedAt="x"))
    assert checkers.same_outcome(History(example()), History(changed(example()))) == []
