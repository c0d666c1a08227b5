"""The project's table of plans and its small catalog, compared with the published facts."""

import json
import pathlib
from typing import Any

import pytest

from streams.catalog import (
    EDITIONS,
    SHORT_NAMES,
    plan_facts,
    product,
    product_defined,
    sample_catalog,
)
from streams.catalog.plan_facts import package_data
from streams.contract.decoder import DECODERS, Rejected

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no shared data beside the checkout")


def shared_data(name: str) -> Any:
    return json.loads((SHARED / "data" / name).read_text())


@needs_shared
@pytest.mark.parametrize(
    ("edition", "tables"), [("2025", {"current"}), ("2022", {"current", "older"})]
)
def test_exclusive_sets_are_the_published_ones(edition: str, tables: set[str]) -> None:
    published = {
        (plan["servicePlanId"], each["service"])
        for each in shared_data("exclusive-sets.json")
        for plan in each["plans"]
        if plan["table"] in tables
    }
    facts = plan_facts(edition).exclusive_sets
    assert {(plan, name) for plan, names in facts.items() for name in names} == published


def test_the_editions_differ_in_what_their_sources_say() -> None:
    mail = {
        edition: {plan for plan, names in plan_facts(edition).exclusive_sets.items()
                  if "Exchange Online" in names}
        for edition in EDITIONS
    }  # fmt: skip
    assert len(mail["2022"] - mail["2025"]) == 2
    assert mail["2025"] < mail["2022"]
    # No table of plans and countries is published.
    assert plan_facts().prohibited_locations == {}
    table = json.loads(package_data("plan_facts.json"))["editions"]
    assert table.keys() == set(EDITIONS)
    assert all(edition["sources"] for edition in table.values())
    assert "own choice" in table["2022"]["sources"]["prohibitedLocations"]


def test_a_product_has_the_facts_of_its_edition() -> None:
    plans = [(each["servicePlanId"], "x") for each in product("E3")["servicePlans"]]
    sets = {
        edition: sum("exclusiveSets" in plan for plan in product_defined(
            "s", "P", "N", plans, edition=edition)["servicePlans"])
        for edition in EDITIONS
    }  # fmt: skip
    assert sets["2022"] == sets["2025"] + 1


@needs_shared
def test_requirements_are_the_published_ones() -> None:
    published = {
        each["servicePlanId"]: (tuple(any_of.split()[0] for any_of in each["requiresAnyOf"]),)
        for each in shared_data("dependencies.json")
    }
    assert plan_facts().requires == published


@needs_shared
def test_the_sample_catalog_says_what_the_large_one_says() -> None:
    lines = (SHARED / "data" / "catalogue.jsonl").read_text().splitlines()
    large = {event["skuId"]: event for event in map(json.loads, lines)}
    for event in sample_catalog():
        expected = {**large[event["skuId"]], "id": event["id"], "time": event["time"]}
        assert event == expected


def test_the_sample_catalog_is_input_of_the_contract() -> None:
    events = sample_catalog()
    assert len({event["skuId"] for event in events}) == len(SHORT_NAMES)
    for event in events:
        decoded = DECODERS["catalog"](event["skuId"].encode(), json.dumps(event).encode(), None)
        assert not isinstance(decoded, Rejected), decoded.reason


def test_products_are_found_by_short_name_and_part_number() -> None:
    assert {part: product(short) for short, part in SHORT_NAMES.items()} == {
        event["skuPartNumber"]: event for event in sample_catalog()
    }
    assert product("ENTERPRISEPACK") == product("E3")
    with pytest.raises(KeyError):
        product("E4")


def test_a_caller_may_change_what_it_got() -> None:
    product("E3")["servicePlans"].clear()
    sample_catalog()[0]["servicePlans"].clear()
    assert all(event["servicePlans"] for event in sample_catalog())


def test_the_same_definition_is_the_same_event_and_another_one_is_not() -> None:
    plans = [("p1", "ONE"), ("p2", "TWO")]
    first = product_defined("s", "PART", "Name", plans)
    assert product_defined("s", "PART", "Name", plans) == first
    assert product_defined("s", "PART", "Name", plans[:1])["id"] != first["id"]
    assert product_defined("s", "PART", "New name", plans)["id"] != first["id"]
