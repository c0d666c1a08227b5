"""A user with as many licences as the limits allow is evaluated in a moment, and states stay small.

The bounds are generous: a machine under load passes, and what grows with the square does not.
"""

from __future__ import annotations

import json
import time

from engine.documents import user_documents
from engine.domain.model import GroupLicenses, Product, ServicePlan
from engine.domain.vocabulary import CONFLICT, ERROR
from engine.rules.evaluation import evaluate
from engine.rules.outcome import EvaluationInput, Outcome
from tests.support.timing import limit_seconds


def product(number: int, exclusive_set: str) -> Product:
    """Twenty plans; one is in the exclusive set, one requires another."""
    plans = [ServicePlan(f"{number:04}-{n:02}-9f7e-4b53-8b4c-2a1c3d4e5f60", f"PLAN_{number}_{n}")
             for n in range(18)]  # fmt: skip
    plans.append(ServicePlan(f"x{number:04}", f"EXCLUSIVE_{number}", "User", (exclusive_set,)))
    plans.append(ServicePlan(f"r{number:04}", f"ADD_ON_{number}", requires=((plans[0].id,),)))
    return Product(f"s{number:04}", f"PRODUCT_{number}", f"Product {number}", plans)


def licensed(products: list[Product], *groups: list[Product]) -> tuple[float, Outcome]:
    """Returns the seconds of an evaluation and its outcome."""
    licenses = tuple(GroupLicenses(tuple(p.without(()) for p in group)) for group in groups)
    nothing: frozenset[str] = frozenset()
    facts = EvaluationInput((), licenses, frozenset(), "US", None, nothing, nothing)
    began = time.process_time()
    outcome = evaluate({p.id: p for p in products}, facts)
    return time.process_time() - began, outcome


def test_a_thousand_licensed_groups_are_evaluated_in_a_moment() -> None:
    products = [product(n, f"set {n}") for n in range(1000)]
    seconds, outcome = licensed(products, *([p] for p in products))
    assert len(outcome.held) == 1000
    assert seconds < limit_seconds(1)  # 0.03 s compiled, 0.05 s plain; it was minutes

    seconds, outcome = licensed(products, *([p] for p in products[:500]), products[500:])
    assert len(outcome.held) == 1000
    assert seconds < limit_seconds(1)


def test_five_hundred_conflicting_products_of_one_group_are_told_in_two_kilobytes_each() -> None:
    products = [product(n, "one set") for n in range(500)]
    seconds, outcome = licensed(products, products)
    assert seconds < limit_seconds(2)
    assert {(s.state, s.reason.error) for s in outcome.states} == {(ERROR, CONFLICT)}
    details = dict(outcome.states[0].reason.details)
    assert (len(details["conflicts"]), details["conflictsTotal"]) == (5, 499)  # type: ignore[arg-type]
    assert "and 494 more" in outcome.states[0].reason.message
    template = user_documents.template_of(outcome)
    for state, told in zip(template.states, outcome.states, strict=True):
        error = json.dumps([told.reason.message, dict(told.reason.details)])
        assert len(state.before_since) + len(error) < 2048


def test_groups_that_ask_for_the_same_are_attempted_once_a_pass() -> None:
    products = [product(n, "one set") for n in range(2)]
    seconds, outcome = licensed(products, [products[0]], *[[products[1]]] * 1000)
    assert outcome.held == {"s0000"}
    assert len({id(s.reason) for s in outcome.states if s.state == ERROR}) == 1
    assert seconds < limit_seconds(1)
