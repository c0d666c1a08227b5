"""Decoding is total: whatever comes gives an event or a refusal that a person understands."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import events as ev
from streams.contract.decoder import DECODERS, Headers, Rejected
from tests.support.contract_samples import DATA, EVENTS, KEYS, assert_for_people, refuse, structured

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
headers_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from(["ce_type", "ce_id", "ce_source", "ce_time", "content-type"]) | st.text(),
        st.none()
        | st.binary()
        | st.sampled_from([b"user.upserted", b"1.0", b"application/cloudevents+json"]),
    ),
    max_size=5,
)
topics = st.sampled_from(sorted(DECODERS))


def assert_total(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
    decoded = DECODERS[topic](key, value, headers)
    if isinstance(decoded, Rejected):
        assert_for_people(decoded.reason)
    else:
        assert isinstance(decoded[0], ev.InputEvent)
        assert isinstance(decoded[1], str)


@given(topics, st.none() | st.binary(), st.none() | st.binary(), headers_of_any_kind)
def test_any_bytes(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
    assert_total(topic, key, value, headers)


@given(topics, anything, headers_of_any_kind)
def test_any_json(topic: str, value: object, headers: Headers) -> None:
    assert_total(topic, KEYS[topic], json.dumps(value).encode(), headers)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value, its own top excepted."""
    found: list[tuple[str | int, ...]] = [path] if path else []
    if isinstance(value, dict):
        for name, child in value.items():
            found += places(child, (*path, name))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            found += places(child, (*path, i))
    return found


@given(st.data(), headers_of_any_kind, st.booleans())
def test_any_mutation_of_a_valid_event(
    data: st.DataObject, headers: Headers, enveloped: bool
) -> None:
    topic, event = data.draw(st.sampled_from(EVENTS))
    mutated = orjson.loads(structured(event) if enveloped else orjson.dumps(event))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(mutated)))
        owner = mutated
        for step in way:
            owner = owner[step]
        if data.draw(st.booleans()):
            del owner[last]
        else:
            owner[last] = data.draw(anything)
        if not mutated:
            break
    value = json.dumps(mutated).encode()
    assert_total(topic, KEYS[topic], value, data.draw(st.sampled_from([(), headers])))


def test_values_as_deep_as_the_parser_lets_through() -> None:
    deep = b'{"type":' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert refuse("tenants", b"contoso", deep, None).startswith("type is a list of length 1")


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not beside this checkout")
def test_the_whole_catalogue_is_read() -> None:
    lines = (DATA / "catalogue.jsonl").read_bytes().splitlines()
    assert len(lines) > 500
    for line in lines:
        event = orjson.loads(line)
        decoded = DECODERS["catalog"](event["skuId"].encode(), line, None)
        assert not isinstance(decoded, Rejected), decoded.reason
        product = decoded[0]
        assert isinstance(product, ev.ProductDefined)
        assert [plan.id for plan in product.plans] == [
            plan["servicePlanId"] for plan in event["servicePlans"]
        ]
