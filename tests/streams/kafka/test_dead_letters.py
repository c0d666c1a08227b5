"""Dead letters: whole where a topic takes them, else cut, with size and hash."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace

import pytest

from streams.contract.rejection import Rejected
from streams.kafka.dead_letters import CUT_VALUE_BYTES, MAX_BYTES, MAX_HEADER_BYTES, dead_letter


def letter(
    key: bytes | None, value: bytes | None, *headers: tuple[str, bytes | None]
) -> tuple[bytes | None, bytes | None, dict[str, bytes]]:
    record = SimpleNamespace(key=key, value=value, offset=7, headers=headers)
    why = Rejected("a reason\nof two lines", "bad_member")
    found = dead_letter(record, "licensing.user-changes", 3, 7, why)
    return found.key, found.value, dict(found.headers)


@pytest.mark.parametrize("value", [None, b"", b"\xff" * 100, b"x" * (MAX_BYTES - 1)])
def test_what_fits_is_unchanged(value: bytes | None) -> None:
    key, same, headers = letter(b"k", value)
    assert (key, same) == (b"k", value)
    assert headers == {
        "dlq.topic": b"licensing.user-changes",
        "dlq.partition": b"3",
        "dlq.offset": b"7",
        "dlq.code": b"bad_member",
        "dlq.reason": b"a reason of two lines",
    }


def test_a_value_that_is_too_large_is_cut() -> None:
    value = bytes(range(256)) * (MAX_BYTES // 256)
    key, cut, headers = letter(b"k", value)
    assert (key, cut) == (b"k", value[:CUT_VALUE_BYTES])
    assert headers["dlq.size"] == str(len(value)).encode()
    assert headers["dlq.sha256"] == sha256(value).hexdigest().encode()
    assert headers["dlq.truncated"] == b"value"


def test_a_key_that_is_too_large_is_cut_too() -> None:
    key, value, headers = letter(b"k" * (MAX_BYTES + 1), None)
    assert (len(key or b""), value) == (1024, None)
    key, value, headers = letter(b"k" * MAX_BYTES, b"value")
    assert (len(key or b""), value) == (1024, b"value")
    assert headers["dlq.truncated"] == b"key and value"
    assert headers["dlq.size"] == b"5"


def test_the_headers_of_a_cloud_event_are_kept() -> None:
    of_event = ("ce_type", b"user.deleted"), ("Content-Type", b"application/json")
    _, _, headers = letter(b"k", b"v", *of_event, ("ce_time", None), ("trace", b"1"))
    assert dict(of_event).items() < headers.items()
    assert not {"ce_time", "trace", "dlq.truncated"} & headers.keys()


def test_headers_that_are_too_large_are_left_out() -> None:
    _, value, headers = letter(b"k", b"v", ("ce_x", b"x" * MAX_HEADER_BYTES))
    assert value == b"v"
    assert headers["dlq.truncated"] == b"headers"
    assert "ce_x" not in headers
