"""The partition's side of the seat lease (architecture, section 4).

Safety: ``granted`` is raised only by the product machine and ``returned`` only here; both only grow
and are merged by maximum, so lost, repeated and reordered messages never make a unit. A partition
never uses more than ``granted + adopted - returned``. ``adopted`` is raised only here, by one for
each user who brings a seat of its own (R25) while no unit is idle, and is merged in the same way.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Any, Final

from engine.state.message_codecs import SeatGrantMessage, SeatRequestMessage
from engine.state.seat_row_codecs import (
    LeaseRow,
    decode_lease,
    encode_lease,
    optional_lease_facts,
)

WaitlistEntry = tuple[int, str]
"""A user's place in the order of R8: waiting since (ms), user id."""

NO_FACTS: Final[Mapping[str, Any]] = {}
LONGEST_WAITING_MIN: Final = 16
LONGEST_WAITING_MAX: Final = 1000
PREFETCH_MIN_UNITS: Final = 16
"""The smallest grant ahead of need: fewer units are not worth a message."""


class Lease:
    """Units of one product that one partition may use.

    ``used``: users with an entry; ``reserved``: units kept for users in flight. ``open_requests``:
    users in flight who need an answer, as (since, user id, request number), oldest first;
    ``requested_seq``: the highest of these numbers. ``waitlist``: users who were denied and wait;
    ``waiting``: users whose published state says CountViolation. ``contended``: freed units are
    returned immediately, and only what the product machine grants is used. ``free_units``: units
    that no partition held at the last grant. ``off``: as the owner says of the product (R15).
    ``adopted``: units that adopted users brought (R25); ``returned_adopted``: how many of them were
    returned since the start of the process.
    ``last_grant_units``: size of the last grant;
    ``granted_at_prefetch``: ``granted`` when units were last requested ahead of need.
    """

    __slots__ = (
        "adopted", "consumed", "contended", "free_units", "grant_seq", "granted",
        "granted_at_prefetch", "last_grant_units", "last_reported", "off", "open_requests",
        "purchased", "recall", "report_due", "request_seq", "requested_seq", "reserved",
        "returned", "returned_adopted", "sku", "tenant", "used", "waiting", "waitlist",
    )  # fmt: skip

    def __init__(self, tenant: str, sku: str) -> None:
        self.tenant = tenant
        self.sku = sku
        self.granted = 0
        self.returned = 0
        self.adopted = 0
        self.returned_adopted = 0
        self.used = 0
        self.reserved = 0
        self.waiting = 0
        self.contended = False
        self.off = False
        self.request_seq = 0
        self.grant_seq = 0
        self.recall = 0
        self.free_units = 0
        self.purchased = 0
        self.consumed = 0
        self.requested_seq = 0
        self.open_requests: list[tuple[int, str, int]] = []
        self.waitlist: list[WaitlistEntry] = []
        self.report_due = False
        self.last_reported: tuple[int, ...] = ()
        self.granted_at_prefetch = 0
        self.last_grant_units = 0

    @property
    def idle(self) -> int:
        """Units that are neither used nor reserved."""
        return self.granted + self.adopted - self.returned - self.used - self.reserved

    def adopt(self) -> None:
        """Covers a user who has a seat already (R25) and is about to be counted as a holder.

        An idle unit does, unless the product is contended: then others may wait for that unit.
        """
        if self.contended or self.idle <= 0:
            self.adopted += 1
            self.report_due = True

    def release(self) -> None:
        """Frees the unit of a user who is no holder any more.

        A unit that came with an adopted user is returned: it may be one more than was bought, and
        only the owner knows if somebody else may have it (R15).
        """
        self.used -= 1
        if self.returned_adopted < self.adopted:
            self.returned_adopted += 1
            self.returned += 1
            self.report_due = self.report_due or self.contended

    def try_reserve(self) -> bool:
        """Reserves an idle unit locally.

        Returns False if none is idle or the product is contended: a request must then be sent.
        """
        if self.contended or self.idle <= 0:
            return False
        self.reserved += 1
        return True

    def can_refuse_locally(self, since: int, user: str) -> bool:
        """Returns True if a request can be refused without asking the product's owner (R8).

        No unit was free at the last grant, and one that comes free is for an older user of this
        partition's wait list.
        """
        return (
            self.contended
            and self.free_units == 0
            and bool(self.waitlist)
            and self.waitlist[0] < (since, user)
        )

    def open_request(self, since: int, user: str) -> int:
        """Adds the user to those who need an answer; returns the number of the next request."""
        self.requested_seq = self.request_seq + 1
        insort(self.open_requests, (since, user, self.requested_seq))
        self.report_due = True
        return self.requested_seq

    def withdraw_request(self, since: int, user: str) -> None:
        """Removes the user from those who need an answer."""
        i = bisect_left(self.open_requests, (since, user, 0))
        if i < len(self.open_requests) and self.open_requests[i][:2] == (since, user):
            del self.open_requests[i]

    def enqueue(self, since: int, user: str) -> None:
        """Adds the user to the wait list, in the order of R8. Idempotent."""
        i = bisect_left(self.waitlist, (since, user))
        if self.waitlist[i : i + 1] != [(since, user)]:
            self.waitlist.insert(i, (since, user))

    def dequeue(self, since: int, user: str) -> None:
        """Removes the user from the wait list."""
        i = bisect_left(self.waitlist, (since, user))
        if i < len(self.waitlist) and self.waitlist[i] == (since, user):
            del self.waitlist[i]

    def longest_waiting(self, automatic: bool, limit: int) -> list[WaitlistEntry]:
        """Returns the longest waiting users: in flight or, if automatic (R9), in the wait list."""
        entries = [(since, user) for since, user, _ in self.open_requests[:limit]]
        if automatic:
            entries = sorted(entries + self.waitlist[:limit])[:limit]
        return entries

    def apply_grant(self, grant: SeatGrantMessage) -> bool:
        """Merges a grant; returns False if a later one has been merged already."""
        if grant.granted > self.granted:
            self.last_grant_units = grant.granted - self.granted
            self.granted = grant.granted
        if grant.grant_seq <= self.grant_seq:
            return False
        self.grant_seq = grant.grant_seq
        self.contended = grant.contended
        self.free_units = grant.free_units
        self.purchased = grant.purchased
        self.consumed = grant.consumed
        if grant.recall > self.recall:
            self.recall = grant.recall
            self.report_due = True
        return True

    def return_idle(self, keep: int = 0) -> None:
        """Returns idle units, except ``keep`` of them, if the product is contended."""
        if self.contended and self.idle > keep:
            self.returned += self.idle - keep
            self.report_due = True

    def needs_prefetch(self, min_units: int) -> bool:
        """Returns True if more units should be requested before they are needed.

        True once for each grant, when half of it is used, and only where many units come at a time.
        """
        return (
            self.last_grant_units >= min_units
            and self.idle * 2 < self.last_grant_units
            and self.granted_at_prefetch != self.granted
            and self.free_units > 0
            and not self.contended
        )

    def demand(self, automatic: bool) -> int:
        """Returns the number of units that users here wait for."""
        return len(self.open_requests) + (len(self.waitlist) if automatic else 0)

    def usage_report(self, automatic: bool) -> tuple[int, ...]:
        """Returns demand, used and waiting: reported to the product machine when they change."""
        return (self.demand(automatic), self.used, self.waiting)

    def next_request(
        self,
        automatic: bool,
        prefetch: bool = False,
        partition: int = 0,
        timestamp_ms: int = 0,
        caused_by: str = "",
    ) -> SeatRequestMessage:
        """Returns the next request. Its numbers are absolute: the latest request replaces others.

        While units are plentiful nobody needs to know who waits longest, and few are named.
        """
        # A unit used by two. The reader refuses such a request, too (engine.state.message_checks).
        assert self.idle >= 0, f"{self.idle} idle units of {self.sku}"
        self.request_seq += 1
        self.report_due = False
        limit = max(LONGEST_WAITING_MIN, self.free_units if self.contended else 0)
        if prefetch:
            self.granted_at_prefetch = self.granted
        self.last_reported = self.usage_report(automatic)
        return SeatRequestMessage(
            tenant=self.tenant,
            sku=self.sku,
            partition=partition,
            request_seq=self.request_seq,
            granted=self.granted,
            returned=self.returned,
            used=self.used,
            waiting=self.waiting,
            demand=self.demand(automatic),
            requested_seq=self.requested_seq if self.open_requests else 0,
            longest_waiting=self.longest_waiting(automatic, min(limit, LONGEST_WAITING_MAX)),
            recall=self.recall,
            needs_prefetch=prefetch,
            timestamp_ms=timestamp_ms,
            caused_by=caused_by,
            off=self.off,
            adopted=self.adopted,
        )

    def row(self) -> list[Any]:
        """Returns the lease's row; the rest follows from the users' rows."""
        return encode_lease(
            LeaseRow(
                granted=self.granted,
                returned=self.returned,
                request_seq=self.request_seq,
                grant_seq=self.grant_seq,
                recall=self.recall,
                contended=self.contended,
                free_units=self.free_units,
                purchased=self.purchased,
                consumed=self.consumed,
                last_reported=self.last_reported,
                report_due=self.report_due,
                optional_facts=optional_lease_facts(self.off, self.adopted),
            )
        )

    def load(self, row: list[Any]) -> None:
        """Takes what the row persists."""
        lease = decode_lease(row)
        self.granted = lease.granted
        self.returned = lease.returned
        self.request_seq = lease.request_seq
        self.grant_seq = lease.grant_seq
        self.recall = lease.recall
        self.contended = lease.contended
        self.free_units = lease.free_units
        self.purchased = lease.purchased
        self.consumed = lease.consumed
        self.last_reported = lease.last_reported
        self.report_due = lease.report_due
        facts = lease.optional_facts or NO_FACTS
        self.off = facts.get("off", False)
        self.adopted = facts.get("adopted", 0)
