"""Dead letters as JSON and back, and the records that are sent for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contract.rejection import Rejected
from streams.ingest.dead_letters import (
    Filter,
    InputRecord,
    Letter,
    as_json,
    input_record,
    letter_from_json,
    letter_of,
)
from streams.kafka.dead_letters import dead_letter

EVENT = {"type": "user.deleted", "id": "1", "tenant": "contoso", "user": "ann"}
VALUE = orjson.dumps(EVENT)
OF_EVENT = [("ce_type", b"user.deleted"), ("ce_id", b"1")]


def read_back(key: bytes | None, value: bytes | None, headers: Any = ()) -> Letter:
    """The letter that a worker writes for a record, as the command reads it."""
    record = SimpleNamespace(key=key, value=value, offset=17, headers=headers)
    why = Rejected("it is so", "not_json")
    written = dead_letter(record, "licensing.user-changes", 3, 17, why)
    read = SimpleNamespace(
        key=written.key, value=written.value, headers=written.headers,
        partition=3, offset=5, timestamp=1_764_000_000_000,
    )  # fmt: skip
    return letter_of(read, "licensing.")


def test_a_letter_says_where_it_was_found_and_why() -> None:
    assert as_json(read_back(b"contoso/ann", b"no JSON", OF_EVENT)) == {
        "place": "3@5",
        "at": "2025-11-24T16:00:00.000Z",
        "code": "not_json",
        "reason": "it is so",
        "topic": "user-changes",
        "found": "3@17",
        "key": "contoso/ann",
        "value": "no JSON",
        "headers": {"ce_type": "user.deleted", "ce_id": "1"},
    }


@given(key=st.none() | st.binary(), value=st.none() | st.binary() | st.just(VALUE))
def test_key_and_value_are_the_same_after_a_file(key: bytes | None, value: bytes | None) -> None:
    letter = letter_from_json(orjson.dumps(as_json(read_back(key, value))))
    assert isinstance(letter, Letter)
    assert (letter.key, letter.value) == (key, value)
    assert letter.topic == "user-changes"


def test_a_json_object_can_be_edited_in_place() -> None:
    document = as_json(read_back(b"contoso/ann", VALUE))
    assert document["value"] == EVENT
    document["value"] = EVENT | {"user": "bob"}
    document |= {"key": None}
    letter = letter_from_json(orjson.dumps(document))
    assert isinstance(letter, Letter)
    record = input_record(letter, mended=True)
    assert isinstance(record, InputRecord)
    assert record.key == b"contoso/bob"
    assert isinstance(input_record(letter), Rejected)


def test_topic_and_key_follow_from_the_event() -> None:
    letter = letter_from_json(orjson.dumps({"value": EVENT}))
    assert isinstance(letter, Letter)
    assert input_record(letter, mended=True) == ("user-changes", b"contoso/ann", VALUE, [])


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (Letter("user-changes", b"contoso/bob", VALUE), "contoso/ann"),
        (Letter("user-changes", b"contoso/ann", b"no JSON"), "not JSON"),
        (Letter("user-changes", b"contoso/ann", None), "null"),
        (Letter("group-changes", b"contoso/ann", VALUE), "user-changes"),
        (Letter("user-changes", b"contoso/ann", VALUE, truncated="value"), "not here in full"),
        (Letter("internal.seat-grants", b"contoso/e3", b"{}"), "no input topic"),
        (Letter("", None, b"{}"), "type"),
        (Letter("", None, None), "topic"),
    ],
)
def test_what_would_come_back_is_not_sent(letter: Letter, why: str) -> None:
    refused = input_record(letter, mended=True)
    assert isinstance(refused, Rejected)
    assert why in refused.reason


def test_a_cloud_event_is_sent_with_its_headers() -> None:
    body = orjson.dumps({"tenant": "contoso", "user": "ann"})
    record = input_record(read_back(b"contoso/ann", body, OF_EVENT))
    assert record == ("user-changes", b"contoso/ann", body, OF_EVENT)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"no", "not JSON"), (b"[]", "not an object"), (b'{"headers":[]}', "headers"),
        (b'{"headers":{"ce_id":1}}', "headers"), (b'{"topic":1}', "topic"),
        (b'{"key":1}', "key"), (b'{"value":[1]}', "value"), (b'{"valueBase64":"!"}', "base64"),
        (b'{"keyBase64":1}', "base64"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_letter_is_refused(line: bytes, why: str) -> None:
    found = letter_from_json(line)
    assert isinstance(found, str)
    assert why in found


def test_letters_are_chosen_by_code_topic_tenant_and_time() -> None:
    letter = read_back(b"contoso/ann", b"no JSON")
    assert Filter().matches(letter)
    assert Filter(frozenset({"not_json"}), frozenset({"user-changes"}), "contoso", 1).matches(
        letter
    )
    for other in (
        Filter(codes=frozenset({"wrong_key"})),
        Filter(topics=frozenset({"catalog"})),
        Filter(tenant="fabrikam"),
        Filter(since_ms=letter.at_ms + 1),
    ):
        assert not other.matches(letter)
    assert Filter(tenant="contoso").matches(read_back(b"wrong", VALUE))
