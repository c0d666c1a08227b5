"""The results of the benches as a table, as JSON and as a plot."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from streams import COMPILED
from streams.kafka.producers import COMPRESSION


@dataclass(slots=True)
class Result:
    """One bench's figures. ``percentiles`` in milliseconds; ``None``: not measured by this bench.

    ``unit`` says what ``events_per_second`` counts, where it is not events.
    """

    name: str
    work: str
    unit: str = "events/s"
    events_per_second: float | None = None
    limit_events_per_second: float | None = None
    percentiles: dict[str, float] | None = None
    rss_bytes_per_user: float | None = None
    goal: str = ""
    reached: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The rate as a share of the limit, if there is one."""
        if self.events_per_second is None or not self.limit_events_per_second:
            return None
        return self.events_per_second / self.limit_events_per_second

    def as_json(self) -> dict[str, Any]:
        """Returns the members for the JSON report."""
        return {
            "name": self.name,
            "work": self.work,
            "unit": self.unit,
            "events_per_second": self.events_per_second,
            "limit_events_per_second": self.limit_events_per_second,
            "ratio": self.ratio,
            "percentiles_ms": self.percentiles,
            "rss_bytes_per_user": self.rss_bytes_per_user,
            "goal": self.goal,
            "reached": self.reached,
            "details": self.details,
        }


def machine() -> dict[str, Any]:
    """Returns the properties of the machine and the build that the figures depend on."""
    model = "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), model)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        memory = 0
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_bytes": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiled": COMPILED,
        "compression": compression(),
        "load_average": list(os.getloadavg()),
    }


def compression() -> dict[str, str]:
    """Returns the compression of a worker's and the baseline's records; one factory makes both."""
    return {"worker": COMPRESSION, "limit": COMPRESSION}


def print_table(results: Sequence[Result], console: Console, quick: bool) -> None:
    """Prints the results for people; ``quick``: a trial of small sizes."""
    title = "Quick run: sizes too small to be compared" if quick else None
    table = Table(title=title, title_justify="left")
    for name in ("bench", "rate", "limit", "ratio", "p50 / p95 / p99", "bytes/user"):
        table.add_column(name, justify="left" if name == "bench" else "right", no_wrap=True)
    for result in results:
        table.add_row(
            result.name,
            _number(result.events_per_second, f" {result.unit}"),
            _number(result.limit_events_per_second, ""),
            "" if result.ratio is None else f"{result.ratio:.2f}",
            _latency(result.percentiles),
            _number(result.rss_bytes_per_user, ""),
        )
    console.print(table)
    used = ", ".join(f"{name} {kind}" for name, kind in compression().items())
    console.print(f"Compression: {used}.", highlight=False)
    for result in results:
        mark = {True: "[green]reached[/]", False: "[red]not reached[/]", None: ""}[result.reached]
        goal = f"Goal: {result.goal}. {'' if quick else mark}"
        console.print(f"[bold]{result.name}[/bold]: {result.work}. {goal}", highlight=False)


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.0f}{unit}"


def _latency(percentiles: dict[str, float] | None) -> str:
    if not percentiles:
        return ""
    return " / ".join(f"{percentiles[p]:.0f}" for p in ("p50", "p95", "p99")) + " ms"


def write_json(results: Sequence[Result], path: Path, quick: bool) -> None:
    """Writes the results and the machine's data to a file."""
    body = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick,
        "machine": machine(),
        "benches": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(body, indent=2) + "\n")


def write_plot(results: Sequence[Result], path: Path) -> None:
    """Events per second against the limit, and latencies. Needs matplotlib (extra ``dev``)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rates = [r for r in results if r.events_per_second is not None]
    waits = [r for r in results if r.percentiles]
    figure, axes = pyplot.subplots(1, 2 if waits else 1, squeeze=False, layout="constrained")
    figure.set_size_inches(11 if waits else 7, 1.5 + 0.6 * max(len(rates), 3))
    _draw_rates(axes[0][0], rates)
    if waits:
        _draw_waits(axes[0][1], waits)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_rates(axis: Any, rates: Sequence[Result]) -> None:
    names = [f"{r.name} ({r.unit})" for r in rates]
    axis.barh(
        names, [r.limit_events_per_second or 0 for r in rates], color="#d9d9d9", label="limit"
    )
    axis.barh(names, [r.events_per_second or 0 for r in rates], height=0.45, label="measured")
    for at, result in enumerate(rates):
        share = "" if result.ratio is None else f"  {result.ratio:.2f} of the limit"
        axis.text(result.events_per_second or 0, at, f" {result.events_per_second:,.0f}{share}")
    axis.set_title("Rate")
    axis.invert_yaxis()
    axis.margins(x=0.35)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _draw_waits(axis: Any, waits: Sequence[Result]) -> None:
    for result in waits:
        assert result.percentiles is not None
        axis.plot(
            list(result.percentiles), list(result.percentiles.values()), "o-", label=result.name
        )
    axis.set_title("From the record to the published state")
    axis.set_ylabel("milliseconds")
    axis.set_ylim(bottom=0)
    axis.legend()
