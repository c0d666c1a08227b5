"""Judges of a recorded run: pure functions over topics, with no code of the product.

`violations(records)` runs them all on a settled run. Each checker takes a `History` and returns
what it found; `same_outcome` compares two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.checkers.accounts import (
    bad_input_is_dead_letter,
    errors_agree,
    every_command_answered,
    groups_agree,
    revisions_grow,
)
from tests.checkers.addresses import (
    addresses_are_unique,
    addresses_have_an_owner,
    addresses_never_shared,
)
from tests.checkers.audit import audit_agrees
from tests.checkers.history import History, Record, Violation
from tests.checkers.licences import (
    all_or_nothing,
    every_intent_published,
    no_false_conflict,
    no_state_without_cause,
    same_outcome,
    settled,
)
from tests.checkers.seats import (
    counters_never_oversold,
    never_oversold,
    no_false_refusal,
    seats_agree,
    union_agrees,
)

Checker = Callable[[History], list[Violation]]

# These hold at any moment of a run, the others once it has settled.
ALWAYS: tuple[Checker, ...] = (
    never_oversold,
    counters_never_oversold,
    union_agrees,
    all_or_nothing,
    revisions_grow,
    addresses_never_shared,
)
AT_THE_END: tuple[Checker, ...] = (
    every_intent_published,
    no_state_without_cause,
    settled,
    no_false_refusal,
    no_false_conflict,
    addresses_are_unique,
    addresses_have_an_owner,
    seats_agree,
    errors_agree,
    groups_agree,
    every_command_answered,
    bad_input_is_dead_letter,
    audit_agrees,
)


def violations(records: Iterable[Record], *, at_end: bool = True) -> list[Violation]:
    history = History(records)
    checkers = ALWAYS + AT_THE_END if at_end else ALWAYS
    return [violation for check in checkers for violation in check(history)]


__all__ = [
    "ALWAYS",
    "AT_THE_END",
    "Checker",
    "History",
    "Record",
    "Violation",
    "addresses_are_unique",
    "addresses_have_an_owner",
    "addresses_never_shared",
    "all_or_nothing",
    "audit_agrees",
    "bad_input_is_dead_letter",
    "counters_never_oversold",
    "errors_agree",
    "every_command_answered",
    "every_intent_published",
    "groups_agree",
    "never_oversold",
    "no_false_conflict",
    "no_false_refusal",
    "no_state_without_cause",
    "revisions_grow",
    "same_outcome",
    "seats_agree",
    "settled",
    "union_agrees",
    "violations",
]
