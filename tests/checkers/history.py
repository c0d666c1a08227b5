"""The history of a run: its records, and the facts that follow from the input alone.

Records are in the order in which they were appended. If that order is not known across partitions
(real Kafka), sort by timestamp: only `seats.never_oversold` compares records of different keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.spec.contract import EVENTS, UnreadableError, read

Json = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One Kafka record. `topic` is without its prefix; `value` is bytes, decoded JSON or None."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes | Json | None
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def raw(self) -> bytes | None:
        """The value as bytes; None for a tombstone."""
        if self.value is None or isinstance(self.value, bytes):
            return self.value
        return json.dumps(self.value, separators=(",", ":")).encode()

    @cached_property
    def document(self) -> Json | None:
        """The value of an output record."""
        if not isinstance(self.value, bytes):
            return self.value
        document: Json = json.loads(self.value)
        return document


@dataclass(frozen=True)
class Violation:
    """A broken rule, found by the check of that name."""

    check: str
    text: str

    def __str__(self) -> str:
        return f"{self.check}: {self.text}"


class History:
    """All records of a run, sorted into readable events, bad input and outputs."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self.events: list[Json] = []  # readable, each once (R24), with "topic" and "key" added
        self.bad: list[Record] = []
        seen: set[tuple[object, ...]] = set()
        for record in self.records:
            if record.topic not in EVENTS:
                continue
            try:
                event = read(record.topic, record.key, record.raw, record.headers)
            except UnreadableError:
                self.bad.append(record)
                continue
            identity = (record.topic, event.get("tenant"), event["type"], event["id"])
            if identity not in seen:
                seen.add(identity)
                self.events.append(event | {"topic": record.topic, "key": record.key})

    @cached_property
    def by_topic(self) -> dict[str, list[Record]]:
        """All records by topic, in their order."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            found.setdefault(record.topic, []).append(record)
        return found

    def log(self, topic: str) -> list[tuple[str, Json | None]]:
        """Returns the keys and documents of a topic in their order."""
        return [(r.key or "", r.document) for r in self.by_topic.get(topic, [])]

    def latest(self, topic: str) -> dict[str, Json]:
        """Returns the last value of each key, without the keys that end with a tombstone."""
        values = dict(self.log(topic))
        return {key: value for key, value in values.items() if value is not None}

    @cached_property
    def users(self) -> dict[str, Json]:
        """tenant/user -> the final published state."""
        return self.latest("user-licenses")


def states(user: Json) -> list[Json]:
    """Returns the licence assignment states of a published user."""
    found: list[Json] = user["licenseAssignmentStates"]
    return found


def is_entry(state: Json) -> bool:
    """Returns True if the user has this licence, with or without an error."""
    return state["state"] in ("Active", "Disabled", "ActiveWithError")


def held_products(user: Json | None) -> set[str]:
    """Returns the products of which the user holds a licence."""
    return {s["skuId"] for s in states(user) if is_entry(s)} if user else set()


def tenant_of(key: str) -> str:
    """Returns the tenant of a key."""
    return key.split("/")[0]


def after_tenant(key: str) -> str:
    """Returns the part of a key after the tenant."""
    return key.partition("/")[2]
