"""The seat budget of a product: its units, and what is leased to each partition.

Pure accounting, without events or output. It alone raises ``granted``. While units are plentiful a
request is met with a share on top; when they run short the budget is *contended*: it recalls what
is idle, grants unit by unit in the order of R8, and denies only after the recalled partitions have
answered, so that a denial is never false (contract, section 4).
"""

from __future__ import annotations

from typing import Any

from engine.state.message_codecs import SeatGrantMessage, SeatRequestMessage
from engine.state.row_codecs import (
    PartitionLeaseRow,
    SeatBudgetRow,
    decode_seat_budget,
    encode_seat_budget,
)
from engine.state.seat_lease import BULK

Units = tuple[int, int, int, int]
"""Enabled, warning, suspended, locked out."""


def budget(units: Units | None) -> int:
    """Enabled and warning units give seats, suspended and locked out ones do not (R15)."""
    return units[0] + units[1] if units else 0


class PartitionLease:
    """One partition's part of a budget; its figures are those of its latest request."""

    __slots__ = (
        "answered", "asked", "denied", "granted", "heads", "low", "must_tell", "news", "recall",
        "returned", "scarce", "seq", "used", "waiting", "want",
    )  # fmt: skip

    def __init__(self) -> None:
        self.granted = 0
        self.returned = 0
        self.seq = 0
        self.used = 0
        self.waiting = 0
        self.want = 0
        self.asked = 0
        self.answered = 0
        self.denied = 0
        self.recall = 0
        self.news = 0
        self.scarce = False
        self.must_tell = False
        self.low = False
        self.heads: list[tuple[int, str]] = []

    @property
    def lease(self) -> int:
        """Units that the partition may use."""
        return self.granted - self.returned

    @property
    def unanswered(self) -> bool:
        """True while a request of the partition has no answer yet."""
        return self.asked > self.answered and self.want > 0

    def give(self, units: int) -> None:
        """Grants units, which the next message to the partition carries."""
        self.granted += units
        self.want = max(0, self.want - units)
        del self.heads[:units]
        self.must_tell = True

    def to_row(self) -> PartitionLeaseRow:
        """Returns what is persisted of it: everything."""
        return PartitionLeaseRow(
            answered_seq=self.answered,
            asked_seq=self.asked,
            denied_seq=self.denied,
            granted=self.granted,
            longest_waiting=self.heads,
            needs_prefetch=self.low,
            grant_due=self.must_tell,
            grant_seq=self.news,
            recall=self.recall,
            returned=self.returned,
            contended=self.scarce,
            request_seq=self.seq,
            used=self.used,
            waiting=self.waiting,
            demand=self.want,
        )

    @classmethod
    def of_row(cls, row: PartitionLeaseRow) -> PartitionLease:
        """Returns the part that the row persists."""
        part = cls()
        part.answered = row.answered_seq
        part.asked = row.asked_seq
        part.denied = row.denied_seq
        part.granted = row.granted
        part.heads = row.longest_waiting
        part.low = row.needs_prefetch
        part.must_tell = row.grant_due
        part.news = row.grant_seq
        part.recall = row.recall
        part.returned = row.returned
        part.scarce = row.contended
        part.seq = row.request_seq
        part.used = row.used
        part.waiting = row.waiting
        part.want = row.demand
        return part


