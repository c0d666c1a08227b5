"""The benchmark's people: they ask for what the demand says, and can all be served."""

import json
from collections import defaultdict

from streams.bench.workload import (
    PRODUCTS,
    bench_configuration,
    bench_demand,
    bench_onboarding,
    group_products,
)
from streams.catalog import product
from streams.contract.decoder import DECODERS, Rejected


def test_the_groups_are_those_of_the_benchmark() -> None:
    licensed = group_products(500)
    assert len(licensed) == 500
    assert sum(len(set(products)) == 2 for products in licensed) == 60
    assert sum(len(products) == 1 for products in licensed) == 440
    assert {name for products in licensed for name in products} == set(PRODUCTS)


def test_each_user_is_upserted_and_then_joins_two_groups() -> None:
    events = defaultdict(list)
    ids = set()
    for topic, key, value in bench_onboarding(300, groups=20, seed=7):
        decoded = DECODERS[topic](key, value, None)
        assert not isinstance(decoded, Rejected), decoded.reason
        body = json.loads(value)
        events[key].append((body["type"], body.get("group")))
        ids.add(body["id"])
    assert len(events) == 300
    assert len(ids) == 900
    for (first, _), (second, one), (third, other) in events.values():
        assert (first, second, third) == ("user.upserted", "membership.added", "membership.added")
        assert one != other


def test_the_demand_counts_the_people_who_ask_for_each_product() -> None:
    licenses = {}
    for topic, key, value in bench_configuration(bench_demand(300, 20, seed=7), groups=20):
        decoded = DECODERS[topic](key, value, None)
        assert not isinstance(decoded, Rejected), decoded.reason
        body = json.loads(value)
        if topic == "group-changes":
            licenses[body["group"]] = {each["skuId"] for each in body["addLicenses"]}
    asked = defaultdict(set)
    for _, key, value in bench_onboarding(300, groups=20, seed=7):
        for sku in licenses.get(json.loads(value).get("group"), ()):
            asked[sku].add(key)
    counted = {product(name)["skuId"]: n for name, n in bench_demand(300, 20, seed=7).items()}
    assert {sku: len(keys) for sku, keys in asked.items()} == counted


def test_no_product_of_the_benchmark_keeps_another_out() -> None:
    plans = [plan for name in PRODUCTS for plan in product(name)["servicePlans"]]
    sets = defaultdict(set)
    for plan in plans:
        for name in plan.get("exclusiveSets", ()):
            sets[name].add(plan["servicePlanId"])
    assert all(len(members) == 1 for members in sets.values())


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert list(bench_onboarding(50, seed=3)) == list(bench_onboarding(50, seed=3))
    assert list(bench_onboarding(50, seed=3)) != list(bench_onboarding(50, seed=4))
