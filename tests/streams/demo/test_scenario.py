"""The demo's tenant: what is in it, in an order that lets it show what it is there to show."""

import json
from collections import Counter
from typing import Any

import pytest

from engine.domain.events import UserLicensesChanged
from streams.catalog import product
from streams.contract.decoder import DECODERS, Rejected
from streams.demo.people import GROUPS
from streams.demo.scenario import LATE, PRODUCTS, UNKNOWN_SKU, Step, demo_steps

STEPS = demo_steps()
BY_NAME = {step.name: step for step in STEPS}


def bodies(step: Step) -> list[dict[str, Any]]:
    return [
        json.loads(value)
        for topic, key, value in step.records
        if not isinstance(DECODERS[topic](key, value, None), Rejected)
    ]


def of_type(kind: str, *names: str) -> list[dict[str, Any]]:
    steps = [BY_NAME[name] for name in names] if names else STEPS
    return [body for step in steps for body in bodies(step) if body["type"] == kind]


def test_it_is_the_same_on_every_machine() -> None:
    assert demo_steps() == STEPS
    assert demo_steps(seed=5) != STEPS


@pytest.mark.parametrize("seed", range(5))
def test_another_seed_has_the_people_that_the_story_needs(seed: int) -> None:
    assert [step.name for step in demo_steps(seed)] == [step.name for step in STEPS]


def test_its_size_is_what_the_readme_promises() -> None:
    known = {body["user"] for body in of_type("user.upserted")}
    groups = {body["group"] for body in of_type("group.upserted")}
    products = {body["skuId"] for body in of_type("product.defined")}
    assert (len(known), len(groups), len(products)) == (2_000, 40, 12)
    assert len(GROUPS) == 40
    assert products == {product(name)["skuId"] for name in PRODUCTS}


def test_everything_can_be_read_but_for_the_noise() -> None:
    rejected = Counter(
        step.name
        for step in STEPS
        for topic, key, value in step.records
        if isinstance(DECODERS[topic](key, value, None), Rejected)
    )
    assert set(rejected) == {"Noise"}
    assert rejected["Noise"] >= 2


def test_events_with_the_same_id_are_the_same_event() -> None:
    values: dict[str, set[bytes]] = {}
    for step in STEPS:
        for topic, key, value in step.records:
            if not isinstance(DECODERS[topic](key, value, None), Rejected):
                values.setdefault(json.loads(value)["id"], set()).add(value)
    assert all(len(each) == 1 for each in values.values())


def test_only_the_noise_repeats_events_and_only_of_people_whose_facts_stand() -> None:
    seen: set[str] = set()
    told_since: set[str] = set()
    for step in STEPS:
        for body in bodies(step):
            if body["id"] in seen:
                assert step.name == "Noise"
                assert body["user"] not in told_since
            seen.add(body["id"])
        if step.name in ("Moves", "Endings"):
            facts = [body for body in bodies(step) if body["type"] != "user.reprocess"]
            told_since |= {body["user"] for body in facts if "user" in body}


def test_people_have_names_and_addresses_of_their_own() -> None:
    people = of_type("user.upserted", "Early users", "Onboarding")
    for member in ("displayName", "userPrincipalName"):
        assert len({body[member] for body in people}) == len(people)
    assert all(body["userPrincipalName"].endswith("@contoso.example") for body in people)
    locations = Counter(body["usageLocation"] for body in people)
    assert len(locations) > 6
    assert locations[None] > 0


def test_what_is_needed_first_is_in_an_earlier_step() -> None:
    licensed = {
        each["skuId"]: number
        for number, step in reversed(list(enumerate(STEPS)))
        for body in bodies(step)
        for each in body.get("addLicenses", ())
    }
    known = {
        body["skuId"]: number
        for number, step in enumerate(STEPS)
        for body in bodies(step)
        if body["type"] == "product.defined"
    }
    late = product(LATE)["skuId"]
    assert set(licensed) - set(known) == {UNKNOWN_SKU}
    for sku in set(licensed) & set(known) - {late}:
        assert known[sku] < licensed[sku]
    assert known[late] > licensed[late]
    names = [step.name for step in STEPS]
    assert names.index("Groups") < names.index("Early users") < names.index("Onboarding")


def test_one_product_has_fewer_seats_than_people_in_its_groups() -> None:
    """R7.5; all the others have enough, so that errors have one cause each."""
    groups: dict[str, set[str]] = {}
    for body in of_type("licenses.changed", "Groups"):
        groups[body["group"]] = {each["skuId"] for each in body["addLicenses"]}
    wanted: dict[str, set[str]] = {}
    for body in of_type("membership.added", "Onboarding"):
        for sku in groups.get(body["group"], ()):
            wanted.setdefault(sku, set()).add(body["user"])
    units = {
        body["skuId"]: body["prepaidUnits"]["enabled"]
        for body in of_type("subscription.updated", "Contoso")
    }
    short = {sku for sku, users in wanted.items() if len(users) > units[sku]}
    assert short == {product("VISIO")["skuId"]}


def test_each_reason_to_reject_a_direct_change_has_its_own_user() -> None:
    changes = []
    for topic, key, value in BY_NAME["Direct licences"].records:
        decoded = DECODERS[topic](key, value, None)
        assert not isinstance(decoded, Rejected)
        assert isinstance(decoded[0], UserLicensesChanged)
        changes.append(decoded[0])
    assert len({change.user for change in changes}) == len(changes)


def test_sentences_are_for_people() -> None:
    for step in STEPS:
        assert step.sentence.endswith(".")
        assert "_" not in step.sentence
        assert step.records
