"""The product machine: subscriptions and requests in; grants, counters and rows out."""

from __future__ import annotations

from typing import Any

from engine.domain.effects import Effects
from engine.domain.events import Delivered, SubscriptionUpdated
from engine.domain.partitioner import partition_of
from engine.machines.product_machine import ProductMachine
from engine.state.configuration import Configuration
from engine.state.message_codecs import (
    SEAT_GRANTS,
    SeatGrantMessage,
    SeatRequestMessage,
    decode_seat_grant,
    encode_seat_request,
)

KEY, PARTITIONS = "t/E3", 2
OWNER = partition_of(KEY, PARTITIONS)
REQUEST = SeatRequestMessage("t", "E3", 0, 1, 0, 0, 0, 0, 0, 0, [], 0, False, 2_000, "e9")


class Product:
    """A product machine at the partition that owns the product, or at another one."""

    def __init__(self, number: int = OWNER) -> None:
        self.effects = Effects()
        configuration = Configuration(number, PARTITIONS, lambda key: partition_of(key, PARTITIONS))
        self.machine = ProductMachine(configuration, self.effects, PARTITIONS)

    def buy(self, id: str, enabled: int, warning: int = 0, suspended: int = 0) -> list[int]:
        event = SubscriptionUpdated(id, "t", "E3", enabled, warning, suspended, 0)
        return self.machine.subscriptions([Delivered(event, 1_000, 7)])

    def request(self, **numbers: Any) -> None:
        message = encode_seat_request(REQUEST._replace(**numbers))
        self.machine.requests([Delivered(message, 2_000, 8)])

    def sent(self, topic: str) -> list[tuple[int | None, Any]]:
        """Takes the records of a topic, with their partitions."""
        found = [(p, value) for t, p, _, value in self.effects.records if t == topic]
        self.effects.records.clear()
        return found

    def grants(self) -> dict[int | None, SeatGrantMessage]:
        return {p: decode_seat_grant(value) for p, value in self.sent(SEAT_GRANTS)}


def test_counters_are_published_once_for_each_change() -> None:
    product = Product()
    product.buy("e1", 10, warning=2, suspended=5)
    product.machine.flush()
    [(_, value)] = product.sent("product-seats")
    assert value["prepaidUnits"] == {"enabled": 10, "warning": 2, "suspended": 5, "lockedOut": 0}
    assert (value["consumedUnits"], value["availableUnits"], value["waitingUsers"]) == (0, 12, 0)
    product.buy("e2", 10, warning=2, suspended=5)
    product.machine.flush()
    assert product.sent("product-seats") == []


def test_a_repeated_event_is_counted_and_changes_nothing() -> None:
    product = Product()
    product.buy("e1", 10)
    product.buy("e1", 99)
    assert product.machine.duplicates == 1
    assert product.machine.budgets[KEY].capacity == 10


def test_an_event_of_another_partitions_product_is_named_by_its_offset() -> None:
    product = Product(1 - OWNER)
    assert product.buy("e1", 10) == [7]
    assert not product.machine.budgets
    assert not product.effects.rows


def test_a_request_is_answered_to_its_partition_and_the_row_is_written() -> None:
    product = Product()
    product.buy("e1", 3)
    product.sent(SEAT_GRANTS)
    product.request(partition=1, demand=2, requested_seq=1, longest_waiting=[(1, "a"), (2, "b")])
    grant = product.grants()[1]
    assert (grant.granted, grant.answered_seq, grant.denied_seq, grant.grant_seq) == (2, 1, 0, 1)
    assert (grant.timestamp_ms, grant.caused_by) == (2_000, "e9")
    assert ("seats", KEY) in product.effects.rows


def test_a_request_that_cannot_be_met_is_denied_when_all_units_are_used() -> None:
    product = Product()
    product.buy("e1", 1)
    product.request(partition=1, demand=1, requested_seq=1, longest_waiting=[(1, "a")])
    product.request(partition=1, request_seq=2, granted=1, used=1)
    product.sent(SEAT_GRANTS)
    product.request(partition=0, demand=1, requested_seq=1, longest_waiting=[(2, "b")])
    assert product.grants()[0].denied_seq == 1


def test_a_restored_machine_publishes_no_counters_that_are_published_already() -> None:
    product = Product()
    product.buy("e1", 3)
    product.machine.flush()
    restored = Product()
    row = product.effects.rows["seats", KEY]
    assert row is not None
    restored.machine.load(KEY, row)
    restored.machine.start()
    restored.machine.flush()
    assert restored.sent("product-seats") == []
    restored.buy("e1", 9)
    assert restored.machine.duplicates == 1
