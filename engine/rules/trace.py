"""The trace of one evaluation: which rule decided what about each licence of each path, and why.

A trace is kept only when it is asked for, by :func:`engine.rules.evaluation.trace_evaluation`. It
serves explanations for people; :func:`engine.rules.evaluation.evaluate` keeps none.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.rules.outcome import ErrorReason


class CheckResult(NamedTuple):
    """The result of one check. ``rule`` is R7.1 to R7.5; ``reason`` is None if it passed.

    What a failed check decided on is in ``reason.details``: the location, the pairs of plans in
    conflict, the missing requirements, or the address with its owner.
    """

    rule: str
    reason: ErrorReason | None


class TracedDecision(NamedTuple):
    """One decision about a product on one path (0 is direct, 1 … are the input's groups).

    The ``rule`` tells what was decided, and ``applied`` how:

    - ``R7``: the product was admitted, or not (then published as ``Error``). ``checks`` holds R7.1
      to R7.4, each with its own result, and R7.5 if seats were considered. ``attempted``: all
      products of the group that were attempted together (R6).
    - ``R11``: nothing asks for the entry any more; it was removed, or not.
    - ``R12``: the entry was given the plans that its path now asks for, or not.
    - ``R13``: the entry of a deleted group was converted into a direct one (always applied).
    - ``R14``: the entry was checked in the end; not applied means that a plan is prohibited
      in the location, or lacks a requirement.

    ``reason`` is the published reason where the decision was not applied, else None.
    """

    rule: str
    sku: str
    path_index: int
    applied: bool
    reason: ErrorReason | None = None
    checks: tuple[CheckResult, ...] = ()
    attempted: tuple[str, ...] = ()


class EvaluationTrace:
    """All decisions of one evaluation, in the order in which they were made.

    An evaluation makes passes until nothing changes, so a decision may recur; the last one of a
    rule stands.
    """

    def __init__(self) -> None:
        self.decisions: list[TracedDecision] = []

    def of(self, sku: str, path_index: int) -> list[TracedDecision]:
        """Returns the standing decisions about a product on one path: the last one of each rule."""
        last = {d.rule: d for d in self.decisions if d.sku == sku and d.path_index == path_index}
        return sorted(last.values(), key=self.decisions.index)

    def last(self, sku: str, path_index: int, rule: str) -> TracedDecision | None:
        """Returns the standing decision of one rule, None if the rule did not apply."""
        for decision in reversed(self.decisions):
            if (decision.sku, decision.path_index, decision.rule) == (sku, path_index, rule):
                return decision
        return None
