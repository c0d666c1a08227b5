"""Records whose header names are any bytes, which no producer library sends."""

from __future__ import annotations

import struct
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

PLACEHOLDER = "name"
CRC_AT, ATTRIBUTES_AT = 17, 21


class _RawNames:
    """A builder of a batch that replaces the placeholder by other bytes of the same length."""

    def __init__(self, builder: Any, name: bytes) -> None:
        self._real, self._name = builder, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._real, attribute)

    def build(self) -> bytearray:
        raw = bytearray(bytes(self._real.build()).replace(PLACEHOLDER.encode(), self._name))
        raw[CRC_AT:ATTRIBUTES_AT] = struct.pack(">I", calc_crc32c(bytes(raw[ATTRIBUTES_AT:])))
        return raw


async def produce_raw_header(
    bootstrap: str, topic: str, partition: int, key: bytes, value: bytes, name: bytes
) -> None:
    """Publishes one record with two headers of the name: one with bytes, one without a value."""
    assert len(name) == len(PLACEHOLDER)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        batch: Any = producer.create_batch()
        headers = [(PLACEHOLDER, b"\xff\x00"), (PLACEHOLDER, None)]
        batch.append(timestamp=None, key=key, value=value, headers=headers)
        batch._builder = _RawNames(batch._builder, name)
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()
