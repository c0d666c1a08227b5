"""The decoder of the input contract (section 2): a record's bytes become an engine event.

``DECODERS`` has one decoder for each input topic, named without its prefix. Decoding is total: any
key, value and headers give an event or a ``Rejected``. Of members given twice in one JSON object
the last one counts, as in every common JSON reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import orjson
from orjson import loads

from engine.domain import events as ev
from engine.domain.events import ABSENT, InputEvent
from engine.native import load_extension
from streams.contract.cloudevents import Headers as Headers
from streams.contract.cloudevents import check_attributes, unwrap
from streams.contract.event_readers import READERS, Reader, new
from streams.contract.event_types import topics_of
from streams.contract.field_checks import LOCATIONS, SHARED_IDS, Body, check_id, shared_id
from streams.contract.rejection import DecodeError, escape_line, malformed, require_type
from streams.contract.rejection import Rejected as Rejected

MAX_VALUE_BYTES: Final = 1 << 20
REGISTRY_PREFIX_BYTES: Final = 5

NULL = "the value is null: an input topic carries events, not tombstones"

Decoded = tuple[InputEvent, str] | Rejected
"""The event and its CloudEvents source ("" for a plain event), or the reason for none."""

_scanner: Final = load_extension("streams.contract.scanner")


def _parse(value: bytes | None) -> Body:
    if value is None:
        raise DecodeError(NULL, "no_value")
    if len(value) > MAX_VALUE_BYTES:
        size = f"{len(value)} bytes; at most {MAX_VALUE_BYTES} are read"
        raise DecodeError(f"the value has {size}", "too_large")
    has_prefix = bool(value) and value[0] == 0  # no JSON begins so: a registry's 0 and schema id
    if has_prefix:
        value = value[REGISTRY_PREFIX_BYTES:]
    try:
        body = loads(value)
        return body if type(body) is dict else require_type(dict, body, "the value")
    except orjson.JSONDecodeError as error:
        where = f"{escape_line(error.msg, 200)} at line {error.lineno} column {error.colno}"
        if has_prefix:
            where += "; it has a schema registry's prefix, but Avro and Protobuf are not read"
        raise DecodeError(f"the value is not JSON: {where}", "not_json") from None


def members_of(value: bytes | None, headers: Headers | None) -> Body:
    """Returns the members of an event as the decoder reads them, for readers of further members.

    Without a schema registry's prefix, and without the envelope of a CloudEvent.
    Raises: DecodeError.
    """
    body = _parse(value)
    return unwrap(headers or (), body)[1] if headers or "specversion" in body else body


def _refuse_type(topic: str, kind: object) -> NoReturn:
    homes = topics_of(kind) if isinstance(kind, str) else []
    if homes:
        reason = f"type {kind} belongs to the topic {' or '.join(homes)}, not to {topic}"
        raise DecodeError(reason, "unknown_type")
    raise malformed("type", kind, f"one of {', '.join(READERS[topic])}", "unknown_type")


class Decoder:
    """The decoder of one input topic: called with the parts of a record, returns a ``Decoded``."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._readers: dict[str, Reader] = READERS[topic]
        self.scanner: Any = None  # reads the common form of users' events
        if topic == "user-changes" and _scanner is not None:
            self.scanner = _scanner.Scanner(ev, SHARED_IDS, shared_id, LOCATIONS)

    def __call__(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        parsed: Body | None = None,
    ) -> Decoded:
        """Decodes a record. ``parsed``: the value's JSON, if the caller has parsed it already."""
        try:
            return self.read(key, _parse(value) if parsed is None else parsed, headers)
        except DecodeError as error:
            return Rejected(*error.args)

    def read(
        self, key: bytes | None, body: Body, headers: Headers | None
    ) -> tuple[InputEvent, str]:
        """Returns the event and its source. Raises: DecodeError."""
        attributes = body
        if headers or "specversion" in body:
            attributes, body = unwrap(headers or (), body)
        kind = attributes.get("type", ABSENT)
        reader = self._readers.get(kind) if type(kind) is str else None
        if reader is None:
            _refuse_type(self.topic, kind)
        if attributes is body:
            event, source = check_id(body.get("id", ABSENT), "id"), ""
        else:
            event, source = check_attributes(attributes)
        time = attributes.get("time")
        if time is not None and type(time) is not str:  # informational: any string will do
            raise malformed("time", time, "a string, null, or absent")
        return reader(body, event, key), source

    def decode_all(
        self, records: Sequence[Any]
    ) -> tuple[list[ev.Delivered], list[tuple[Any, Rejected]]]:
        """Returns the events of a batch of records, and the rejected records with the reason.

        The native scanner keeps state between records, so only one thread may call this.
        """
        batch: list[ev.Delivered] = []
        rejected: list[tuple[Any, Rejected]] = []

        def read(record: Any) -> None:
            try:
                event, source = self.read(record.key, _parse(record.value), record.headers)
            except DecodeError as error:
                rejected.append((record, Rejected(*error.args)))
            else:
                batch.append(new(ev.Delivered, (event, record.timestamp, record.offset, source)))

        if self.scanner is not None:
            self.scanner.read_all(records, batch, read)
        else:
            for record in records:
                read(record)
        return batch, rejected


DECODERS: dict[str, Decoder] = {topic: Decoder(topic) for topic in READERS}
