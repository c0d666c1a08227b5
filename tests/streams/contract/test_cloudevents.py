"""The input contract in CloudEvents of both modes."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from streams.contract.decoder import DECODERS
from tests.support.contract_samples import (
    CE_TIME,
    DROP,
    KEYS,
    SOURCE,
    USER,
    Event,
    data_of,
    each_event,
    read,
    refuse,
    structured,
)


def binary(event: Event, **changes: bytes | None) -> list[tuple[str, bytes]]:
    headers = {
        "ce_specversion": b"1.0",
        "ce_type": event["type"].encode(),
        "ce_id": event["id"].encode(),
        "ce_source": SOURCE.encode(),
        "ce_time": CE_TIME.encode(),
        "content-type": b"application/json",
    }
    named = {name.replace("content_type", "content-type"): raw for name, raw in changes.items()}
    return [(name, raw) for name, raw in (headers | named).items() if raw is not None]


@each_event
def test_the_cloudevents_sdk_and_the_plain_form_say_the_same(topic: str, event: Event) -> None:
    kafka = pytest.importorskip("cloudevents.core.bindings.kafka")
    json_format = pytest.importorskip("cloudevents.core.formats.json").JSONFormat()
    attributes = {
        "type": event["type"],
        "id": event["id"],
        "source": SOURCE,
        "time": datetime(2026, 11, 24, 8, tzinfo=UTC),
        "datacontenttype": "application/json",
        "partitionkey": KEYS[topic].decode(),
        "subject": "ignored",
    }
    cloud_event = pytest.importorskip("cloudevents.core.v1.event").CloudEvent(
        attributes, data_of(event)
    )
    for message in (
        kafka.to_binary(cloud_event, json_format),
        kafka.to_structured(cloud_event, json_format),
    ):
        assert message.key == KEYS[topic].decode()
        decoded = DECODERS[topic](KEYS[topic], message.value, list(message.headers.items()))
        assert decoded == (read(event), SOURCE)


@each_event
def test_cloudevents_in_both_modes(topic: str, event: Event) -> None:
    expected = (read(event), SOURCE)
    decode, key = DECODERS[topic], KEYS[topic]
    assert decode(key, orjson.dumps(data_of(event)), binary(event)) == expected
    assert decode(key, orjson.dumps(event), binary(event)) == expected
    utf8 = [("Content-Type", b"application/cloudevents+json; charset=UTF-8")]
    assert decode(key, structured(event), utf8) == expected
    assert decode(key, structured(event), [("content-type", b"application/json")]) == expected
    assert decode(key, structured(event), None) == expected


def test_a_cloudevent_needs_little() -> None:
    only = [("ce_type", b"user.upserted"), ("ce_id", b"order #1 / \xc3\xa4")]
    decoded = DECODERS["user-changes"](b"contoso/u1", orjson.dumps(data_of(USER)), only)
    assert decoded == (read(USER)._replace(id="order #1 / ä"), "")
    value = structured(USER, source=None, time=None, datacontenttype=None, data_base64=None)
    assert DECODERS["user-changes"](b"contoso/u1", value, None) == (read(USER), "")
    bare = structured(USER, specversion=DROP, source=DROP)
    header = [("Content-Type", b"application/cloudevents+json")]
    assert DECODERS["user-changes"](b"contoso/u1", bare, header) == (read(USER), "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ce_type": b"user.updated"}, "type is 'user.updated'; it must be one of"),
        ({"ce_type": b"\xff"}, "type is '\\udcff'; it must be one of"),
        ({"ce_type": b"group.deleted"}, "belongs to the topic group-changes"),
        ({"ce_specversion": b"0.3"}, "specversion is '0.3'; it must be 1.0"),
        ({"ce_id": None}, "id is missing; it must be 1 to 256 printable characters"),
        ({"ce_id": b""}, "id is empty; it must be 1 to 256 printable characters"),
        ({"ce_id": b"\xff"}, "id is '\\udcff'; it must be 1 to 256 printable characters"),
        ({"ce_id": b"x" * 257}, "(257 characters); it must be 1 to 256 printable characters"),
        ({"ce_source": b"a\nb"}, "source is 'a\\nb'; it must be at most 1024 printable"),
        ({"content_type": b"application/avro"}, "datacontenttype is 'application/avro'; it must"),
    ],
)
def test_malformed_binary_mode(changes: dict[str, bytes | None], words: str) -> None:
    value = orjson.dumps(data_of(USER))
    assert words in refuse("user-changes", b"contoso/u1", value, binary(USER, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": DROP}, "type is missing; it must be one of"),
        ({"type": 5}, "type is 5; it must be one of"),
        ({"id": 5}, "id is 5; it must be 1 to 256 printable characters"),
        ({"source": {}}, "source is an object; it must be at most 1024 printable characters"),
        ({"time": 5}, "time is 5; it must be a string, null, or absent"),
        ({"specversion": "0.3"}, "specversion is '0.3'; it must be 1.0"),
        ({"datacontenttype": "text/xml"}, "datacontenttype is 'text/xml'; it must be application"),
        ({"datacontenttype": ["application/json"]}, "datacontenttype is a list of length 1; it "),
        ({"data": None}, "data is missing; it must be an object"),
        ({"data": "{}"}, "data is '{}'; it must be an object"),
        ({"data": {"tenant": "contoso"}}, "user is missing"),
        ({"data": DROP, "data_base64": "e30="}, "data_base64 is not read here; the event must be"),
    ],
)
def test_malformed_structured_mode(changes: Event, words: str) -> None:
    value = structured(USER, **changes)
    assert words in refuse("user-changes", b"contoso/u1", value, None)


@pytest.mark.parametrize("media", ["application/cloudevents-batch+json", "application/cloudevents"])
def test_only_one_event_in_a_record(media: str) -> None:
    reason = refuse(
        "user-changes", b"contoso/u1", structured(USER), [("content-type", media.encode())]
    )
    assert "it must be application/cloudevents+json, one event in a record" in reason
