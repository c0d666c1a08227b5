"""Kafka's default partitioner: murmur2 of the key bytes (contract, section 1)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from engine.native import load_extension

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine word where this is compiled

MASK: Final = 0xFFFFFFFF
M: Final = 0x5BD1E995
SEED: Final = 0x9747B28C
WORDS: Final = [struct.Struct(f"<{n}I").unpack_from for n in range(64)]

_native: Final = load_extension("engine.native.partitioner")


def _times_m(value: i64) -> i64:
    """Modulo 2**32, by halves: small enough for a machine word."""
    return ((value & 0xFFFF) * M + (((value >> 16) * M & 0xFFFF) << 16)) & MASK


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of Kafka's clients, unsigned."""
    length = len(data)
    words = length >> 2
    unpack = WORDS[words] if words < len(WORDS) else struct.Struct(f"<{words}I").unpack_from
    h: i64 = SEED ^ length
    word: i64
    for word in unpack(data):
        k = _times_m(word)
        h = _times_m(h) ^ _times_m(k ^ k >> 24)
    if rest := data[words << 2 :]:
        word = int.from_bytes(rest, "little")
        h = _times_m(h ^ word)
    h = _times_m(h ^ h >> 13)
    return h ^ h >> 15


def partition_of(key: str | bytes, partitions: int) -> int:
    """Returns the partition of a key among ``partitions``."""
    data = key if isinstance(key, bytes) else key.encode()
    hashed: int = murmur2(data) if _native is None else _native.murmur2(data)
    return (hashed & 0x7FFFFFFF) % partitions
