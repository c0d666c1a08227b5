"""A whole directory: GUIDs, 20,000 groups of which 500 are licensed, 30 memberships a user.

It comes in two orders: as Microsoft Graph lists it, users first and then the members group by
group, and as an HR system sends it, user by user. Each is measured as an onboarding is, between two
runs of the bare pipeline. A day of changes follows, and a restore by another worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from streams.bench.baseline import measure_baseline
from streams.bench.directory_workload import Directory, DirectorySize
from streams.bench.engine import Loop
from streams.bench.environment import PARTITIONS, BenchEnvironment
from streams.bench.onboarding import check_licences, licences
from streams.bench.report import Result
from streams.bench.workload import Record
from streams.contract.topics import PRODUCED
from streams.runtime.log_events import PARTITION_FENCED

SIZE = DirectorySize(users=100_000, groups=20_000, licensed=500, memberships=30)
QUICK_SIZE = DirectorySize(users=200, groups=200, licensed=20, memberships=30)
LEAST_EVENTS_PER_SECOND, LEAST_SHARE, MOST_BYTES_PER_USER = 100_000, 0.45, 2_000
IN_MEMORY_EVENTS = 200_000

Order = Callable[[Directory], Iterator[Record]]
ORDERS: dict[str, Order] = {
    "graph": Directory.as_graph_lists_it,
    "hr": Directory.as_hr_sends_it,
}


class Load(NamedTuple):
    """The figures of one order."""

    events_per_second: float
    limit_events_per_second: float
    worker_cpu_microseconds_per_event: float
    rss_bytes_per_user: float
    rss_bytes_per_membership: float
    bytes_written_per_event: dict[str, float]
    records_per_event: dict[str, float]
    changes_per_second: float
    restored_rows_per_second: float
    microseconds_per_event_in_memory: dict[str, float]

    @property
    def ratio(self) -> float:
        """The rate as a share of the limit."""
        return self.events_per_second / self.limit_events_per_second


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    directory = Directory(QUICK_SIZE if env.quick else SIZE)
    loads: dict[str, Load] = {}
    for name, order in ORDERS.items():
        async with env.another() as each:
            loads[name] = await _load(each, directory, name, order)
    slower = min(loads.values(), key=lambda load: load.events_per_second)
    size = directory.size
    memory = max(load.rss_bytes_per_user for load in loads.values())
    return Result(
        env.name,
        f"{size.users:,} users, {directory.events:,} events, {size.groups:,} groups, 1 worker; "
        + ", ".join(f"{name} {load.events_per_second:,.0f}/s" for name, load in loads.items()),
        events_per_second=slower.events_per_second,
        limit_events_per_second=slower.limit_events_per_second,
        rss_bytes_per_user=memory,
        goal="100,000 events/s, 0.45 of the limit in both orders, 2,000 bytes a user",
        reached=memory <= MOST_BYTES_PER_USER
        and all(
            load.events_per_second >= LEAST_EVENTS_PER_SECOND and load.ratio >= LEAST_SHARE
            for load in loads.values()
        ),
        details={name: {**load._asdict(), "ratio": load.ratio} for name, load in loads.items()},
    )


async def _load(env: BenchEnvironment, directory: Directory, name: str, order: Order) -> Load:
    configuration = list(directory.configuration())
    first = env.start_worker()
    await env.publish(configuration, "configuration", len(configuration))
    await env.settled(first, "configuration", 0)
    first.stop()
    events, users = directory.events, directory.size.users
    await env.publish(order(directory), f"the directory, {name}", events)
    before = await _offsets(env)

    limits = [await measure_baseline(env, events)]
    worker = env.start_worker()
    started = (await worker.restored(1))[0]["at"]
    rss, cpu = worker.rss(), worker.cpu()
    growth = await env.settled(worker, f"the directory, {name}", users)
    seconds, cpu, rss = growth[-1][0] - started, worker.cpu() - cpu, worker.rss() - rss
    records = {topic: end - before[topic] for topic, end in (await _offsets(env)).items()}
    size = await _mean_bytes(env)
    check_licences(await licences(env), directory.demand(), users)

    changes = directory.day_of_changes()
    began = time.time()
    await env.publish(changes, "a day of changes", len(changes))
    growth = await env.settled(worker, "a day of changes", len(changes))
    spent = growth[-1][0] - began
    worker.stop()
    limits.append(await measure_baseline(env, events))
    return Load(
        events / seconds,
        sum(limit.events_per_second for limit in limits) / len(limits),
        cpu / events * 1e6,
        rss / users,
        rss / users / directory.size.memberships,
        {topic: count * size[topic] / events for topic, count in records.items() if count},
        {topic: count / events for topic, count in records.items() if count},
        len(changes) / spent,
        await _restored_rows_per_second(env),
        _in_memory(configuration, order(directory)),
    )


async def _offsets(env: BenchEnvironment) -> dict[str, int]:
    """Returns the committed offsets of what workers write; markers of transactions count."""
    return {name: await env.committed(name) for name in PRODUCED}


async def _mean_bytes(env: BenchEnvironment) -> dict[str, float]:
    """Returns the mean size of a record, key and value before compression, by topic.

    Of those that can be read: the broker may have compacted some away.
    """
    found: dict[str, float] = {}
    for name in PRODUCED:
        records = size = 0
        async for record in env.read(name):
            records += 1
            size += len(record.key or b"") + len(record.value or b"")
        found[name] = size / records if records else 0.0
    return found


async def _restored_rows_per_second(env: BenchEnvironment) -> float:
    worker = env.start_worker()
    restored = await worker.restored(PARTITIONS)
    began: float = min(line["at"] for line in worker.said(PARTITION_FENCED))
    worker.stop()
    rows: int = sum(line["rows"] for line in restored)
    ended: float = max(line["at"] for line in restored)
    return rows / (ended - began)


def _in_memory(configuration: list[Record], records: Iterator[Record]) -> dict[str, float]:
    """Returns the processor time of each stage, without Kafka, of the first events."""
    some = list(islice(records, IN_MEMORY_EVENTS))
    loop = Loop(configuration)
    loop.play(some)
    stages: list[tuple[str, Any]] = sorted(loop.seconds.items(), key=lambda item: -item[1])
    return {stage: seconds / len(some) * 1e6 for stage, seconds in stages}
