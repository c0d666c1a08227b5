"""Seats for the users of one partition: user events and grants in; requests and outcomes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.domain.effects import as_json
from engine.domain.events import Delivered, MembershipAdded, MembershipRemoved, UserUpserted
from engine.domain.model import ServicePlan
from engine.partition_machine import PartitionMachine
from engine.state.message_codecs import (
    CONFIGURATION,
    SEAT_GRANTS,
    SEAT_REQUESTS,
    ConfigurationMessage,
    SeatGrantMessage,
    SeatRequestMessage,
    decode_seat_request,
    encode_configuration,
    encode_seat_grant,
)
from engine.state.row_codecs import encode_group, encode_product
from engine.state.seat_row_codecs import decode_lease

GRANT = SeatGrantMessage("t", "base", 0, 0, 0, 0, True, 0, 0, 9, 9, 5_000, "grant")


class Partition:
    """A partition with the products base and extra, each licensed by the group of its name."""

    def __init__(self) -> None:
        self.machine = PartitionMachine(0, 1)
        self.records: list[Any] = []
        self.rows: dict[tuple[str, str], Any] = {}
        self.at = 1_000
        for sku in ("base", "extra"):
            plans = (ServicePlan(f"{sku}-plan", sku),)
            self._configure("product", "", "", encode_product(sku, sku, sku, plans))
            self._configure("group", "t", sku, encode_group(1, {sku: []}, False))

    def _configure(self, kind: str, tenant: str, group: str, row: list[Any]) -> None:
        message = ConfigurationMessage(kind, tenant, group, row, 1_000, "e0")
        self._handle(CONFIGURATION, encode_configuration(message))

    def _handle(self, topic: str, *values: Any) -> None:
        self.records = []
        batch = []
        for value in values:
            self.at += 1
            batch.append(Delivered(value, self.at, self.at))
        self.machine.handle(topic, batch)
        effects = self.machine.drain_effects()
        self.records += effects.records
        self.rows |= effects.rows

    def join(self, user: str, *groups: str) -> None:
        known = UserUpserted(f"new-{user}", "t", user, usage_location="US")
        joins = [MembershipAdded(f"{user}-{g}", "t", user, g) for g in groups]
        self._handle("user-changes", known, *joins)

    def leave(self, user: str, group: str) -> None:
        self._handle("user-changes", MembershipRemoved(f"left-{user}", "t", user, group))

    def grant(self, seq: int, sku: str = "base", **numbers: Any) -> None:
        message = GRANT._replace(sku=sku, grant_seq=seq, **numbers)
        self._handle(SEAT_GRANTS, encode_seat_grant(message))

    def requests(self) -> list[SeatRequestMessage]:
        """Returns the seat requests that the last batch sent."""
        return [decode_seat_request(v) for topic, _, _, v in self.records if topic == SEAT_REQUESTS]

    def seats(self, sku: str = "base") -> tuple[int, int, int, int]:
        """Returns what the lease has: used, reserved, idle, waiting."""
        lease = self.machine.configuration.tenant("t").leases[sku]
        return lease.used, lease.reserved, lease.idle, lease.waiting


def test_users_without_a_unit_are_requested_for_in_one_message_oldest_first() -> None:
    partition = Partition()
    partition.join("b", "base")
    partition.join("a", "base")
    [request] = partition.requests()
    assert [user for _, user in request.longest_waiting] == ["b", "a"]
    assert (request.demand, request.requested_seq, request.used) == (2, 2, 0)


@pytest.mark.parametrize(
    ("numbers", "seats", "demand"),
    [
        ({"granted": 1, "contended": False}, (1, 0, 0, 0), 0),
        ({"granted": 3, "contended": False}, (1, 0, 2, 0), 0),
        ({"granted": 3, "contended": True}, (1, 0, 0, 0), 0),  # what is not needed is returned
        ({"denied_seq": 1, "answered_seq": 1}, (0, 0, 0, 1), 1),  # waits, and is still wanted
        ({"answered_seq": 1}, (0, 0, 0, 0), 1),  # an older user got it: requested again
    ],
)
def test_an_answer_gives_or_denies_the_seat(
    numbers: dict[str, Any], seats: tuple[int, int, int, int], demand: int
) -> None:
    partition = Partition()
    partition.join("a", "base")
    partition.grant(1, **numbers)
    assert partition.seats() == seats
    assert partition.machine.configuration.tenant("t").leases["base"].demand(True) == demand


def test_idle_units_need_no_request() -> None:
    partition = Partition()
    partition.join("a", "base")
    partition.grant(1, granted=2, contended=False)
    partition.join("b", "base")
    assert partition.requests() == []
    assert partition.seats() == (2, 0, 0, 0)


def test_an_older_grant_raises_what_is_granted_and_nothing_else() -> None:
    partition = Partition()
    partition.join("a", "base")
    partition.grant(2, granted=1, contended=False)
    partition.grant(1, granted=0, contended=True, denied_seq=1)
    assert partition.seats() == (1, 0, 0, 0)


def test_seats_are_requested_in_skuid_order_and_kept_until_all_are_decided() -> None:
    partition = Partition()
    partition.join("a", "base", "extra")
    assert [r.sku for r in partition.requests()] == ["base"]
    partition.grant(1, granted=1)
    assert [r.sku for r in partition.requests() if r.demand] == ["extra"]
    assert partition.seats("base") == (0, 1, 0, 0)
    partition.grant(1, "extra", denied_seq=1, answered_seq=1)
    assert partition.seats("base") == (1, 0, 0, 0)
    assert partition.seats("extra") == (0, 0, 0, 1)


def test_a_change_of_the_user_returns_its_reservations() -> None:
    partition = Partition()
    partition.join("a", "base", "extra")
    partition.grant(1, granted=1)
    partition.leave("a", "base")
    assert partition.seats("base") == (0, 0, 0, 0)
    row = decode_lease(partition.rows["leases", "t/base"])
    assert (row.granted, row.returned) == (1, 1)


def test_a_freed_unit_goes_to_the_user_who_waits_when_the_owner_grants_it() -> None:
    partition = Partition()
    partition.join("a", "base")
    partition.grant(1, granted=1)
    partition.join("b", "base")
    partition.grant(2, granted=1, denied_seq=9, answered_seq=9)
    assert partition.seats() == (1, 0, 0, 1)
    partition.leave("a", "base")
    [request] = partition.requests()
    assert (request.returned, request.used, request.demand) == (1, 0, 1)
    partition.grant(3, granted=2)
    assert partition.seats() == (1, 0, 0, 0)


def test_requests_and_reservations_are_rebuilt_from_the_rows() -> None:
    partition = Partition()
    partition.join("a", "base", "extra")
    partition.grant(1, granted=1)
    restored = Partition()
    restored.machine = PartitionMachine(0, 1)
    for (table, key), row in partition.rows.items():
        restored.machine.load(table, key, json.loads(as_json(row)))
    restored.machine.start()
    assert restored.seats("base") == (0, 1, 0, 0)
    restored.grant(1, "extra", granted=1)
    assert (restored.seats("base"), restored.seats("extra")) == ((1, 0, 0, 0), (1, 0, 0, 0))
