"""`seatflow bench`: how fast it is, beside the limit of the same machine at the same time."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streams.bench.environment import BenchEnvironment, BenchError, a_broker
from streams.bench.progress import ProgressBar
from streams.bench.report import Result, print_table, write_json, write_plot

NAMES = (
    "onboarding",
    "directory",
    "contention",
    "fanout",
    "restore",
    "latency",
    "memory",
    "growth",
    "workers",
    "console",
    "engine",
    "rules",
)
IN_MEMORY = ("engine", "rules")


def run(
    names: Sequence[str],
    brokers: str | None = None,
    json_file: Path | None = None,
    plot: Path | None = None,
    quick: bool = False,
) -> int:
    """Runs the benches of these names (``all``: every one); returns the exit code.

    ``brokers``: a cluster that is there; without it, one of its own. ``quick``: sizes that take
    seconds, to try the benches themselves.
    """
    console = Console(stderr=True)
    wanted = list(NAMES) if "all" in names else list(dict.fromkeys(names))
    if unknown := [name for name in wanted if name not in NAMES]:
        console.print(f"There is no bench {unknown[0]!r}. There are: {', '.join(NAMES)}, or all.")
        return 2
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        console.print("--plot needs matplotlib, which the extra `dev` has")
        return 2
    # aiokafka tells of retries that then succeed.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        results = asyncio.run(_run(wanted, brokers, quick, console))
    except BenchError as error:
        console.print(f"seatflow bench: {error}", markup=False)
        return 1
    print_table(results, Console(), quick)
    if json_file is not None:
        write_json(results, json_file, quick)
    if plot is not None:
        write_plot(results, plot)
    return 0


async def _run(
    names: Sequence[str], brokers: str | None, quick: bool, console: Console
) -> list[Result]:
    show = ProgressBar(console)
    results = []
    with show.progress:
        async with a_broker(brokers, show, [n for n in names if n not in IN_MEMORY]) as (
            where,
            logs,
        ):
            for name in names:
                show.bench(name)
                bench = importlib.import_module(f"streams.bench.{name}")
                env = BenchEnvironment(where, name, logs, show, quick)
                if name in IN_MEMORY:
                    results.append(await bench.run(env))
                    continue
                async with env:
                    results.append(await bench.run(env))
    return results
