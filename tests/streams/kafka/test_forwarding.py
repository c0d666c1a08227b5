"""A forwarded record arrives as it was found, and nothing else is taken for one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.partitioner import partition_of
from engine.state.formats import MESSAGE_FORMAT, NewerFormatError
from streams.contract.decoder import DECODERS
from streams.kafka.forwarding import ORIGIN, Origin, forward, received

AT = 1_764_000_000_000


def found(*headers: tuple[str, bytes | None], value: bytes = b"{}") -> Any:
    return SimpleNamespace(
        key=b"contoso/ann", value=value, headers=headers, offset=17, timestamp=AT
    )


def sent(record: Any) -> Any:
    """The record as the owner of the key reads it."""
    out = forward(record, "user-changes", 2, lambda key: partition_of(key, 8))
    assert out.partition == partition_of(record.key, 8)
    return SimpleNamespace(key=out.key, value=out.value, headers=out.headers, offset=3, timestamp=9)


@given(
    value=st.binary(max_size=50),
    headers=st.lists(
        st.tuples(st.sampled_from(("ce_id", "Content-Type", "ce_x")), st.none() | st.binary())
    ),
)
def test_a_record_arrives_with_its_place_and_time(
    value: bytes, headers: list[tuple[str, bytes | None]]
) -> None:
    record = received(sent(found(*headers, value=value)))
    assert not isinstance(record, str)
    assert (record.key, record.value) == (b"contoso/ann", value)
    assert list(record.headers) == [each for each in headers if each[1] is not None]
    assert (record.offset, record.timestamp) == (17, AT)
    assert record.origin == Origin("user-changes", 2, 17, AT)


def test_headers_that_are_not_read_stay_behind() -> None:
    record = received(sent(found(("trace", b"1"), ("ce_type", b"user.deleted"))))
    assert not isinstance(record, str)
    assert record.headers == [("ce_type", b"user.deleted")]


def test_an_event_without_headers_is_read_by_the_short_way() -> None:
    """The scanner of common events reads none with headers."""
    value = b'{"type":"user.deleted","id":"1","tenant":"contoso","user":"ann"}'
    record = received(sent(found(value=value)))
    assert not isinstance(record, str)
    assert not record.headers
    batch, rejected = DECODERS["user-changes"].decode_all([record])
    assert not rejected
    assert (batch[0].event.user, batch[0].at, batch[0].offset) == ("ann", AT, 17)


NOT_WRITTEN_BY_A_WORKER: list[Any] = [
    None, b"", b"x", b"{}", b"[]", [0, "user-changes", 1, 2, AT], [True, "user-changes", 1, 2, AT],
    [1, "audit", 1, 2, AT], [1, "user-changes", 1, 2], [1, "user-changes", 1, 2, AT, 5],
    [1, "user-changes", "1", 2, AT], [1, "user-changes", -1, 2, AT],
    [1, "user-changes", 1, -2, AT], [1, "user-changes", 1, 2, 1 << 62],
    [1, "user-changes", 1, 1 << 63, AT], [1, None, 1, 2, AT],
]  # fmt: skip


@pytest.mark.parametrize("header", NOT_WRITTEN_BY_A_WORKER, ids=str)
def test_what_no_worker_has_written_is_refused(header: Any) -> None:
    raw = orjson.dumps(header) if isinstance(header, list) else header
    assert ORIGIN in str(received(found((ORIGIN, raw))))


def test_a_record_without_its_origin_is_refused() -> None:
    assert received(found(("ce_id", b"1"))) == f"it has no header {ORIGIN}"
    assert isinstance(received(SimpleNamespace(key=b"k", value=b"v", headers=None)), str)


def test_the_format_of_a_later_release_is_refused() -> None:
    with pytest.raises(NewerFormatError):
        received(found((ORIGIN, orjson.dumps([MESSAGE_FORMAT + 1, "anything"]))))
