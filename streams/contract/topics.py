"""The topic table: every topic of an installation with its key, its cleanup and the reason for it.

Inputs and outputs are the contract's (section 1). Internal topics carry the messages between
partitions. The one changelog holds every table of a partition, including the applied offsets, so
that a transaction writes the state of all machines to a single log.

The table is pure data; ``streams/kafka/topic_admin.py`` creates and checks the topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MIB: Final = 1 << 20
DAY_MS: Final = 24 * 3600 * 1000

# An input record over the contract's 1 MiB must still reach a worker to become a dead letter, and a
# dead letter is longer than its record by the headers.
# The broker's clock is the only one that counts: no producer decides who waits longest (R8). The
# broker unpacks what producers compress, so that `max.message.bytes` bounds what a worker reads.
_INPUT: Final = {
    "max.message.bytes": 4 * MIB,
    "message.timestamp.type": "LogAppendTime",
    "compression.type": "uncompressed",
}
_STATE: Final = {"max.message.bytes": 8 * MIB}
# Long enough for workers that were stopped over a holiday.
_INTERNAL: Final = {**_STATE, "retention.ms": 7 * DAY_MS}
# Young segments are compacted too, so that a restore reads little more than one record per row.
_COMPACTED: Final = {**_STATE, "segment.bytes": 64 * MIB, "min.cleanable.dirty.ratio": 0.2}
_ERRORS: Final = {**_COMPACTED, "retention.ms": 365 * DAY_MS}
# Kafka never compacts the newest segment, and a restore reads it in full: keep it small.
_CHANGELOG: Final = {**_COMPACTED, "segment.bytes": 16 * MIB, "segment.ms": DAY_MS // 24}


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table."""

    name: str  # without SEATFLOW_TOPIC_PREFIX
    key: str  # of its records; Kafka's default partitioner places inputs by it
    cleanup: str  # cleanup.policy
    why: str  # the reason for the cleanup, and what the topic is for
    config: Mapping[str, Any] = field(default_factory=dict)  # further topic settings of Kafka


_DELETE, _COMPACT = "delete", "compact"
_FACTS = "facts in order: the state of a user or group follows from all of them"
_LATEST = "the latest definition of each key replaces the earlier ones"

INPUTS: Final = (
    Topic("user-changes", "tenant/user", _DELETE, _FACTS, _INPUT),
    Topic("group-changes", "tenant/group", _DELETE, _FACTS, _INPUT),
    Topic("catalog", "skuId", _COMPACT, _LATEST, _INPUT),
    Topic("subscriptions", "tenant/skuId", _COMPACT, _LATEST, _INPUT),
    Topic("tenants", "tenant", _COMPACT, _LATEST, _INPUT),
)

_MESSAGE = "each message is applied once; the state that it led to is in the changelog"
INTERNAL: Final = (
    Topic("internal.configuration", "skuId, tenant or tenant/group", _DELETE, _MESSAGE, _INTERNAL),
    Topic("internal.seat-requests", "tenant/skuId", _DELETE, _MESSAGE, _INTERNAL),
    Topic("internal.seat-grants", "tenant/skuId", _DELETE, _MESSAGE, _INTERNAL),
    Topic("internal.group-reports", "tenant/group", _DELETE, _MESSAGE, _INTERNAL),
    Topic("internal.address-claims", "tenant or tenant/address", _DELETE, _MESSAGE, _INTERNAL),
    Topic("internal.address-verdicts", "tenant or tenant/user", _DELETE, _MESSAGE, _INTERNAL),
    Topic(
        "internal.forwarded-events",
        "the original key",
        _DELETE,
        "each event is applied once, by the partition of its key: another partitioner put it on"
        " the wrong partition of its input topic (R29)",
        _INTERNAL,
    ),
)

_STATE_OF = "the current state of each key; a reader needs only the latest record"
_HISTORY = "a history: kept as long as the broker's retention says"
OUTPUTS: Final = (
    Topic("user-licenses", "tenant/user", _COMPACT, _STATE_OF, _COMPACTED),
    Topic(
        "errors",
        "tenant/user/group/skuId",
        "compact,delete",
        "the open errors; one that is open for a year leaves the log, and stays in user-licenses",
        _ERRORS,
    ),
    Topic("group-status", "tenant/group", _COMPACT, _STATE_OF, _COMPACTED),
    Topic("product-seats", "tenant/skuId", _COMPACT, _STATE_OF, _COMPACTED),
    Topic("results", "the key of the change", _DELETE, _HISTORY, _STATE),
    Topic("audit", "tenant/user, tenant/group or tenant/skuId", _DELETE, _HISTORY, _STATE),
    Topic("dead-letters", "the original key", _DELETE, _HISTORY, _STATE),
)

CHANGELOG: Final = Topic(
    "changelog", "table|key", _COMPACT, "the rows of all tables; a restore reads it", _CHANGELOG
)
# Created by `seatflow receive`, its only reader and writer: installations without it do without.
RECEIVED: Final = Topic(
    "internal.received-resources",
    "tenant/kind/id",
    _COMPACT,
    "the SCIM resources as their sources know them; the receiver reads them back at its start",
    {"max.message.bytes": 4 * MIB},
)

TOPICS: Final = (*INPUTS, *INTERNAL, *OUTPUTS, CHANGELOG)
MENDED: Final = ("message.timestamp.type", "compression.type", "max.compaction.lag.ms")
"""The settings that `seatflow topics create` also sets on topics that exist."""
INPUT_NAMES: Final = tuple(topic.name for topic in INPUTS)
INTERNAL_NAMES: Final = tuple(topic.name for topic in INTERNAL)
OUTPUT_NAMES: Final = tuple(topic.name for topic in OUTPUTS)
CONSUMED: Final = (*INTERNAL_NAMES, *INPUT_NAMES)
"""What a partition reads, first things first: a grant must not queue behind a backlog of input,
and an event that was forwarded arrived before those that are still in their input topic."""
PRODUCED: Final = (*INTERNAL_NAMES, *OUTPUT_NAMES, CHANGELOG.name)
"""What a partition writes."""

USER_CHANGES: Final = "user-changes"
DEAD_LETTERS: Final = "dead-letters"
SEAT_REQUESTS: Final = "internal.seat-requests"
FORWARDED_EVENTS: Final = "internal.forwarded-events"
UNANNOUNCED: Final = (FORWARDED_EVENTS,)
"""Topics that a worker reads without naming them to the consumer group: the earlier release, which
does not know them, may lead the group or be a member (``streams/kafka/assignor.py``)."""
ADDED: Final = UNANNOUNCED
"""Topics that earlier releases did not have: a worker makes them where it finds all others."""
