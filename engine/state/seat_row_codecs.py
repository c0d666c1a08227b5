"""The rows of leases and seat budgets, in the form of :mod:`engine.state.row_codecs`."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.state.row_codecs import OptionalFacts, append_optional, split_optional


class LeaseRow(NamedTuple):
    """``leases``, key tenant/skuId: the partition's side of a seat lease.

    Optional: ``off``, true while the product is off (R15).
    """

    granted: int
    returned: int
    request_seq: int
    grant_seq: int
    recall: int
    contended: bool
    free_units: int
    purchased: int
    consumed: int
    last_reported: tuple[int, ...]
    report_due: bool
    optional_facts: OptionalFacts = None


class PartitionLeaseRow(NamedTuple):
    """The lease of one partition, inside a row of ``seats``.

    ``longest_waiting``: (since in milliseconds, user id) in the order of R8. Optional: ``off``,
    true if the partition has received that the product is off (R15).
    """

    answered_seq: int
    requested_seq: int
    denied_seq: int
    granted: int
    longest_waiting: list[tuple[int, str]]
    needs_prefetch: bool
    grant_due: bool
    grant_seq: int
    recall: int
    returned: int
    contended: bool
    request_seq: int
    used: int
    waiting: int
    demand: int
    optional_facts: OptionalFacts = None


class SeatBudgetRow(NamedTuple):
    """``seats``, key tenant/skuId: the units of a product and to whom they are leased.

    ``units``: enabled, warning, suspended, locked out; ``published``: [units, used, waiting users,
    part number, capabilityStatus] of the counters last published; the last one since format 2.
    Optional: ``deleted``, true after the deletion of the subscription.
    """

    units: tuple[int, int, int, int] | None
    partition_leases: dict[int, PartitionLeaseRow]
    contended: bool
    recall: int
    awaiting_recall_from: list[int]
    covered_requests: dict[int, int]
    seen_fingerprints: bytes
    timestamp_ms: int
    caused_by: str
    published: list[Any] | None
    published_units: tuple[int, int, int, int] | None
    reduction_pending: bool
    optional_facts: OptionalFacts = None


def optional_lease_facts(off: bool, adopted: int) -> OptionalFacts:
    """Returns the optional facts of a lease: whether the product is off, adopted units."""
    facts: dict[str, Any] = {"off": True} if off else {}
    return facts | {"adopted": adopted} if adopted else facts


def encode_lease(row: LeaseRow) -> list[Any]:
    """Returns a row of ``leases``."""
    *fields, facts = row
    return append_optional(fields, facts)


def decode_lease(row: list[Any]) -> LeaseRow:
    """Returns the fields of a row of ``leases``."""
    (*counts, last_reported, report_due), facts = split_optional(row, LeaseRow)
    return LeaseRow._make([*counts, tuple(last_reported), report_due, facts])


def encode_seat_budget(row: SeatBudgetRow) -> list[Any]:
    """Returns a row of ``seats``."""
    fields = [
        row.units,
        {str(p): encode_partition_lease(lease) for p, lease in row.partition_leases.items()},
        row.contended,
        row.recall,
        row.awaiting_recall_from,
        {str(p): seq for p, seq in row.covered_requests.items()},
        row.seen_fingerprints.hex(),
        row.timestamp_ms,
        row.caused_by,
        row.published,
        row.published_units,
        row.reduction_pending,
    ]
    return append_optional(fields, row.optional_facts)


def decode_seat_budget(row: list[Any]) -> SeatBudgetRow:
    """Returns the fields of a row of ``seats``."""
    fields, facts = split_optional(row, SeatBudgetRow)
    (
        units, leases, contended, recall, awaited, covered, seen, at, cause, published,
        published_units, reduction,
    ) = fields  # fmt: skip
    return SeatBudgetRow(
        tuple(units) if units else None,
        {int(p): decode_partition_lease(lease) for p, lease in leases.items()},
        contended,
        recall,
        awaited,
        {int(p): seq for p, seq in covered.items()},
        bytes.fromhex(seen),
        at,
        cause,
        published,
        tuple(published_units) if published_units else None,
        reduction,
        facts,
    )


def encode_partition_lease(row: PartitionLeaseRow) -> list[Any]:
    """Returns one partition's part of a row of ``seats``."""
    *fields, facts = row
    return append_optional(fields, facts)


def decode_partition_lease(row: list[Any]) -> PartitionLeaseRow:
    """Returns the fields of one partition's part of a row of ``seats``."""
    fields, facts = split_optional(row, PartitionLeaseRow)
    answered, asked, denied, granted, waiting, *others = fields
    longest_waiting = [(since, user) for since, user in waiting]
    return PartitionLeaseRow._make(
        [answered, asked, denied, granted, longest_waiting, *others, facts]
    )
