"""The seat budget of a product: its units, and what is leased to each partition.

Pure accounting, without events or output. It alone raises ``granted``. While units are plentiful a
request is met with a share on top; when they run short the budget is *contended*: it recalls what
is idle, grants unit by unit in the order of R8, and denies only after the recalled partitions have
answered, so that a denial is never false (contract, section 4).
"""

from __future__ import annotations

from typing import Any

from engine.domain.vocabulary import CapabilityStatus
from engine.state.message_codecs import SeatGrantMessage, SeatRequestMessage
from engine.state.seat_lease import PREFETCH_MIN_UNITS
from engine.state.seat_row_codecs import (
    PartitionLeaseRow,
    SeatBudgetRow,
    decode_seat_budget,
    encode_seat_budget,
    optional_lease_facts,
)

Units = tuple[int, int, int, int]
"""Enabled, warning, suspended, locked out."""


def seat_capacity(units: Units | None) -> int:
    """Enabled and warning units give seats, suspended and locked out ones do not (R15)."""
    return units[0] + units[1] if units else 0


class PartitionLease:
    """The units leased to one partition, with the numbers of its latest request.

    ``requested_seq``: its latest request that needs an answer; ``answered_seq`` and ``denied_seq``:
    all requests up to this number are answered, or denied. ``recall``: the last recall that it has
    answered; ``grant_due``: a message to the partition is due; ``off``: as last
    sent to the partition (R15).
    """

    __slots__ = (
        "adopted", "answered_seq", "contended", "demand", "denied_seq", "grant_due", "grant_seq",
        "granted", "longest_waiting", "needs_prefetch", "off", "recall", "request_seq",
        "requested_seq",
        "returned", "used", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.granted = 0
        self.returned = 0
        self.adopted = 0
        self.request_seq = 0
        self.used = 0
        self.waiting = 0
        self.demand = 0
        self.requested_seq = 0
        self.answered_seq = 0
        self.denied_seq = 0
        self.recall = 0
        self.grant_seq = 0
        self.contended = False
        self.grant_due = False
        self.off = False
        self.needs_prefetch = False
        self.longest_waiting: list[tuple[int, str]] = []

    @property
    def leased(self) -> int:
        """Units that the partition may use."""
        return self.granted + self.adopted - self.returned

    @property
    def unanswered(self) -> bool:
        """True while a request of the partition has no answer yet."""
        return self.requested_seq > self.answered_seq and self.demand > 0

    def grant_units(self, units: int) -> None:
        """Grants units, which the next message to the partition carries."""
        self.granted += units
        self.demand = max(0, self.demand - units)
        del self.longest_waiting[:units]
        self.grant_due = True

    def to_row(self) -> PartitionLeaseRow:
        """Returns what is persisted of it: everything."""
        return PartitionLeaseRow(
            answered_seq=self.answered_seq,
            requested_seq=self.requested_seq,
            denied_seq=self.denied_seq,
            granted=self.granted,
            longest_waiting=self.longest_waiting,
            needs_prefetch=self.needs_prefetch,
            grant_due=self.grant_due,
            grant_seq=self.grant_seq,
            recall=self.recall,
            returned=self.returned,
            contended=self.contended,
            request_seq=self.request_seq,
            used=self.used,
            waiting=self.waiting,
            demand=self.demand,
            optional_facts=optional_lease_facts(self.off, self.adopted),
        )

    @classmethod
    def of_row(cls, row: PartitionLeaseRow) -> PartitionLease:
        """Returns the lease that the row persists."""
        lease = cls()
        lease.answered_seq = row.answered_seq
        lease.requested_seq = row.requested_seq
        lease.denied_seq = row.denied_seq
        lease.granted = row.granted
        lease.longest_waiting = row.longest_waiting
        lease.needs_prefetch = row.needs_prefetch
        lease.grant_due = row.grant_due
        lease.grant_seq = row.grant_seq
        lease.recall = row.recall
        lease.returned = row.returned
        lease.contended = row.contended
        lease.request_seq = row.request_seq
        lease.used = row.used
        lease.waiting = row.waiting
        lease.demand = row.demand
        if row.optional_facts:
            lease.off = row.optional_facts.get("off", False)
            lease.adopted = row.optional_facts.get("adopted", 0)
        return lease


class SeatBudget:
    """The budget of one product of one tenant.

    ``recall``: number of the last recall; ``awaiting_recall_from``: partitions that have not
    answered it; ``covered_requests``: partition -> number of the request that will be answered when
    they have. ``published_units``: the units that the published counters name. Fewer units are
    published only when no partition can use more than it has reported (``reduction_pending`` until
    then), so that consumed units never grow beyond the units beside them. ``published``: the
    content of the counters published last. ``deleted``: the subscription was deleted.
    """

    __slots__ = (
        "awaiting_recall_from", "caused_by", "contended", "covered_requests", "deleted",
        "partition_leases", "published", "published_units", "recall", "reduction_pending",
        "seen_fingerprints", "sku", "tenant", "timestamp_ms", "units",
    )  # fmt: skip

    def __init__(self, tenant: str, sku: str) -> None:
        self.tenant = tenant
        self.sku = sku
        self.units: Units | None = None
        self.published_units: Units | None = None
        self.deleted = False
        self.reduction_pending = False
        self.partition_leases: dict[int, PartitionLease] = {}
        self.contended = False
        self.recall = 0
        self.awaiting_recall_from: set[int] = set()
        self.covered_requests: dict[int, int] = {}
        self.seen_fingerprints = b""
        self.timestamp_ms = 0
        self.caused_by = ""
        self.published: list[Any] | None = None

    @property
    def capacity(self) -> int:
        """Units that give seats (R15)."""
        return seat_capacity(self.units)

    @property
    def off(self) -> bool:
        """R15: entries are disabled while the subscription gives no seat, or is deleted."""
        return self.deleted or (self.capacity <= 0 and bool(self.units and sum(self.units[2:])))

    @property
    def capability_status(self) -> str:
        """``capabilityStatus`` of the published units; Enabled, too, if there are no units."""
        if self.deleted and self.published_units == self.units:
            return CapabilityStatus.DELETED.value
        for units, status in zip(self.published_units or (), CapabilityStatus, strict=False):
            if units > 0:
                return status.value
        return CapabilityStatus.ENABLED.value

    @property
    def free_units(self) -> int:
        """Units that no partition holds; negative after units were taken away (R15)."""
        return self.capacity - sum(lease.leased for lease in self.partition_leases.values())

    def settle(self, partitions: int, prefetch_min_units: int = PREFETCH_MIN_UNITS) -> None:
        """Brings grants, recalls and denials in line with what is known. Idempotent.

        ``prefetch_min_units``: the smallest grant to a partition that has not requested any.
        """
        self._distribute(partitions, prefetch_min_units)
        demand = sum(lease.demand for lease in self.partition_leases.values())
        if (demand or self.free_units < 0) and not self.contended:
            self._begin_recall()
        if self._unanswered_requests() and not self.awaiting_recall_from:
            self._deny_or_recall()
        self._update_published_units()
        if self.contended and not demand and not self.awaiting_recall_from and self.free_units > 0:
            self.contended = False
        for lease in self.partition_leases.values():
            if lease.contended != self.contended and (lease.leased > 0 or lease.contended):
                lease.grant_due = True
            if lease.off != self.off:
                lease.grant_due = True

    def _update_published_units(self) -> None:
        """R15: fewer units than are leased count when every holder of a lease knows of it."""
        if self.free_units >= 0 or seat_capacity(self.published_units) <= self.capacity:
            self.published_units, self.reduction_pending = self.units, False
        elif not self.reduction_pending:
            self.reduction_pending = True
            self._begin_recall(from_all=True)
        elif not self.awaiting_recall_from and all(
            lease.leased == lease.used for lease in self.partition_leases.values()
        ):
            self.published_units, self.reduction_pending = self.units, False

    def _unanswered_requests(self) -> dict[int, int]:
        return {
            p: lease.requested_seq for p, lease in self.partition_leases.items() if lease.unanswered
        }

    def _distribute(self, partitions: int, prefetch_min_units: int) -> None:
        free = self.free_units
        demanding = [lease for lease in self.partition_leases.values() if lease.demand]
        total = sum(lease.demand for lease in demanding)
        if 0 < free < total:
            self._distribute_in_order(free, demanding)
        if free < total or free <= 0:
            return
        # A share on top of the demand: most users of the next batches then need no round trip.
        share = 0 if self.contended else (free - total) * 3 // (4 * partitions)
        if share >= prefetch_min_units:
            for p in range(partitions):
                if p not in self.partition_leases:
                    self.partition_leases[p] = PartitionLease()
                    self.partition_leases[p].needs_prefetch = True
        for lease in self.partition_leases.values():
            if lease.demand or (lease.needs_prefetch and share):
                lease.grant_units(lease.demand + share)
                lease.answered_seq = max(lease.answered_seq, lease.requested_seq)
            lease.needs_prefetch = False

    def _distribute_in_order(self, free: int, demanding: list[PartitionLease]) -> None:
        """Distributes the units in the order of R8 across partitions.

        A partition names only its longest waiting users: when these are served and it has more,
        nobody younger is served before it has named the next.
        """
        served = dict.fromkeys(demanding, 0)
        while free:
            named = [p for p in demanding if served[p] < min(len(p.longest_waiting), p.demand)]
            if not named:
                break
            first = min(named, key=lambda p: p.longest_waiting[served[p]])
            oldest = first.longest_waiting[served[first]]
            unnamed = [p for p in demanding if served[p] == len(p.longest_waiting) < p.demand]
            if any(not p.longest_waiting or p.longest_waiting[-1] < oldest for p in unnamed):
                break
            served[first] += 1
            free -= 1
        for lease, units in served.items():
            if units:
                lease.grant_units(units)

    def _begin_recall(self, from_all: bool = False) -> None:
        self.contended = True
        self.recall += 1
        self.covered_requests = self._unanswered_requests()
        for p, lease in self.partition_leases.items():
            if lease.leased > (0 if from_all else lease.used):
                self.awaiting_recall_from.add(p)
                lease.grant_due = True

    def _deny_or_recall(self) -> None:
        """Denies what cannot be met when every unit is used.

        Units that are only reserved, for users in flight, may come back: they are recalled until
        they are used or returned. That ends, since users in flight wait in skuId order, and a
        recall takes back what is reserved out of that order.
        """
        if not self.covered_requests or any(
            lease.leased > lease.used for lease in self.partition_leases.values()
        ):
            self._begin_recall()
        if self.awaiting_recall_from:
            return
        for p, requested_seq in self.covered_requests.items():
            lease = self.partition_leases[p]
            lease.answered_seq = lease.denied_seq = max(lease.answered_seq, requested_seq)
            lease.grant_due = True
        self.covered_requests = {}
        if self._unanswered_requests():
            self._deny_or_recall()

    def apply_request(self, p: int, request: SeatRequestMessage) -> None:
        """Merges a request of partition ``p``; an older one than the last changes nothing."""
        lease = self.partition_leases.setdefault(p, PartitionLease())
        lease.returned = max(lease.returned, request.returned)
        lease.adopted = max(lease.adopted, request.adopted)
        if request.request_seq <= lease.request_seq:
            return
        lease.request_seq = request.request_seq
        lease.used = request.used
        lease.waiting = request.waiting
        lease.requested_seq = request.requested_seq
        lease.recall = request.recall
        lease.off = request.off
        in_flight = lease.granted - request.granted  # units whose grant had not reached it
        lease.demand = max(0, request.demand - in_flight)
        lease.needs_prefetch = request.needs_prefetch and not in_flight
        lease.longest_waiting = request.longest_waiting[in_flight:]
        if lease.recall >= self.recall:
            self.awaiting_recall_from.discard(p)

    def next_grant(self, p: int) -> SeatGrantMessage:
        """Returns the next grant for partition ``p``; a recall only if unanswered."""
        lease = self.partition_leases[p]
        lease.grant_seq += 1
        lease.grant_due = False
        lease.contended = self.contended
        lease.off = self.off
        return SeatGrantMessage(
            tenant=self.tenant,
            sku=self.sku,
            granted=lease.granted,
            answered_seq=lease.answered_seq,
            denied_seq=lease.denied_seq,
            grant_seq=lease.grant_seq,
            contended=self.contended,
            recall=self.recall if p in self.awaiting_recall_from else lease.recall,
            free_units=max(0, self.free_units),
            purchased=self.capacity,
            consumed=sum(lease.used for lease in self.partition_leases.values()),
            timestamp_ms=self.timestamp_ms,
            caused_by=self.caused_by,
            off=self.off,
        )

    def row(self) -> list[Any]:
        """Returns the row of ``seats``."""
        return encode_seat_budget(
            SeatBudgetRow(
                units=self.units,
                partition_leases={p: lease.to_row() for p, lease in self.partition_leases.items()},
                contended=self.contended,
                recall=self.recall,
                awaiting_recall_from=sorted(self.awaiting_recall_from),
                covered_requests=self.covered_requests,
                seen_fingerprints=self.seen_fingerprints,
                timestamp_ms=self.timestamp_ms,
                caused_by=self.caused_by,
                published=self.published,
                published_units=self.published_units,
                reduction_pending=self.reduction_pending,
                optional_facts={"deleted": True} if self.deleted else None,
            )
        )

    @classmethod
    def load(cls, key: str, row: list[Any]) -> SeatBudget:
        """Returns the budget that a row of ``seats`` persists."""
        budget = cls(*key.split("/", 1))
        found = decode_seat_budget(row)
        budget.units = found.units
        budget.partition_leases = {
            p: PartitionLease.of_row(lease) for p, lease in found.partition_leases.items()
        }
        budget.contended = found.contended
        budget.recall = found.recall
        budget.awaiting_recall_from = set(found.awaiting_recall_from)
        budget.covered_requests = found.covered_requests
        budget.seen_fingerprints = found.seen_fingerprints
        budget.timestamp_ms = found.timestamp_ms
        budget.caused_by = found.caused_by
        budget.published = found.published
        budget.published_units = found.published_units
        budget.reduction_pending = found.reduction_pending
        budget.deleted = (found.optional_facts or {}).get("deleted", False)
        return budget
