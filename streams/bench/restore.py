"""Restore: a new worker takes over the state of a million users.

From the first partition that is fenced to the last that is restored, by the worker's own log. Rows
are those of the state: users, addresses, groups, seats; the log may hold older ones, read as well.
"""

from __future__ import annotations

from streams.bench.environment import PARTITIONS, BenchEnvironment
from streams.bench.onboarding import GROUPS, SPARE, onboard, prepare
from streams.bench.report import Result
from streams.bench.workload import bench_demand
from streams.runtime.log_events import PARTITION_FENCED

USERS, QUICK_USERS = 1_000_000, 5_000


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    units = {name: n * SPARE // 100 for name, n in bench_demand(users, GROUPS).items()}
    await prepare(env, units, users)
    (await onboard(env, users)).worker.stop()
    env.show.step("a new worker restores", None)
    worker = env.start_worker()
    restored = await worker.restored(PARTITIONS)
    began = min(line["at"] for line in worker.said(PARTITION_FENCED))
    seconds = max(line["at"] for line in restored) - began
    rows = sum(line["rows"] for line in restored)
    return Result(
        env.name,
        f"{users:,} users, {rows:,} rows in {seconds:.1f} s on one worker",
        unit="rows/s",
        events_per_second=rows / seconds,
        rss_bytes_per_user=worker.rss() / users,
        goal="200,000 rows/s",
        reached=rows / seconds >= 200_000,
        details={
            "seconds": seconds,
            "records_read": sum(line["records"] for line in restored),
            "users_per_second": users / seconds,
        },
    )
