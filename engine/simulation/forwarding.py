"""Forwarded events in the simulator (R29): what ``streams/worker/record_reader.py`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from engine.domain import events as ev
from engine.domain.events import Delivered
from engine.domain.partitioner import partition_of
from engine.partition_machine import PartitionMachine
from engine.simulation.in_memory_cluster import INPUTS

FORWARDED_EVENTS = "internal.forwarded-events"


class Forwarded(NamedTuple):
    """An event as it was found in its input topic."""

    topic: str
    found: Delivered


def found_partition(key: str, partitions: int, mixed: bool) -> int:
    """Returns where the key's producer puts its events; ``mixed``: half of them use CRC32."""
    found = crc32(key.encode())
    if mixed and found & 1 << 16:
        return found % partitions
    return partition_of(key, partitions)


def owner_of(forwarded: Forwarded, partitions: int) -> int:
    """Returns the partition of the event's key."""
    event = forwarded.found.event
    if isinstance(event, ev.ProductDefined):
        key = event.sku
    elif isinstance(event, ev.TenantUpdated):
        key = event.tenant
    else:
        key = f"{event.tenant}/{event[2]}"
    return partition_of(key, partitions)


def event_id(topic: str, delivered: Delivered) -> str:
    """Returns the id of an event in its input topic, or forwarded."""
    event = delivered.event.found.event if topic == FORWARDED_EVENTS else delivered.event
    return str(event.id)


def is_applied(machine: PartitionMachine, topic: str, delivered: Delivered) -> bool:
    """Returns True for an event that the machine applies: it is neither a message nor forwarded."""
    if topic not in INPUTS:
        return topic == FORWARDED_EVENTS
    configuration = machine.configuration
    owner = owner_of(Forwarded(topic, delivered), configuration.partitions)
    return owner == configuration.number


def handle(machine: PartitionMachine, topic: str, batch: Sequence[Delivered]) -> list[Forwarded]:
    """Gives a batch of a topic to the machine; returns the events to be forwarded.

    Raises:
        AssertionError: a forwarded event belongs to yet another partition.
    """
    if topic != FORWARDED_EVENTS:
        misrouted = set(machine.handle(topic, batch).misrouted)
        return [Forwarded(topic, each) for each in batch if each.offset in misrouted]
    by_topic: dict[str, list[Delivered]] = {}
    for delivered in batch:
        by_topic.setdefault(delivered.event.topic, []).append(delivered.event.found)
    for name, events in by_topic.items():
        if wrong := machine.handle(name, events).misrouted:
            raise AssertionError(f"forwarded to a wrong partition: {name} {wrong}")
    return []
