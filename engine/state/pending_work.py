"""The pending work of a user: seat requests, address claims, and the events behind them."""

from __future__ import annotations

from typing import Any

from engine.state.deferred_changes import json_size
from engine.state.user_row_codecs import PendingWorkRow, SeatRequestRow


class SeatRequest:
    """The seats that a user in flight needs, requested in skuId order (architecture, section 4).

    ``reserved``: products reserved so far; ``denied``: products without a unit for the user;
    ``requested_sku``: the product whose answer is awaited, empty if none, in the lease's request
    ``request_seq``. ``since``: the user's place in the order of R8, in milliseconds;
    ``timestamp_ms`` and ``caused_by``: of the evaluation that needs the seats.
    """

    __slots__ = (
        "caused_by",
        "denied",
        "request_seq",
        "requested_sku",
        "reserved",
        "since",
        "timestamp_ms",
    )

    def __init__(self, since: int, timestamp_ms: int, caused_by: str) -> None:
        self.since = since
        self.timestamp_ms = timestamp_ms
        self.caused_by = caused_by
        self.reserved: set[str] = set()
        self.denied: frozenset[str] = frozenset()
        self.requested_sku = ""
        self.request_seq = 0

    def to_row(self) -> SeatRequestRow:
        """Returns what is persisted of the request."""
        return SeatRequestRow(
            since_ms=self.since,
            timestamp_ms=self.timestamp_ms,
            caused_by=self.caused_by,
            reserved=sorted(self.reserved),
            denied=sorted(self.denied),
            requested_sku=self.requested_sku,
            request_seq=self.request_seq,
        )

    @classmethod
    def of_row(cls, row: SeatRequestRow) -> SeatRequest:
        """Returns the request that the row persists."""
        request = cls(row.since_ms, row.timestamp_ms, row.caused_by)
        request.reserved = set(row.reserved)
        request.denied = frozenset(row.denied)
        request.requested_sku = row.requested_sku
        request.request_seq = row.request_seq
        return request


class PendingWork:
    """Fields that few users need at a time, kept apart to save memory.

    ``change``: the direct change under way, as [event id, add, remove, timestamp_ms];
    ``deferred_changes``: direct changes that wait for a product (R21), likewise;
    ``deferred_events``: events that wait for the seat request or the direct change under way (R23),
    as :func:`engine.state.user_row_codecs.encode_deferred_event` encodes them, and
    ``deferred_event_bytes``: the sum of their sizes as JSON; ``last_claim``:
    number of the latest address claim; ``pending_claims``: address -> number of the claim that is
    not answered yet; ``duplicates``: address -> its earlier owner (R18); ``published_attributes``:
    as they were before they changed; ``evaluation``: (timestamp_ms, caused_by, retry) of an
    evaluation that waits for a verdict; ``ungiven``: addresses that are no longer given and are to
    be released when the user is published without them.
    """

    __slots__ = (
        "change", "deferred_changes", "deferred_event_bytes", "deferred_events", "duplicates",
        "evaluation", "last_claim", "pending_claims", "published_attributes", "seat_request",
        "ungiven",
    )  # fmt: skip

    def __init__(self) -> None:
        self.seat_request: SeatRequest | None = None
        self.change: list[Any] | None = None
        self.deferred_changes: list[list[Any]] = []
        self.deferred_events: list[list[Any]] = []
        self.deferred_event_bytes = 0
        self.last_claim = 0
        self.pending_claims: dict[str, int] = {}
        self.duplicates: dict[str, str] = {}
        self.published_attributes: tuple[Any, ...] | None = None
        self.evaluation: tuple[int, str, bool] | None = None
        self.ungiven: tuple[str, ...] = ()

    def empty(self) -> bool:
        """Returns True if nothing is pending."""
        return not (
            self.seat_request
            or self.change
            or self.deferred_changes
            or self.deferred_events
            or self.pending_claims
            or self.duplicates
            or self.published_attributes
            or self.evaluation
            or self.ungiven
        )

    def to_row(self) -> tuple[Any, ...]:
        """Returns the persisted form: the fields of a PendingWorkRow, which take longer to name."""
        return (
            self.seat_request.to_row() if self.seat_request else None,
            self.change,
            self.deferred_changes,
            self.deferred_events,
            self.last_claim,
            self.pending_claims,
            self.duplicates,
            self.published_attributes,
            self.evaluation,
        )

    @classmethod
    def of_row(cls, row: PendingWorkRow) -> PendingWork:
        """Returns the pending work that the row persists."""
        pending = cls()
        pending.seat_request = SeatRequest.of_row(row.seat_request) if row.seat_request else None
        pending.change = row.change
        pending.deferred_changes = row.deferred_changes
        pending.deferred_events = row.deferred_events
        pending.deferred_event_bytes = sum([json_size(each) for each in row.deferred_events])
        pending.last_claim = row.last_claim
        pending.pending_claims = row.pending_claims
        pending.duplicates = row.duplicates
        pending.published_attributes = row.published_attributes
        pending.evaluation = row.evaluation
        return pending
