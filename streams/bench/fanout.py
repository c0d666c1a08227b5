"""Fan-out: one licence change on a group of a million members, until all of them are published.

Meanwhile other users' direct changes go on at a steady pace; how long they wait is measured by
their ``results``, which are committed together with the states.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from streams.bench.environment import BenchEnvironment, BenchError, WorkerProcess
from streams.bench.onboarding import license_group
from streams.bench.probe import Probe, percentiles
from streams.bench.report import Result
from streams.bench.workload import TENANT, TIME, Record, bench_configuration
from streams.catalog import product
from streams.runtime.deadline import Deadline

MEMBERS, QUICK_MEMBERS = 1_000_000, 4_000
BIG = "everybody"
OTHERS = 200  # users who are not in the group
PROBE_RATE = 20.0
MOST_WAIT = 0.25

_USER = (
    '{"type":"user.upserted","id":"b%(n)d","time":"' + TIME + '","tenant":"' + TENANT + '",'
    '"user":"%(user)s","userPrincipalName":"%(user)s@bench.example","usageLocation":"US"}'
)
_MEMBER = (
    '{"type":"membership.added","id":"m%(n)d","time":"' + TIME + '",'
    '"tenant":"' + TENANT + '","user":"%(user)s","group":"' + BIG + '"}'
)


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    members = QUICK_MEMBERS if env.quick else MEMBERS
    worker = env.start_worker()
    units = {"E3": 2 * members, "EMS": 2 * OTHERS, "E5": 1}
    await env.publish(bench_configuration(units, 2), "configuration", 9)
    await env.publish(_people(members), "members", 2 * members + OTHERS)
    await env.settled(worker, "members join", 0)
    began, growth, waits = await _change(env, worker, members)
    published = growth[-1][1] - growth[0][1]
    if published < members:
        raise BenchError(f"{published} of {members} members were published")
    rate = members / (growth[-1][0] - began)
    return Result(
        env.name,
        f"one licence change, {members:,} members; {len(waits)} other changes meanwhile",
        unit="users/s",
        events_per_second=rate,
        percentiles=percentiles(waits),
        goal="100,000 users/s; others wait at most 250 ms",
        reached=rate >= 100_000 and max(waits) <= MOST_WAIT,
        details={"seconds": growth[-1][0] - began, "others": len(waits)},
    )


async def _change(
    env: BenchEnvironment, worker: WorkerProcess, members: int
) -> tuple[float, list[tuple[float, int]], list[float]]:
    """Returns the start of the fan-out, the growth of the published states, and others' waits."""
    async with Probe(env, "results") as probe:
        ended = asyncio.Event()

        async def others() -> None:
            count = 0
            while not ended.is_set():
                await probe.send(*_direct_change(count))
                count += 1
                await asyncio.sleep(1 / PROBE_RATE)

        task = asyncio.create_task(others())
        await asyncio.sleep(1.0)
        await env.publish([license_group(BIG, "E3")], "the change", 1)
        began, since = time.time(), time.monotonic()
        growth = await _published(env, worker, members)
        until = time.monotonic()
        ended.set()
        await task
        await probe.all_seen()
    return began, growth, [wait for sent, wait in probe.waits if since <= sent <= until]


async def _published(
    env: BenchEnvironment, worker: WorkerProcess, members: int
) -> list[tuple[float, int]]:
    """Waits until the states of all members are readable, and returns their growth."""
    step = env.show.step("fan-out", members)
    growth = [(time.time(), await env.committed("user-licenses"))]
    deadline = Deadline(600)
    while growth[-1][1] - growth[0][1] < members:
        await asyncio.sleep(0.05)
        worker.check()
        growth.append((time.time(), await env.committed("user-licenses")))
        step(growth[-1][1] - growth[0][1])
        if deadline.has_passed:
            raise BenchError("the fan-out did not end in 600 s")
    return growth


def _people(members: int) -> Iterator[Record]:
    for n in range(members + OTHERS):
        user = f"u{n:07d}" if n < members else f"other{n - members}"
        key, values = f"{TENANT}/{user}".encode(), {"n": n, "user": user}
        yield "user-changes", key, (_USER % values).encode()
        if n < members:
            yield "user-changes", key, (_MEMBER % values).encode()


def _direct_change(n: int) -> tuple[str, str, dict[str, Any]]:
    """Gives EMS to one of the others, the next round takes it."""
    user, turn = f"other{n % OTHERS}", n // OTHERS
    sku = product("EMS")["skuId"]
    body: dict[str, Any] = {"type": "licenses.changed", "id": f"direct-{n}", "time": TIME}
    body |= {"tenant": TENANT, "user": user}
    body |= {"removeLicenses": [sku]} if turn % 2 else {"addLicenses": [{"skuId": sku}]}
    return "user-changes", f"{TENANT}/{user}", body
