"""Record batches whose header names may be any bytes, for every consumer of the process.

Kafka's protocol says that a header's name is UTF-8; no broker checks it, and aiokafka's parser
refuses the whole batch, for ever. Such a batch is read here; all others by aiokafka.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Final, NamedTuple

from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

PREFIX_BYTES: Final = 12  # of a batch: base offset, and the length of what follows
MAGIC_AT: Final = 16
# KIP-98: base offset, length, epoch, magic, CRC, attributes, last offset delta, first and largest
# timestamp, producer, its epoch, sequence, number of records.
HEADER: Final = Struct(">qiibIhiqqqhii")
UNPACK: Final[dict[int, Callable[[bytes], bytes]]] = {
    0: bytes,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}
CODEC_MASK: Final = 0x07
LOG_APPEND_TIME: Final = 0x08


class LenientRecord(NamedTuple):
    """A record with the attributes of aiokafka's."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class LenientBatch:
    """A batch as aiokafka parses it, or if it cannot, as this module does."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch, self._raw = batch, raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except (CorruptRecordException, UnicodeDecodeError):
            if self._raw[MAGIC_AT] < 2:  # without headers: it is really corrupt
                raise
            return iter(parse_batch(bytes(self._raw)))


class LenientRecords:
    """The batches of one fetch; has the methods of aiokafka's ``MemoryRecords``."""

    def __init__(self, raw: bytes) -> None:
        self._records, self._raw, self._position = MemoryRecords(raw), memoryview(raw), 0

    def size_in_bytes(self) -> int:
        """Returns the size of the fetch."""
        size: int = self._records.size_in_bytes()
        return size

    def has_next(self) -> bool:
        """Returns True if there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> LenientBatch:
        """Returns the next batch; only if ``has_next``."""
        start = self._position
        length = int.from_bytes(self._raw[start + 8 : start + PREFIX_BYTES], "big")
        self._position = start + PREFIX_BYTES + length
        return LenientBatch(self._records.next_batch(), self._raw[start : self._position])


def parse_batch(raw: bytes) -> list[LenientRecord]:
    """Returns the records of a batch of format 2; unreadable bytes of header names are escaped.

    Raises:
        CorruptRecordException: the bytes are not such a batch.
    """
    fields = HEADER.unpack_from(raw)
    base, attributes, first, largest, count = fields[0], fields[5], fields[7], fields[8], fields[12]
    append_time = bool(attributes & LOG_APPEND_TIME)
    try:
        buffer = bytearray(UNPACK[attributes & CODEC_MASK](raw[HEADER.size :]))
        position, records = 0, []
        for _ in range(count):
            _, position = decode_varint(buffer, position)  # the record's length
            delta, position = decode_varint(buffer, position + 1)  # after its attributes
            offset, position = decode_varint(buffer, position)
            key, position = _bytes(buffer, position)
            value, position = _bytes(buffer, position)
            headers, position = _headers(buffer, position)
            at = largest if append_time else first + delta
            records.append(LenientRecord(base + offset, at, int(append_time), key, value, headers))
    except (ValueError, IndexError, KeyError) as error:
        raise CorruptRecordException(f"a batch at offset {base} is corrupt: {error!r}") from error
    return records


def _bytes(buffer: bytearray, position: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(buffer, position)
    if length < 0:
        return None, position
    end = position + length
    if end > len(buffer):
        raise ValueError("a field is longer than the batch")
    return bytes(buffer[position:end]), end


def _headers(buffer: bytearray, position: int) -> tuple[list[tuple[str, bytes | None]], int]:
    count, position = decode_varint(buffer, position)
    headers = []
    for _ in range(count):
        name, position = _bytes(buffer, position)
        value, position = _bytes(buffer, position)
        headers.append(((name or b"").decode(errors="backslashreplace"), value))
    return headers, position


def install() -> None:
    """Makes every consumer of this process read such batches; safe to repeat."""
    fetcher.MemoryRecords = LenientRecords
