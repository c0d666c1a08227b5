"""One, two and four workers on one machine: what they do together, and what the broker takes.

From the first partition restored to the last user readable, the joining of the later workers
included. What is busy beside the workers and this program is the broker, where it runs on this
machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from streams.bench.environment import BenchEnvironment
from streams.bench.onboarding import EVENTS_PER_USER, GROUPS, SPARE, prepare
from streams.bench.report import Result
from streams.bench.workload import bench_demand

COUNTS = (1, 2, 4)
USERS, QUICK_USERS = 400_000, 2_000


class Together(NamedTuple):
    """Processor time in microseconds an event: of all workers, and of the rest of the machine."""

    events_per_second: float
    workers_cpu: float
    rest_cpu: float
    busy: float  # of all processors, 0 to 1


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    found: dict[str, Together] = {}
    for count in COUNTS:
        async with env.another() as each:
            units = {name: n * SPARE // 100 for name, n in bench_demand(users, GROUPS).items()}
            await prepare(each, units, users)
            found[f"{count}"] = await _together(each, count, users)
    shown = ", ".join(f"{count}: {one.events_per_second:,.0f}" for count, one in found.items())
    return Result(
        env.name,
        f"events/s by workers: {shown}; {os.cpu_count()} processors, the broker's among them",
        events_per_second=max(one.events_per_second for one in found.values()),
        goal="reported",
        details={count: one._asdict() for count, one in found.items()},
    )


async def _together(env: BenchEnvironment, count: int, users: int) -> Together:
    workers = [env.start_worker() for _ in range(count)]
    await workers[0].restored(1)
    began, busy, own = time.time(), _busy(), time.process_time()
    before = sum(worker.cpu() for worker in workers)
    growth = await env.settled(workers[0], f"{count} workers", users)
    seconds = time.time() - began
    spent = sum(worker.cpu() for worker in workers) - before
    used = _busy() - busy
    rest = max(0.0, used - spent - (time.process_time() - own))
    events = users * EVENTS_PER_USER
    for worker in workers:
        worker.stop()
    return Together(
        events / (growth[-1][0] - began),
        spent / events * 1e6,
        rest / events * 1e6,
        used / seconds / (os.cpu_count() or 1),
    )


def _busy() -> float:
    """Seconds of processor time that the machine has spent on anything."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")
