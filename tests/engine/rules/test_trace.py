"""A trace names the rule and the check that decided each licence, and changes no outcome."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.model import Entry, GroupLicenses, Product, ServicePlan
from engine.domain.vocabulary import ACTIVE, ACTIVE_WITH_ERROR, CONFLICT, COUNT, ERROR, OTHER
from engine.rules.evaluation import evaluate, trace_evaluation
from engine.rules.outcome import EvaluationInput
from tests.support.generators import Walk

EXCHANGE_1 = ServicePlan("x1", "EXCHANGE_S_STANDARD", exclusive_sets=("exchange",))
EXCHANGE_2 = ServicePlan("x2", "EXCHANGE_S_ENTERPRISE", exclusive_sets=("exchange",))
ANALYTICS = ServicePlan("wa", "WORKPLACE_ANALYTICS", requires=(("x1", "x2"),))
TEAMS = ServicePlan("t", "TEAMS1", prohibited_locations=("CN",))
PRODUCTS = {
    p.id: p
    for p in (
        Product("E1", "E1", "E1", [EXCHANGE_1]),
        Product("E3", "E3", "E3", [EXCHANGE_2, TEAMS]),
        Product("WA", "WA", "WA", [ANALYTICS]),
    )
}


def facts(
    *groups: tuple[str, ...],
    entries: tuple[Entry, ...] = (),
    location: str | None = "US",
    denied: tuple[str, ...] = (),
    converted: tuple[int, ...] = (),
) -> EvaluationInput:
    licenses = tuple(
        GroupLicenses(tuple(PRODUCTS[sku].without(()) for sku in sorted(group))) for group in groups
    )
    held = frozenset(e.plans.sku for e in entries)
    return EvaluationInput(
        entries, licenses, frozenset(converted), location, None, frozenset(denied), held
    )


def entry(sku: str, path_index: int, order: int = 0) -> Entry:
    return Entry(path_index, order, PRODUCTS[sku].without(()), () if path_index == 0 else None)


def failed(trace_checks: tuple[tuple[str, object], ...]) -> list[str]:
    return [rule for rule, reason in trace_checks if reason is not None]


def test_an_admitted_product_has_passed_every_check() -> None:
    outcome, trace = trace_evaluation(PRODUCTS, facts(("E3",)))
    assert outcome.held == {"E3"}
    decision = trace.last("E3", 1, "R7")
    assert decision is not None
    assert (decision.applied, decision.reason, decision.attempted) == (True, None, ("E3",))
    assert [rule for rule, _ in decision.checks] == ["R7.1", "R7.2", "R7.3", "R7.4", "R7.5"]
    assert failed(decision.checks) == []
    assert [d.rule for d in trace.of("E3", 1)] == ["R7", "R14"]


def test_every_failed_check_is_named_not_only_the_first() -> None:
    """In China E3 fails R7.1, and R7.2 beside E1."""
    given = facts(("E3",), entries=(entry("E1", 0),), location="CN")
    _, trace = trace_evaluation(PRODUCTS, given)
    decision = trace.last("E3", 1, "R7")
    assert decision is not None
    assert not decision.applied
    assert failed(decision.checks) == ["R7.1", "R7.2"]
    conflict = dict(decision.checks)["R7.2"]
    assert conflict is not None
    assert conflict.error == CONFLICT
    assert conflict.details == (("conflicts", (("x2", "x1", "E1"),)),)


def test_seats_are_a_check_of_their_own_and_block_the_rest_of_the_group() -> None:
    _, trace = trace_evaluation(PRODUCTS, facts(("E3", "WA"), denied=("E3",)))
    mine, other = trace.last("E3", 1, "R7"), trace.last("WA", 1, "R7")
    assert mine is not None
    assert other is not None
    assert failed(mine.checks) == ["R7.5"]
    assert mine.reason is not None
    assert mine.reason.error == COUNT
    assert failed(other.checks) == []
    assert other.reason is not None
    assert other.reason.error == OTHER
    assert mine.attempted == other.attempted == ("E3", "WA")


def test_an_entry_that_is_kept_back_and_one_that_goes() -> None:
    """R11: WA, direct, needs the plan of E3; without it E3 goes."""
    kept = facts((), entries=(entry("E3", 2), entry("WA", 0, 1)))
    _, trace = trace_evaluation(PRODUCTS, kept)
    decision = trace.last("E3", 2, "R11")
    assert decision is not None
    assert not decision.applied
    assert decision.reason is not None
    assert decision.reason.details == (("missing", (("wa", ("x1", "x2")),)),)
    outcome, trace = trace_evaluation(PRODUCTS, facts((), entries=(entry("E3", 2),)))
    decision = trace.last("E3", 2, "R11")
    assert decision is not None
    assert decision.applied
    assert not outcome.entries


def test_a_converted_entry() -> None:
    """R13: under the policy ``convert`` the same entry becomes direct."""
    given = facts((), entries=(entry("E3", 2), entry("WA", 0, 1)), converted=(2,))
    outcome, trace = trace_evaluation(PRODUCTS, given)
    assert [d.rule for d in trace.of("E3", 2)] == ["R11", "R13"]
    assert trace.last("E3", 0, "R13") is None
    assert {(s.sku, s.path_index, s.state) for s in outcome.states} == {
        ("E3", 0, ACTIVE),
        ("WA", 0, ACTIVE),
    }


def test_a_converted_entry_joins_the_direct_one() -> None:
    """R13: the plan set becomes the union of both."""
    product = PRODUCTS["E3"]
    direct = Entry(0, 0, product.without(("x2",)), ("x2",))
    given = facts((), entries=(direct, entry("E3", 2, 1), entry("WA", 0, 2)), converted=(2,))
    outcome, _ = trace_evaluation(PRODUCTS, given)
    joined = [e for e in outcome.entries if e.plans.sku == "E3"]
    assert [(e.path_index, e.plans.enabled, e.disabled_plans) for e in joined] == [
        (0, product.user_plans, ())
    ]


def test_changed_plans_and_drift() -> None:
    """R12: Exchange cannot be added beside E1. R14: Teams is prohibited in China."""
    without = Entry(1, 0, PRODUCTS["E3"].without(("x2",)))
    given = facts(("E3",), entries=(without, entry("E1", 0, 1)), location="CN")
    outcome, trace = trace_evaluation(PRODUCTS, given)
    change, drift = trace.last("E3", 1, "R12"), trace.last("E3", 1, "R14")
    assert change is not None
    assert change.reason is not None
    assert change.reason.error == CONFLICT
    assert drift is not None
    assert drift.reason is not None
    assert drift.reason.details == (("location", "CN"),)
    state = next(s for s in outcome.states if s.sku == "E3")
    assert (state.state, state.reason) == (ACTIVE_WITH_ERROR, drift.reason)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_a_trace_changes_nothing_and_accounts_for_every_state(seed: int) -> None:
    walk = Walk(Random(seed))
    products = walk.configuration.products
    for _ in range(20):
        walk.change_a_fact()
        user = walk.user
        known, _ = walk.evaluator._facts(user, walk.denied, user.outcome.entries, user.paths)
        given = EvaluationInput(*known)
        outcome, trace = trace_evaluation(products, given)
        plain = evaluate(products, given)
        assert (outcome.entries, outcome.states) == (plain.entries, plain.states)
        for state in outcome.states:
            decisions = trace.of(state.sku, state.path_index)
            if state.state == ERROR:
                assert [d.reason for d in decisions if d.rule == "R7"] == [state.reason]
            elif state.state == ACTIVE_WITH_ERROR:
                assert state.reason in [d.reason for d in decisions]
            else:
                assert all(d.reason is None for d in decisions if d.rule != "R7")
        walk.step()
