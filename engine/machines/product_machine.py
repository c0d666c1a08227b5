"""The product machine: applies subscriptions and seat requests to the seat budgets.

It sends the grants and publishes the counters; the accounting is in
:mod:`engine.state.seat_budget`.
"""

from __future__ import annotations

from typing import Any

from engine.domain.deduplication import check_and_add
from engine.domain.effects import Effects
from engine.domain.events import CODES, Delivered, SubscriptionDeleted, SubscriptionUpdated
from engine.domain.model import timestamp
from engine.domain.vocabulary import UNIT_KINDS
from engine.state.configuration import Configuration
from engine.state.message_codecs import SEAT_GRANTS, decode_seat_request, encode_seat_grant
from engine.state.row_codecs import SEAT_BUDGETS
from engine.state.seat_budget import SeatBudget, seat_capacity


class ProductMachine:
    """Subscriptions and seat requests in; grants and published counters out."""

    def __init__(self, configuration: Configuration, effects: Effects, partitions: int) -> None:
        self.configuration = configuration
        self.effects = effects
        self.partitions = partitions
        self.budgets: dict[str, SeatBudget] = {}
        self.dirty: set[str] = set()
        self.pending_publication: set[str] = set()
        self.duplicates = 0

    def load(self, key: str, row: list[Any]) -> None:
        """Takes a restored row of ``seats``."""
        self.budgets[key] = SeatBudget.load(key, row)

    def start(self) -> None:
        """Has the counters of every restored product published again.

        Rows of format 1 do not say which partitions know that a product is off: all receive it.
        """
        self.pending_publication.update(self.budgets)
        self.dirty.update(key for key, budget in self.budgets.items() if budget.off)
        self._settle()

    def _of(self, tenant: str, sku: str) -> SeatBudget:
        key = f"{tenant}/{sku}"
        self.dirty.add(key)
        if key not in self.budgets:
            self.budgets[key] = SeatBudget(tenant, sku)
        return self.budgets[key]

    def subscriptions(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``subscriptions``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        for event, timestamp_ms, offset, source in batch:
            key = f"{event.tenant}/{event.sku}"
            if key not in self.budgets and not self.configuration.owns(key):
                misrouted.append(offset)
                continue
            budget = self._of(event.tenant, event.sku)
            seen = check_and_add(budget.seen_fingerprints, CODES[type(event)], event.id, source)
            if seen is None:
                self.duplicates += 1
                continue
            budget.seen_fingerprints = seen
            budget.deleted = isinstance(event, SubscriptionDeleted)
            budget.units = (0, 0, 0, 0)
            if isinstance(event, SubscriptionUpdated):
                budget.units = (event.enabled, event.warning, event.suspended, event.locked_out)
            budget.timestamp_ms = max(budget.timestamp_ms, timestamp_ms)
            budget.caused_by = event.id
        self._settle()
        return misrouted

    def requests(self, batch: list[Delivered]) -> None:
        """Applies the seat requests of partitions, and grants, recalls or denies."""
        for message, _, _, _ in batch:
            request = decode_seat_request(message)
            budget = self._of(request.tenant, request.sku)
            budget.timestamp_ms = max(budget.timestamp_ms, request.timestamp_ms)
            budget.caused_by = request.caused_by
            budget.apply_request(request.partition, request)
        self._settle()

    def _settle(self) -> None:
        for key in sorted(self.dirty):
            budget = self.budgets[key]
            budget.settle(self.partitions, self.configuration.prefetch_min_units)
            for p, lease in budget.partition_leases.items():
                if lease.grant_due:
                    self.effects.emit(SEAT_GRANTS, key, encode_seat_grant(budget.next_grant(p)), p)
            self.effects.rows[SEAT_BUDGETS, key] = budget.row()
            self.pending_publication.add(key)
        self.dirty.clear()

    def flush(self) -> None:
        """Publishes the counters that have changed."""
        for key in sorted(self.pending_publication):
            budget = self.budgets[key]
            used = sum(lease.used for lease in budget.partition_leases.values())
            waiting = sum(lease.waiting for lease in budget.partition_leases.values())
            product = self.configuration.products.get(budget.sku)
            part_number = product.part_number if product else None
            units = list(budget.published_units or (0, 0, 0, 0))
            content = [units, used, waiting, part_number, budget.capability_status]
            if content == budget.published or not (
                budget.published_units or used or budget.published
            ):
                continue
            budget.published = content
            self.effects.rows[SEAT_BUDGETS, key] = budget.row()
            self.effects.emit("product-seats", key, self._published(budget, content))
        self.pending_publication.clear()

    @staticmethod
    def _published(budget: SeatBudget, content: list[Any]) -> dict[str, Any]:
        units, used, waiting, part_number, status = content
        return {
            "tenant": budget.tenant,
            "skuId": budget.sku,
            "skuPartNumber": part_number,
            "prepaidUnits": dict(zip(UNIT_KINDS, units, strict=True)),
            "consumedUnits": used,
            "availableUnits": seat_capacity(budget.published_units) - used,
            "waitingUsers": waiting,
            "capabilityStatus": status,
            "updatedAt": timestamp(budget.timestamp_ms),
        }

    def product_defined(self, sku: str) -> None:
        """The part number is published with the counters."""
        self.pending_publication.update(
            key for key, budget in self.budgets.items() if budget.sku == sku
        )
