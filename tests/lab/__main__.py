"""`python -m tests.lab [E=name] [SEED=n]`: runs the experiments and prints their table."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from random import SystemRandom

from rich.console import Console
from rich.table import Table

from tests.lab.experiments import EXPERIMENTS
from tests.lab.runner import run
from tests.lab.verdict import COUNTED, Row

RUNS = Path("runs")


def main(arguments: list[str]) -> int:
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := set(given) - {"E", "SEED"}:
        return _usage(f"what is {sorted(unknown)[0]}?")
    names = given.get("E", "").split(",") if given.get("E") else list(EXPERIMENTS)
    if wrong := [name for name in names if name not in EXPERIMENTS]:
        return _usage(f"there is no experiment {wrong[0]!r}")
    seed = int(given.get("SEED") or SystemRandom().randrange(1_000_000))
    # Like Ctrl-C: brokers and workers are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows = []
    for name in names:
        folder = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{seed}"
        console.print(f"{name}, seed {seed}: {EXPERIMENTS[name].harm}", highlight=False)
        rows.append(run(EXPERIMENTS[name], seed, folder))
        _tell(console, rows[-1], folder)
    console.print(table(rows))
    (RUNS / "table.md").write_text(markdown(rows))
    return 0 if all(row.good for row in rows) else 1


def _usage(wrong: str) -> int:
    print(f"{wrong}\npython -m tests.lab [E=name,...] [SEED=n]; the experiments:", file=sys.stderr)
    for name, experiment in EXPERIMENTS.items():
        print(f"  {name:12} {experiment.harm}", file=sys.stderr)
    return 2


def _tell(console: Console, row: Row, folder: Path) -> None:
    if row.skipped:
        console.print(f"  skipped: {row.skipped}", highlight=False)
        return
    counts = ", ".join(f"{name} {row.counts[name]}" for name in COUNTED)
    word = "good" if row.good else "BAD"
    console.print(f"  {word}: {counts}; stall {row.stall:.1f} s, settled in {row.settle:.1f} s")
    for problem in row.problems:
        console.print(f"  {problem}", highlight=False, markup=False)
    console.print(f"  {folder}", highlight=False)


HEAD = ("experiment", "seed", *COUNTED, "inputs", "stall s", "settle s", "exits", "run s")


def cells(row: Row) -> list[str]:
    if row.skipped:
        return [row.experiment, str(row.seed), "skipped"] + [""] * (len(HEAD) - 3)
    exits = " ".join(f"{code}×{count}" for code, count in sorted(row.exits.items()))
    counts = [str(row.counts[name]) for name in COUNTED]
    times = [f"{row.stall:.1f}", f"{row.settle:.1f}", exits or "-", f"{row.seconds:.0f}"]
    return [row.experiment, str(row.seed), *counts, str(row.inputs), *times]


def table(rows: list[Row]) -> Table:
    found = Table(title="Fault laboratory")
    for name in HEAD:
        found.add_column(name, justify="left" if name == "experiment" else "right")
    for row in rows:
        found.add_row(*cells(row), style=None if row.good else "red")
    return found


def markdown(rows: list[Row]) -> str:
    """Returns the table for docs/faults.md."""
    lines = [HEAD, ("---",) + ("---:",) * (len(HEAD) - 1), *(cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
