"""The shape of Seatflow on one screen: Faust agents, one for each machine of a partition.

An agent consumes the topics of its machine and passes each batch to the partition that owns it; the
machine (``engine/partition_machine.py``) keeps the tables, as rows of the partition's changelog.
Machines of one partition share one configuration and one transaction, so an agent only carries.
One more agent carries events that were found on another partition, for any machine (R29).
A test compares this page with the machine's own handlers and loaders.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Final, NamedTuple

from streams.kafka.faust_adapter import App, Batch

Batches = AsyncIterable[Batch]


class MachineAgent(NamedTuple):
    """The topics that a machine consumes, and the tables of the changelog that it keeps."""

    machine: str  # the attribute of PartitionMachine that holds it
    topics: tuple[str, ...]
    tables: tuple[str, ...]


USERS: Final = MachineAgent(
    "users",
    topics=(
        "user-changes",
        "internal.configuration",
        "internal.seat-grants",
        "internal.address-verdicts",
    ),
    tables=("users", "plans", "leases", "jobs", "products", "tenants", "groups"),
)
GROUPS: Final = MachineAgent(
    "groups", topics=("group-changes", "internal.group-reports"), tables=("group-state",)
)
PRODUCTS: Final = MachineAgent(
    "products", topics=("subscriptions", "internal.seat-requests"), tables=("seats",)
)
ADDRESSES: Final = MachineAgent(
    "addresses",
    topics=("internal.address-claims",),
    tables=("claims", "owner-changes", "addresses"),
)
CATALOG: Final = MachineAgent(
    "catalog", topics=("catalog", "tenants"), tables=("catalogue", "tenant-settings")
)
AGENTS: Final = (USERS, GROUPS, PRODUCTS, ADDRESSES, CATALOG)
FORWARDED: Final = "internal.forwarded-events"


def define_agents(app: App, deliver: Callable[[Batch], None]) -> None:
    """Adds the agents to the app; ``deliver`` queues a batch at its partition and never raises."""
    _define_forwarding(app, deliver)

    @app.agent(app.batches(*USERS.topics), name=USERS.machine)
    async def users(batches: Batches) -> None:
        """Decides the licences of each user, and reserves seats from the partition's leases."""
        async for batch in batches:
            deliver(batch)

    @app.agent(app.batches(*GROUPS.topics), name=GROUPS.machine)
    async def groups(batches: Batches) -> None:
        """Publishes what groups license to every partition, and sums up their members' states."""
        async for batch in batches:
            deliver(batch)

    @app.agent(app.batches(*PRODUCTS.topics), name=PRODUCTS.machine)
    async def products(batches: Batches) -> None:
        """Leases the seats of each product to the partitions that request them."""
        async for batch in batches:
            deliver(batch)

    @app.agent(app.batches(*ADDRESSES.topics), name=ADDRESSES.machine)
    async def addresses(batches: Batches) -> None:
        """Decides which user owns each proxy address."""
        async for batch in batches:
            deliver(batch)

    @app.agent(app.batches(*CATALOG.topics), name=CATALOG.machine)
    async def catalog(batches: Batches) -> None:
        """Publishes products and tenant settings to every partition."""
        async for batch in batches:
            deliver(batch)


def _define_forwarding(app: App, deliver: Callable[[Batch], None]) -> None:
    @app.agent(app.batches(FORWARDED), name="forwarded")
    async def forwarded(batches: Batches) -> None:
        """Takes the events of this partition that a producer put on another one."""
        async for batch in batches:
            deliver(batch)
