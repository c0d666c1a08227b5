"""The partition's side of the seat lease (architecture, section 4).

Safety: ``granted`` is raised only by the product machine and ``returned`` only here; both only grow
and are merged by maximum, so lost, repeated and reordered messages never make a unit. A partition
never uses more than ``granted - returned``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any, Final

from engine.state.message_codecs import SeatGrantMessage, SeatRequestMessage
from engine.state.row_codecs import LeaseRow, decode_lease, encode_lease

Place = tuple[int, str]
"""A place in the waiting line of R8: since when, user id."""

HEADS: Final = 16
MOST_HEADS: Final = 1000
BULK = 16
"""Units that are granted ahead of need, at least: fewer are not worth a message."""


class Lease:
    """Units of one product that one partition may use.

    ``used``: users with an entry; ``reserved``: units kept for users in flight; ``asking``: users
    in flight who need an answer; ``line``: users who were denied and are waiting; ``waiting``:
    users whose published state says CountViolation. ``scarce``: freed units are returned
    immediately, and only what the product machine grants is used. ``asked``: the number of the
    request that carries the latest ask. ``ahead``: as ``granted`` was when more was asked for ahead
    of need; ``latest``: units of the latest grant.
    """

    __slots__ = (
        "ahead", "asked", "asking", "consumed", "granted", "latest", "line", "must_answer", "news",
        "purchased", "recall", "reserved", "returned", "room", "scarce", "seq", "sku", "tenant",
        "told", "used", "waiting",
    )  # fmt: skip

    def __init__(self, tenant: str, sku: str) -> None:
        self.tenant = tenant
        self.sku = sku
        self.granted = 0
        self.returned = 0
        self.used = 0
        self.reserved = 0
        self.waiting = 0
        self.scarce = False
        self.seq = 0
        self.news = 0
        self.recall = 0
        self.room = 0
        self.purchased = 0
        self.consumed = 0
        self.asked = 0
        self.asking: list[tuple[int, str, int]] = []
        self.line: list[Place] = []
        self.must_answer = False
        self.told: tuple[int, ...] = ()
        self.ahead = 0
        self.latest = 0

    @property
    def idle(self) -> int:
        """Units that are neither used nor reserved."""
        return self.granted - self.returned - self.used - self.reserved

    def try_reserve(self) -> bool:
        """Reserves an idle unit locally.

        Returns False if none is idle or the product is contended: a request must then be sent.
        """
        if self.scarce or self.idle <= 0:
            return False
        self.reserved += 1
        return True

    def can_refuse_locally(self, since: int, user: str) -> bool:
        """Returns True if a request can be refused without asking the product's owner (R8).

        No unit was free at the last grant, and one that comes free is for an older user of this
        partition's wait list.
        """
        return self.scarce and self.room == 0 and bool(self.line) and self.line[0] < (since, user)

    def ask(self, since: int, user: str) -> int:
        """Adds the user to those who need an answer; returns the number of that request."""
        self.asked = self.seq + 1
        insort(self.asking, (since, user, self.asked))
        self.must_answer = True
        return self.asked

    def withdraw(self, since: int, user: str) -> None:
        """Removes the user from those who need an answer."""
        at = bisect_left(self.asking, (since, user, 0))
        if at < len(self.asking) and self.asking[at][:2] == (since, user):
            del self.asking[at]

    def queue(self, since: int, user: str) -> None:
        """Adds the user to the wait list, at the place that R8 gives."""
        at = bisect_left(self.line, (since, user))
        if self.line[at : at + 1] != [(since, user)]:
            self.line.insert(at, (since, user))

    def leave(self, since: int, user: str) -> None:
        """Removes the user from the wait list."""
        at = bisect_left(self.line, (since, user))
        if at < len(self.line) and self.line[at] == (since, user):
            del self.line[at]

    def heads(self, automatic: bool, limit: int) -> list[Place]:
        """Returns the longest waiting users: in flight or, if automatic (R9), in the wait list."""
        found = [(since, user) for since, user, _ in self.asking[:limit]]
        if automatic:
            found = sorted(found + self.line[:limit])[:limit]
        return found

    def hear(self, grant: SeatGrantMessage) -> bool:
        """Merges a grant; returns False if a later one has been merged already."""
        if grant.granted > self.granted:
            self.latest = grant.granted - self.granted
            self.granted = grant.granted
        if grant.grant_seq <= self.news:
            return False
        self.news = grant.grant_seq
        self.scarce = grant.contended
        self.room = grant.free_units
        self.purchased = grant.purchased
        self.consumed = grant.consumed
        if grant.recall > self.recall:
            self.recall = grant.recall
            self.must_answer = True
        return True

    def give_back(self, keep: int = 0) -> None:
        """Returns idle units but ``keep`` to the product machine if the product is scarce."""
        if self.scarce and self.idle > keep:
            self.returned += self.idle - keep
            self.must_answer = True

    def low(self, bulk: int) -> bool:
        """Returns True if more units should be requested before they are needed.

        True once for each grant, when half of it is used, and only where many units come at a time.
        """
        return (
            self.latest >= bulk
            and self.idle * 2 < self.latest
            and self.ahead != self.granted
            and self.room > 0
            and not self.scarce
        )

    def want(self, automatic: bool) -> int:
        """Returns the number of units that users here wait for."""
        return len(self.asking) + (len(self.line) if automatic else 0)

    def figures(self, automatic: bool) -> tuple[int, ...]:
        """Returns the figures that are reported to the product machine when they change."""
        return (self.want(automatic), self.used, self.waiting)

    def request(
        self, automatic: bool, low: bool = False, partition: int = 0, at: int = 0, cause: str = ""
    ) -> SeatRequestMessage:
        """Returns the next request: absolute figures, so that the latest one says it all.

        In plenty nobody needs to know who waits longest, and the ``heads`` are few.
        """
        self.seq += 1
        self.must_answer = False
        heads = min(max(HEADS, self.room if self.scarce else 0), MOST_HEADS)
        if low:
            self.ahead = self.granted
        self.told = self.figures(automatic)
        return SeatRequestMessage(
            tenant=self.tenant,
            sku=self.sku,
            partition=partition,
            request_seq=self.seq,
            granted=self.granted,
            returned=self.returned,
            used=self.used,
            waiting=self.waiting,
            demand=self.want(automatic),
            asked_seq=self.asked if self.asking else 0,
            longest_waiting=self.heads(automatic, heads),
            recall=self.recall,
            needs_prefetch=low,
            timestamp_ms=at,
            caused_by=cause,
        )

    def row(self) -> list[Any]:
        """Returns the lease's row; the rest follows from the users' rows."""
        return encode_lease(
            LeaseRow(
                granted=self.granted,
                returned=self.returned,
                request_seq=self.seq,
                grant_seq=self.news,
                recall=self.recall,
                contended=self.scarce,
                free_units=self.room,
                purchased=self.purchased,
                consumed=self.consumed,
                last_reported=self.told,
                report_due=self.must_answer,
            )
        )

    def load(self, row: list[Any]) -> None:
        """Takes what the row persists."""
        lease = decode_lease(row)
        self.granted = lease.granted
        self.returned = lease.returned
        self.seq = lease.request_seq
        self.news = lease.grant_seq
        self.recall = lease.recall
        self.scarce = lease.contended
        self.room = lease.free_units
        self.purchased = lease.purchased
        self.consumed = lease.consumed
        self.told = lease.last_reported
        self.must_answer = lease.report_due
