"""A snapshot of the numbers of a partition for the metrics; reads its machines only."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from engine.partition_machine import PartitionMachine


class ProductSeats(NamedTuple):
    """The counters of one (tenant, product) as they were last published."""

    tenant: str
    sku: str
    part_number: str | None
    units: int
    used: int
    waiting: int


class MetricsSnapshot(NamedTuple):
    """The numbers of one partition.

    ``seats``: of the products that this partition owns. ``errors``: users by kind of error, one
    with two kinds in both; ``with_errors``: users with any. ``groups``: this partition's, by state.
    ``held``, ``denied``: users who have a seat, who wait for one, as this partition's users say;
    over all partitions they make up ``used`` and ``waiting`` of all products. ``oversold``: seats
    used without being leased, which no rule allows.
    """

    counters: dict[str, int]
    seats: list[ProductSeats]
    errors: dict[str, int]
    groups: dict[str, int]
    with_errors: int
    groups_with_errors: int
    users: int
    in_flight: int
    held: int
    denied: int
    oversold: int


def snapshot(partition: PartitionMachine) -> MetricsSnapshot:
    """Returns the numbers of a partition; reads its machines, changes nothing."""
    users, groups = partition.users, partition.groups
    tenants = partition.configuration.tenants.values()
    leases = [lease for tenant in tenants for lease in tenant.leases.values()]
    return MetricsSnapshot(
        partition.counters,
        seats(partition),
        dict(users.applier.in_error),
        dict(groups.statuses),
        users.applier.with_errors,
        groups.with_errors,
        sum(len(tenant.users) for tenant in tenants),
        len(users.allocator.in_flight),
        sum(lease.used for lease in leases),
        sum(lease.waiting for lease in leases),
        sum(max(0, -lease.idle) for lease in leases) + _used_without_lease(partition),
    )


def seats(partition: PartitionMachine) -> list[ProductSeats]:
    """Returns the published counters of the products that the partition owns."""
    found = []
    for product in partition.products.budgets.values():
        if product.published:
            (enabled, warning, *_), used, waiting, part_number, *_ = product.published
            units = enabled + warning
            found.append(
                ProductSeats(product.tenant, product.sku, part_number, units, used, waiting)
            )
    return found


def _used_without_lease(partition: PartitionMachine) -> int:
    """Returns the units that partitions use beyond those granted to them and not returned."""
    return sum(
        max(0, part.used - part.leased)
        for product in partition.products.budgets.values()
        for part in product.partition_leases.values()
    )
