"""Dead letters: whole where a topic takes them, else cut, with size and hash."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace

import pytest

from streams.kafka.dead_letters import CUT_VALUE_BYTES, MAX_BYTES, dead_letter


def letter(
    key: bytes | None, value: bytes | None
) -> tuple[bytes | None, bytes | None, dict[str, bytes]]:
    record = SimpleNamespace(key=key, value=value, offset=7)
    found = dead_letter(record, "licensing.user-changes", 3, "a reason\nof two lines")
    return found.key, found.value, dict(found.headers)


@pytest.mark.parametrize("value", [None, b"", b"\xff" * 100, b"x" * (MAX_BYTES - 1)])
def test_what_fits_is_unchanged(value: bytes | None) -> None:
    key, same, headers = letter(b"k", value)
    assert (key, same) == (b"k", value)
    assert headers == {
        "dlq.topic": b"licensing.user-changes",
        "dlq.partition": b"3",
        "dlq.offset": b"7",
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
