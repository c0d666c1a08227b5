"""Latency: at 2,000 events a second, from when an event is sent to when the new state is readable.

The users are there; each event makes another of them join a licensed group, so that each ends in a
new published state of its own.
"""

from __future__ import annotations

import time
from typing import Any

from streams.bench.environment import BenchEnvironment
from streams.bench.onboarding import license_group, onboard, prepare
from streams.bench.probe import Probe, percentiles
from streams.bench.report import Result
from streams.bench.workload import PRODUCTS, TENANT, TIME

RATE, QUICK_RATE = 2_000, 200
SECONDS, QUICK_SECONDS = 30.0, 3.0
LATE = "late"
WARM_UP = 0.1  # of the time, not counted
GOALS = {"p50": 60, "p95": 150, "p99": 300}


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    rate, seconds = (QUICK_RATE, QUICK_SECONDS) if env.quick else (RATE, SECONDS)
    # Nobody has two events, which could end in one state if they came into one batch.
    users = int(1.1 * rate * seconds)
    units = dict.fromkeys(PRODUCTS, 2 * users)
    await prepare(env, units, users)
    await env.publish([license_group(LATE, "E3")], "a group", 1)
    await onboard(env, users)
    env.show.step(f"{rate:,} events/s for {seconds:.0f} s", None)
    async with Probe(env, "user-licenses") as probe:
        began = time.monotonic()
        await probe.send_at(rate, seconds, join)
        await probe.all_seen()
    counted = [wait for sent, wait in probe.waits if sent - began > WARM_UP * seconds]
    found = percentiles(counted)
    return Result(
        env.name,
        f"{len(counted):,} events at {rate:,} a second, {users:,} users, 1 worker",
        percentiles=found,
        goal="p50 60, p95 150, p99 300 ms",
        reached=all(found[name] <= most for name, most in GOALS.items()),
        details={"events": len(counted)},
    )


def join(n: int) -> tuple[str, str, dict[str, Any]]:
    """Returns the event by which user ``n`` joins the group."""
    body = {"type": "membership.added", "id": f"join-{n}", "time": TIME, "tenant": TENANT}
    user = f"u{n:07d}"
    return "user-changes", f"{TENANT}/{user}", {**body, "user": user, "group": LATE}
