"""The console: how fast its read model catches up, and how long its pages take when it has.

It follows the inputs and the outputs of an onboarding from nothing, as after its file was deleted.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from streams.bench.environment import SETTLE_TIMEOUT_SECONDS, BenchEnvironment, BenchError
from streams.bench.onboarding import GROUPS, SPARE, onboard, prepare
from streams.bench.report import Result
from streams.bench.workload import TENANT, bench_demand
from streams.runtime.deadline import Deadline

USERS, QUICK_USERS = 1_000_000, 3_000
TIMES = 5
PAGES = {
    "overview": "/t/{tenant}",
    "users": "/t/{tenant}/users",
    "users by name": "/t/{tenant}/users?search=999999",
    "a user": "/t/{tenant}/users/u0000123",
    "groups": "/t/{tenant}/groups",
    "a group": "/t/{tenant}/groups/g007",
    "products": "/t/{tenant}/products",
    "errors": "/t/{tenant}/errors",
    "audit": "/t/{tenant}/audit",
}


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    units = {name: n * SPARE // 100 for name, n in bench_demand(users, GROUPS).items()}
    await prepare(env, units, users)
    (await onboard(env, users)).worker.stop()
    with (
        tempfile.TemporaryDirectory(prefix="seatflow-console-") as data,
        console(env, data) as at,
    ):
        began = time.monotonic()
        records = await _caught_up(env, at)
        seconds = time.monotonic() - began
        pages = await asyncio.to_thread(_pages, at)
        size = sum(entry.stat().st_size for entry in os.scandir(data))
    slowest = max(pages, key=pages.__getitem__)
    return Result(
        env.name,
        f"{records:,} records of {users:,} users in {seconds:.0f} s; pages take up to"
        f" {pages[slowest]:.0f} ms ({slowest})",
        unit="records/s",
        events_per_second=records / seconds,
        goal="40,000 records/s",
        reached=records / seconds >= 40_000,
        details={"seconds": seconds, "page_milliseconds": pages, "file_bytes": size},
    )


@contextmanager
def console(env: BenchEnvironment, data: str) -> Iterator[str]:
    """Runs `seatflow console` on a free port with an empty read model, and yields its address."""
    settings = env.settings
    variables = os.environ | {
        "SEATFLOW_BROKERS": settings.brokers,
        "SEATFLOW_APP_ID": settings.app_id,
        "SEATFLOW_PARTITIONS": str(settings.partitions),
        "SEATFLOW_TOPIC_PREFIX": settings.topic_prefix,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "console", "--port", "0", "--data-dir", data],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
    try:
        said = ""
        while not (found := re.search(r"(https?://\S+)/", said)):
            said += lines.get(timeout=60)
        yield found[1]
    except queue.Empty:
        raise BenchError(f"the console did not start: {said.strip()[-300:]}") from None
    finally:
        process.terminate()
        process.wait(15)


def _pass_on(stream: Any, lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


async def _caught_up(env: BenchEnvironment, address: str) -> int:
    """Waits until it lags no more; how many records it has applied."""
    step = env.show.step("the console catches up", None)
    deadline = Deadline(SETTLE_TIMEOUT_SECONDS)
    health: dict[str, Any] = {}
    while not deadline.has_passed:
        try:
            health = json.loads(await asyncio.to_thread(_get, f"{address}/health"))
        except urllib.error.URLError:  # it has told its address, and is about to listen
            await asyncio.sleep(0.1)
            continue
        step(health["recordsApplied"])
        if health["status"] == "ok" and not health["lagRecords"]:
            return int(health["recordsApplied"])
        await asyncio.sleep(0.5)
    raise BenchError(f"the console did not catch up: {health}")


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: bytes = answer.read()
            return found
    except urllib.error.HTTPError as error:
        if url.endswith("/health"):
            return error.read()
        raise BenchError(f"{url} answers {error.code}") from error


def _pages(address: str) -> dict[str, float]:
    """Returns the median response time of each page in milliseconds."""
    found = {}
    for name, path in PAGES.items():
        times = []
        for _ in range(TIMES):
            began = time.perf_counter()
            _get(address + path.format(tenant=TENANT))
            times.append((time.perf_counter() - began) * 1000)
        found[name] = statistics.median(times)
    return found
