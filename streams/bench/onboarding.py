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

from streams.bench.baseline import BrokerBaseline, measure_baseline
from streams.bench.environment import PARTITIONS, BenchEnvironment, BenchError, WorkerProcess
from streams.bench.report import Result
from streams.bench.workload import (
    PRODUCTS,
    TENANT,
    TIME,
    Record,
    bench_configuration,
    bench_demand,
    bench_onboarding,
)
from streams.catalog import product

USERS, QUICK_USERS = 200_000, 3_000
GROUPS = 500
SPARE = 110  # per cent of the seats that are needed
EVENTS_PER_USER = 3


class Run(NamedTuple):
    """The figures of one onboarding; ``worker`` is still running."""

    worker: WorkerProcess
    users: int
    seconds: float
    steady: float  # events/s from the first readable states on
    cpu: float
    rss_before: int
    rss_after: int

    @property
    def events(self) -> int:
        """The events of all users."""
        return self.users * EVENTS_PER_USER

    @property
    def events_per_second(self) -> float:
        """The rate without the worker's start."""
        return self.events / self.seconds


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    demand = bench_demand(users, GROUPS)
    # Seats enough, and some spare, as in a tenant that is well run.
    await prepare(env, {name: n * SPARE // 100 for name, n in demand.items()}, users)
    done, limit = await beside_the_limit(env, users)
    check_licences(await licences(env), demand, users)
    return figures(env, done, limit, "100,000 events/s, 0.55 of the limit", 0.55, 100_000)


async def beside_the_limit(env: BenchEnvironment, users: int) -> tuple[Run, list[BrokerBaseline]]:
    """Runs the onboarding between two runs of the bare pipeline, and stops the worker after it."""
    before = await measure_baseline(env, users * EVENTS_PER_USER)
    done = await onboard(env, users)
    done.worker.stop()
    return done, [before, await measure_baseline(env, users * EVENTS_PER_USER)]


def figures(
    env: BenchEnvironment,
    done: Run,
    limits: list[BrokerBaseline],
    goal: str,
    share: float,
    least: float = 0.0,
) -> Result:
    """Returns the result; the goal is the rate ``least`` and the ``share`` of the limit."""
    rates = [limit.events_per_second for limit in limits]
    limit, rate, users = sum(rates) / len(rates), done.events_per_second, done.users
    cpu = [limit.cpu_seconds / done.events * 1e6 for limit in limits]
    return Result(
        env.name,
        f"{users:,} users, {done.events:,} events, {PARTITIONS} partitions, 1 worker",
        events_per_second=rate,
        limit_events_per_second=limit,
        rss_bytes_per_user=(done.rss_after - done.rss_before) / users,
        goal=goal,
        reached=rate >= least and rate >= share * limit,
        details={
            "seconds": done.seconds,
            "limit_runs_events_per_second": rates,
            "worker_cpu_microseconds_per_event": done.cpu / done.events * 1e6,
            "limit_cpu_microseconds_per_event": sum(cpu) / len(cpu),
        },
    )


async def prepare(env: BenchEnvironment, units: Mapping[str, int], users: int) -> None:
    """Has a worker apply the configuration and stop, and then publishes the users' events."""
    worker = env.start_worker()
    await env.publish(bench_configuration(units, GROUPS), "configuration", GROUPS + 7)
    await env.settled(worker, "configuration", 0)
    worker.stop()
    events = users * EVENTS_PER_USER
    await env.publish(bench_onboarding(users, GROUPS), "users' events", events)


def license_group(group: str, name: str) -> Record:
    """Returns the event that assigns one product (by short name) to a group."""
    body = {
        "type": "licenses.changed",
        "id": f"license-{group}",
        "time": TIME,
        "tenant": TENANT,
        "group": group,
        "addLicenses": [{"skuId": product(name)["skuId"]}],
    }
    return "group-changes", f"{TENANT}/{group}".encode(), orjson.dumps(body)


async def onboard(env: BenchEnvironment, users: int) -> Run:
    """Starts a worker, and measures it until all events in the topic are applied."""
    worker = env.start_worker()
    started = (await worker.restored(1))[0]["at"]
    rss, cpu = worker.rss(), worker.cpu()
    growth = await env.settled(worker, "onboarding", users)
    return Run(
        worker,
        users,
        growth[-1][0] - started,
        _steady(growth, users * EVENTS_PER_USER),
        worker.cpu() - cpu,
        rss,
        worker.rss(),
    )


def _steady(growth: list[tuple[float, int]], events: int) -> float:
    """Returns the events/s between the first and the last growth, i.e. without the start-up."""
    (_, none), (began, some), (ended, all) = growth[0], growth[1], growth[-1]
    return events * (all - some) / (all - none) / (ended - began) if ended > began else 0.0


async def licences(env: BenchEnvironment) -> dict[bytes, set[str]]:
    """Returns the products that each published user holds, by short name."""
    latest: dict[bytes, bytes | None] = {}
    async for record in env.read("user-licenses"):
        latest[record.key] = record.value
    names = {product(name)["skuId"]: name for name in PRODUCTS}
    return {
        key: {names[each["skuId"]] for each in orjson.loads(value)["assignedLicenses"]}
        for key, value in latest.items()
        if value is not None
    }


def check_licences(held: dict[bytes, set[str]], wanted: Mapping[str, int], users: int) -> None:
    """Checks, outside of the measured time, that every user has the wanted products."""
    found: Counter[str] = Counter()
    for names in held.values():
        found.update(names)
    if len(held) != users or found != Counter(wanted):
        raise BenchError(
            f"{len(held)} of {users} users are published, with {dict(found)} licences; there should"
            f" be {dict(wanted)}"
        )