class SeatBudget:
    """The budget of one product of one tenant.

    ``recall``: number of the last recall; ``awaited``: partitions that have not answered it;
    ``covers``: the asks (partition -> request number) that will be answered when they have.
    ``shown``: the units that the published counters name. Fewer units are shown only when no
    partition can use more than it has told: ``cutting`` until then. So consumed units never grow
    beyond the units beside them.
    """

    __slots__ = (
        "at", "awaited", "cause", "covers", "cutting", "parts", "published", "recall", "scarce",
        "seen", "shown", "sku", "tenant", "units",
    )  # fmt: skip

    def __init__(self, tenant: str, sku: str) -> None:
        self.tenant = tenant
        self.sku = sku
        self.units: Units | None = None
        self.shown: Units | None = None
        self.cutting = False
        self.parts: dict[int, PartitionLease] = {}
        self.scarce = False
        self.recall = 0
        self.awaited: set[int] = set()
        self.covers: dict[int, int] = {}
        self.seen = b""
        self.at = 0
        self.cause = ""
        self.published: list[Any] | None = None

    @property
    def budget(self) -> int:
        """Units that give seats (R15)."""
        return budget(self.units)

    @property
    def free(self) -> int:
        """Units that no partition holds; negative after units were taken away (R15)."""
        return self.budget - sum(part.lease for part in self.parts.values())

    def settle(self, partitions: int, bulk: int = BULK) -> None:
        """Brings grants, recalls and denials in line with what is known. Idempotent.

        ``bulk``: units that are worth a message to a partition that has not asked for any.
        """
        self._hand_out(partitions, bulk)
        wanted = sum(part.want for part in self.parts.values())
        if (wanted or self.free < 0) and not self.scarce:
            self._begin_recall()
        if self._unmet() and not self.awaited:
            self._deny_or_recall()
        self._show()
        if self.scarce and not wanted and not self.awaited and self.free > 0:
            self.scarce = False
        for part in self.parts.values():
            if part.scarce != self.scarce and (part.lease > 0 or part.scarce):
                part.must_tell = True

    def _show(self) -> None:
        """R15: fewer units than are leased count when every holder of a lease knows of it."""
        if self.free >= 0 or budget(self.shown) <= self.budget:
            self.shown, self.cutting = self.units, False
        elif not self.cutting:
            self.cutting = True
            self._begin_recall(everybody=True)
        elif not self.awaited and all(p.lease == p.used for p in self.parts.values()):
            self.shown, self.cutting = self.units, False

    def _unmet(self) -> dict[int, int]:
        return {p: part.asked for p, part in self.parts.items() if part.unanswered}

    def _hand_out(self, partitions: int, bulk: int) -> None:
        free = self.free
        wanting = [part for part in self.parts.values() if part.want]
        total = sum(part.want for part in wanting)
        if 0 < free < total:
            self._hand_out_in_order(free, wanting)
        if free < total or free <= 0:
            return
        # Plenty: most users of the next batches then need no round trip, nor do the very first.
        share = 0 if self.scarce else (free - total) * 3 // (4 * partitions)
        if share >= bulk:
            for p in range(partitions):
                if p not in self.parts:
                    self.parts[p] = PartitionLease()
                    self.parts[p].low = True
        for part in self.parts.values():
            if part.want or (part.low and share):
                part.give(part.want + share)
                part.answered = max(part.answered, part.asked)
            part.low = False

    def _hand_out_in_order(self, free: int, wanting: list[PartitionLease]) -> None:
        """R8 across partitions.

        A partition tells only its longest waiting users: when those it told are served and it has
        more, nobody younger is served before it has told the next.
        """
        given = dict.fromkeys(wanting, 0)
        while free:
            known = [p for p in wanting if given[p] < min(len(p.heads), p.want)]
            if not known:
                break
            first = min(known, key=lambda p: p.heads[given[p]])
            place = first.heads[given[first]]
            blind = [p for p in wanting if given[p] == len(p.heads) < p.want]
            if any(not p.heads or p.heads[-1] < place for p in blind):
                break
            given[first] += 1
            free -= 1
        for part, units in given.items():
            if units:
                part.give(units)

    def _begin_recall(self, everybody: bool = False) -> None:
        self.scarce = True
        self.recall += 1
        self.covers = self._unmet()
        for p, part in self.parts.items():
            if part.lease > (0 if everybody else part.used):
                self.awaited.add(p)
                part.must_tell = True

    def _deny_or_recall(self) -> None:
        """Denies what cannot be met when every unit is used.

        What is only reserved, for users in flight, may come back: it is recalled until it is used
        or here. That ends, since users in flight wait in skuId order, and a recall takes back what
        is reserved out of it.
        """
        if not self.covers or any(part.lease > part.used for part in self.parts.values()):
            self._begin_recall()
        if self.awaited:
            return
        for p, asked in self.covers.items():
            part = self.parts[p]
            part.answered = part.denied = max(part.answered, asked)
            part.must_tell = True
        self.covers = {}
        if self._unmet():
            self._deny_or_recall()

    def hear(self, p: int, request: SeatRequestMessage) -> None:
        """Merges a request of partition ``p``; an older one than the last changes nothing."""
        part = self.parts.setdefault(p, PartitionLease())
        part.returned = max(part.returned, request.returned)
        if request.request_seq <= part.seq:
            return
        part.seq = request.request_seq
        part.used = request.used
        part.waiting = request.waiting
        part.asked = request.asked_seq
        part.recall = request.recall
        coming = part.granted - request.granted  # units that the partition has not heard of
        part.want = max(0, request.demand - coming)
        part.low = request.needs_prefetch and not coming
        part.heads = request.longest_waiting[coming:]
        if part.recall >= self.recall:
            self.awaited.discard(p)

    def grant(self, p: int) -> SeatGrantMessage:
        """Returns the next grant for partition ``p``; a recall only if unanswered."""
        part = self.parts[p]
        part.news += 1
        part.must_tell = False
        part.scarce = self.scarce
        return SeatGrantMessage(
            tenant=self.tenant,
            sku=self.sku,
            granted=part.granted,
            answered_seq=part.answered,
            denied_seq=part.denied,
            grant_seq=part.news,
            contended=self.scarce,
            recall=self.recall if p in self.awaited else part.recall,
            free_units=max(0, self.free),
            purchased=self.budget,
            consumed=sum(x.used for x in self.parts.values()),
            timestamp_ms=self.at,
            caused_by=self.cause,
        )

    def row(self) -> list[Any]:
        """Returns the row of ``seats``."""
        return encode_seat_budget(
            SeatBudgetRow(
                units=self.units,
                partition_leases={p: part.to_row() for p, part in self.parts.items()},
                contended=self.scarce,
                recall=self.recall,
                awaiting_recall_from=sorted(self.awaited),
                covered_requests=self.covers,
                seen_fingerprints=self.seen,
                timestamp_ms=self.at,
                caused_by=self.cause,
                published=self.published,
                published_units=self.shown,
                reduction_pending=self.cutting,
            )
        )

    @classmethod
    def load(cls, key: str, row: list[Any]) -> SeatBudget:
        """Returns the budget that a row of ``seats`` persists."""
        seats = cls(*key.split("/", 1))
        found = decode_seat_budget(row)
        seats.units = found.units
        seats.parts = {p: PartitionLease.of_row(part) for p, part in found.partition_leases.items()}
        seats.scarce = found.contended
        seats.recall = found.recall
        seats.awaited = set(found.awaiting_recall_from)
        seats.covers = found.covered_requests
        seats.seen = found.seen_fingerprints
        seats.at = found.timestamp_ms
        seats.cause = found.caused_by
        seats.published = found.published
        seats.shown = found.published_units
        seats.cutting = found.reduction_pending
        return seats
