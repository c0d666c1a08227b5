"""Memory: what the worker's process grows by for each of a million users that it onboards."""

from __future__ import annotations

from streams.bench.environment import BenchEnvironment
from streams.bench.onboarding import GROUPS, SPARE, onboard, prepare
from streams.bench.report import Result
from streams.bench.workload import bench_demand

USERS, QUICK_USERS = 1_000_000, 5_000


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    units = {name: n * SPARE // 100 for name, n in bench_demand(users, GROUPS).items()}
    await prepare(env, units, users)
    done = await onboard(env, users)
    each = (done.rss_after - done.rss_before) / users
    return Result(
        env.name,
        f"{users:,} users on one worker: growth of its resident size from its start to the end",
        events_per_second=done.events_per_second,
        rss_bytes_per_user=each,
        goal="700 bytes a user",
        reached=each <= 700,
        details={"rss_before": done.rss_before, "rss_after": done.rss_after},
    )
