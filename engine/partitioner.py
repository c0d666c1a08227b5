"""Kafka's default partitioner: murmur2 of the key bytes (contract, section 1)."""

from __future__ import annotations

from struct import unpack_from

MASK = 0xFFFFFFFF
M = 0x5BD1E995
SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of Kafka's clients, unsigned."""
    length = len(data)
    h = SEED ^ length
    words = length >> 2
    for k in unpack_from(f"<{words}I", data):
        k = k * M & MASK
        k = (k ^ k >> 24) * M & MASK
        h = h * M & MASK ^ k
    tail = data[words << 2 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * M & MASK
    h = (h ^ h >> 13) * M & MASK
    return h ^ h >> 15


def partition_of(key: str, partitions: int) -> int:
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
