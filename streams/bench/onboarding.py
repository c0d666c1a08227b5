"""Bulk onboarding: users come with their memberships, and every one of them gets licences.

Each user is a ``user.upserted`` and two ``membership.added`` into two of 500 licensed groups. The
groups, products and seats are known before. All events are in the topic when the worker starts. The
clock runs from the moment that its first partition is restored and begins to read, until the last
user's state is readable by others, committed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from streams.bench.limit import measure_limit
from streams.bench.report import Result
from streams.bench.stand import PARTITIONS, BenchError, Stand, WorkerProcess
from streams.catalogue import product
from streams.workload import PRODUCTS, bench_configuration, bench_demand, bench_onboarding

USERS, QUICK_USERS = 200_000, 3_000
GROUPS = 500
EVENTS_PER_USER = 3


class Run(NamedTuple):
    """What one onboarding took. ``worker`` still runs."""

    worker: WorkerProcess
    events: int
    seconds: float
    cpu: float
    rss_before: int
    rss_after: int

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds


async def run(stand: Stand) -> Result:
    users = QUICK_USERS if stand.quick else USERS
    await prepare(stand, bench_demand(users, GROUPS), users)
    before = await measure_limit(stand, users * EVENTS_PER_USER)
    done = await onboard(stand, users)
    done.worker.stop()
    after = await measure_limit(stand, users * EVENTS_PER_USER)
    await _check_all_served(stand, users)
    limit = (before.events_per_second + after.events_per_second) / 2
    return Result(
        stand.name,
        f"{users:,} users, {done.events:,} events, 8 partitions, 1 worker",
        events_per_second=done.events_per_second,
        limit_events_per_second=limit,
        rss_bytes_per_user=(done.rss_after - done.rss_before) / users,
        goal="100,000 events/s, 0.55 of the limit",
        reached=done.events_per_second >= 100_000 and done.events_per_second >= 0.55 * limit,
        details={"seconds": done.seconds, "worker_cpu_seconds": done.cpu}
        | {"limit_runs": [before.events_per_second, after.events_per_second]},
    )


async def prepare(stand: Stand, units: Mapping[str, int], users: int) -> None:
    """A worker learns the configuration and stops; then the users' events are put in the topic."""
    worker = stand.start_worker()
    await stand.publish(bench_configuration(units, GROUPS), "configuration", GROUPS + 7)
    await stand.settled(worker, "configuration", 0)
    worker.stop()
    events = users * EVENTS_PER_USER
    await stand.publish(bench_onboarding(users, GROUPS), "users' events", events)


async def onboard(stand: Stand, users: int) -> Run:
    """A worker starts, and handles what is in the topic."""
    worker = stand.start_worker()
    started = (await worker.restored(1))[0]["at"]
    rss, cpu = worker.rss(), worker.cpu()
    growth = await stand.settled(worker, "onboarding", users)
    return Run(
        worker,
        users * EVENTS_PER_USER,
        growth[-1][0] - started,
        worker.cpu() - cpu,
        rss,
        worker.rss(),
    )


async def _check_all_served(stand: Stand, users: int) -> None:
    """Outside of the clock: every user has what its groups license."""
    latest: dict[bytes, bytes] = {}
    async for record in stand.read("user-licenses"):
        latest[record.key] = record.value
    held: Counter[str] = Counter()
    for value in latest.values():
        held.update(each["skuId"] for each in orjson.loads(value)["assignedLicenses"])
    names = {product(name)["skuId"]: name for name in PRODUCTS}
    found = {names[sku]: count for sku, count in held.items()}
    wanted = dict(bench_demand(users, GROUPS))
    if len(latest) != users or found != wanted:
        raise BenchError(
            f"{len(latest)} of {users} users are published, with {found} licences of {wanted}"
        )


__all__ = ["GROUPS", "PARTITIONS", "Run", "onboard", "prepare", "run"]
