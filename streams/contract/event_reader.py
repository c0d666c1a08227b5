"""Reads an event without its Kafka record: topic and key follow from the event's members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from engine.domain.events import InputEvent
from streams.contract.decoder import DECODERS, MAX_VALUE_BYTES, Rejected
from streams.contract.event_types import EventType, resolve
from streams.contract.rejection import DecodeError
from streams.contract.unknown_members import UnknownMember, unknown_members


class Event(NamedTuple):
    """An event in every form: its record, the decoded event, and its CloudEvents source.

    ``unknown``: the members of its body that are ignored.
    """

    topic: str
    key: bytes
    value: bytes
    event: InputEvent
    source: str
    type: EventType
    unknown: Sequence[UnknownMember] = ()


def event_of(value: bytes) -> Event | str:
    """Returns the event with its record, or the reason why the value is no event."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return _reason("user-changes", value)
    if type(body) is not dict:
        return _reason("user-changes", value)
    members = body
    if "specversion" in body and type(body.get("data")) is dict:
        members = body["data"]  # a CloudEvent in structured mode
    try:
        event_type = resolve(body.get("type"), members)
    except DecodeError as error:
        return str(error.args[0])
    key = _encoded(event_type.key_of(members))
    if key is None:
        return _reason(event_type.topic, value)
    parsed = body if len(value) <= MAX_VALUE_BYTES else None
    decoded = DECODERS[event_type.topic](key, value, None, parsed)
    unknown = unknown_members(event_type, members)
    if type(decoded) is Rejected:
        misspelt = [each for each in unknown if each.meant]
        hint = f"; unknown: {', '.join(map(str, misspelt[:3]))}" if misspelt else ""
        return decoded.reason + hint
    event, source = decoded  # type: ignore[misc]
    return Event(event_type.topic, key, value, event, source, event_type, unknown)


def _encoded(key: str | None) -> bytes | None:
    """Returns the key as bytes; None where there is none: the decoder tells what is wrong."""
    try:
        return None if key is None else key.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


def _reason(topic: str, value: bytes) -> str:
    decoded = DECODERS[topic](None, value, None)
    return decoded.reason if isinstance(decoded, Rejected) else "the event has no key"
