"""Header names of any bytes: a batch that aiokafka's parser refuses is read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka.lenient_records import HEADER, LenientRecords, parse_batch

PACK: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: codec.gzip_encode,
    2: codec.snappy_encode,
    3: codec.lz4_encode,
    4: codec.zstd_encode,
}


def batch(headers: list[tuple[str, bytes | None]], compression: int = 0, base: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for offset, (key, value) in enumerate([(b"k", b"v" * 100), (None, b""), (b"", None)]):
        builder.append(offset, 1000 + offset, key, value, headers if offset else [])
    raw = bytes(builder.build())
    return struct.pack(">q", base) + raw[8:]


def broken(raw: bytes, compression: int, *names: bytes) -> bytes:
    """Replaces the header names ``aaaa`` by other bytes of the same length."""
    unpack = {0: bytes, 1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode}
    payload = (unpack | {4: codec.zstd_decode})[compression](raw[HEADER.size :])
    for name in names:
        payload = payload.replace(b"aaaa", name)
    packed = PACK[compression](payload)
    return (
        raw[:8] + struct.pack(">i", HEADER.size - 12 + len(packed)) + raw[12 : HEADER.size] + packed
    )


def taken(records: Any) -> list[tuple[Any, ...]]:
    found = []
    while records.has_next():
        found += [
            (r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers))
            for r in records.next_batch()
        ]
    return found


@pytest.mark.parametrize("compression", PACK)
def test_a_name_that_is_not_utf_8_is_escaped(compression: int) -> None:
    whole = batch([("aaaa", b"\xff"), ("b", None)], compression, base=40)
    raw = broken(whole, compression, b"\xff\xfe\x00z")
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        taken(MemoryRecords(raw))
    assert taken(LenientRecords(raw + whole)) == [
        (40, 1000, 0, b"k", b"v" * 100, []),
        (41, 1001, 0, None, b"", [("\\xff\\xfe\x00z", b"\xff"), ("b", None)]),
        (42, 1002, 0, b"", None, [("\\xff\\xfe\x00z", b"\xff"), ("b", None)]),
        *taken(MemoryRecords(whole)),
    ]


@pytest.mark.parametrize("compression", PACK)
def test_both_parsers_agree(compression: int) -> None:
    raw = batch([("name", b"value")] * 3, compression, base=7)
    both = [taken(MemoryRecords(raw)), taken(LenientRecords(raw))]
    records = [(*r[:5], r.headers) for r in parse_batch(raw)]
    assert both == [records, records]
    appended = bytearray(raw)
    appended[22] |= 8  # the broker's clock
    assert [r.timestamp for r in parse_batch(bytes(appended))] == [1002] * 3


def test_what_is_really_corrupt_is_refused() -> None:
    raw = bytearray(batch([("aaaa", b"x")]))
    raw[HEADER.size - 1] = 77  # records
    with pytest.raises(CorruptRecordException):
        taken(LenientRecords(bytes(raw)))
