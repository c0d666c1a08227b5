"""The product machine: applies subscriptions and seat requests to the seat budgets.

It sends the grants and publishes the counters; the accounting is in
:mod:`engine.state.seat_budget`.
"""

from __future__ import annotations

from typing import Any

from engine.domain.deduplication import check_and_add
from engine.domain.effects import Effects
from engine.domain.events import CODES, Delivered, SubscriptionUpdated
from engine.domain.model import timestamp
from engine.domain.vocabulary import UNIT_KINDS
from engine.state.configuration import Configuration
from engine.state.message_codecs import SEAT_GRANTS, decode_seat_request, encode_seat_grant
from engine.state.row_codecs import SEAT_BUDGETS
from engine.state.seat_budget import SeatBudget, budget


class ProductMachine:
    """Subscriptions and seat requests in; grants and published counters out."""

    def __init__(self, configuration: Configuration, effects: Effects, partitions: int) -> None:
        self.configuration = configuration
        self.effects = effects
        self.partitions = partitions
        self.seats: dict[str, SeatBudget] = {}
        self.touched: set[str] = set()
        self.unpublished: set[str] = set()
        self.duplicates = 0

    def load(self, key: str, row: list[Any]) -> None:
        """Takes a restored row of ``seats``."""
        self.seats[key] = SeatBudget.load(key, row)

    def start(self) -> None:
        """Has the counters of every restored product published again."""
        self.unpublished.update(self.seats)

    def _of(self, tenant: str, sku: str) -> SeatBudget:
        key = f"{tenant}/{sku}"
        self.touched.add(key)
        if key not in self.seats:
            self.seats[key] = SeatBudget(tenant, sku)
        return self.seats[key]

    def subscriptions(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``subscriptions``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        for event, at, offset, source in batch:
            assert isinstance(event, SubscriptionUpdated)
            key = f"{event.tenant}/{event.sku}"
            if key not in self.seats and not self.configuration.owns(key):
                misrouted.append(offset)
                continue
            seats = self._of(event.tenant, event.sku)
            seen = check_and_add(seats.seen, CODES[SubscriptionUpdated], event.id, source)
            if seen is None:
                self.duplicates += 1
                continue
            seats.seen = seen
            seats.units = (event.enabled, event.warning, event.suspended, event.locked_out)
            seats.at = max(seats.at, at)
            seats.cause = event.id
        self._settle()
        return misrouted

    def requests(self, batch: list[Delivered]) -> None:
        """Applies the seat requests of partitions, and grants, recalls or denies."""
        for message, _, _, _ in batch:
            request = decode_seat_request(message)
            seats = self._of(request.tenant, request.sku)
            seats.at = max(seats.at, request.timestamp_ms)
            seats.cause = request.caused_by
            seats.hear(request.partition, request)
        self._settle()

    def _settle(self) -> None:
        for key in sorted(self.touched):
            seats = self.seats[key]
            seats.settle(self.partitions, self.configuration.bulk)
            for p, part in seats.parts.items():
                if part.must_tell:
                    self.effects.emit(SEAT_GRANTS, key, encode_seat_grant(seats.grant(p)), p)
            self.effects.rows[SEAT_BUDGETS, key] = seats.row()
            self.unpublished.add(key)
        self.touched.clear()

    def flush(self) -> None:
        """Publishes the counters that have changed."""
        for key in sorted(self.unpublished):
            seats = self.seats[key]
            used = sum(part.used for part in seats.parts.values())
            waiting = sum(part.waiting for part in seats.parts.values())
            product = self.configuration.products.get(seats.sku)
            part_number = product.part_number if product else None
            content = [list(seats.shown or (0, 0, 0, 0)), used, waiting, part_number]
            if content == seats.published or not (seats.shown or used or seats.published):
                continue
            seats.published = content
            self.effects.rows[SEAT_BUDGETS, key] = seats.row()
            self.effects.emit("product-seats", key, self._published(seats, content))
        self.unpublished.clear()

    @staticmethod
    def _published(seats: SeatBudget, content: list[Any]) -> dict[str, Any]:
        units, used, waiting, part_number = content
        return {
            "tenant": seats.tenant,
            "skuId": seats.sku,
            "skuPartNumber": part_number,
            "prepaidUnits": dict(zip(UNIT_KINDS, units, strict=True)),
            "consumedUnits": used,
            "availableUnits": budget(seats.shown) - used,
            "waitingUsers": waiting,
            "updatedAt": timestamp(seats.at),
        }

    def product_defined(self, sku: str) -> None:
        """The part number is published with the counters."""
        self.unpublished.update(key for key, seats in self.seats.items() if seats.sku == sku)
