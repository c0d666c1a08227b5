"""Growth: onboarding of more and more users; the rate must not depend on how many there are.

So the clock runs from the first readable states to the last: what a worker needs to begin, the same
for all, weighs more on a short run. The rates that include it are in the details.
"""

from __future__ import annotations

from streams.bench.environment import BenchEnvironment
from streams.bench.onboarding import GROUPS, SPARE, onboard, prepare
from streams.bench.report import Result
from streams.bench.workload import bench_demand

SIZES = (50_000, 200_000, 800_000)
QUICK_SIZES = (500, 1_000, 2_000)
FLAT = 0.15


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    rates: dict[str, float] = {}
    with_start: dict[str, float] = {}
    for users in QUICK_SIZES if env.quick else SIZES:
        async with env.another() as each:
            units = {name: n * SPARE // 100 for name, n in bench_demand(users, GROUPS).items()}
            await prepare(each, units, users)
            done = await onboard(each, users)
            rates[f"{users}"] = done.steady
            with_start[f"{users}"] = done.events_per_second
    least, most = min(rates.values()), max(rates.values())
    shown = ", ".join(f"{int(users):,}: {rate:,.0f}" for users, rate in rates.items())
    return Result(
        env.name,
        f"events/s by users: {shown}",
        events_per_second=least,
        goal="flat within 15 % from 50 k to 800 k users",
        reached=least >= (1 - FLAT) * most,
        details={
            "events_per_second_by_users": rates,
            "events_per_second_from_the_start": with_start,
            "least_of_most": least / most,
        },
    )
