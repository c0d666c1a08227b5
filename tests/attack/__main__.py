"""`python -m tests.attack [SECONDS=60] [SEED=n] [ONLY=name,...]`: attacks a system of its own."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom

from rich.console import Console

from streams.local.broker import Broker
from tests.attack.attacks import ATTACKS
from tests.attack.runner import GRAMMAR, AttackRun
from tests.attack.verdict import table

RUNS = Path("runs")


def main(arguments: list[str]) -> int:
    given = dict(argument.partition("=")[::2] for argument in arguments)
    names = [name for name in given.get("ONLY", "").split(",") if name]
    if unknown := [
        *(set(given) - {"SECONDS", "SEED", "ONLY"}),
        *(set(names) - {*ATTACKS, GRAMMAR}),
    ]:
        print(f"what is {unknown[0]}?\n{__doc__}\nThe attacks:", file=sys.stderr)
        for attack in ATTACKS.values():
            print(f"  {attack.name:16} {attack.says}", file=sys.stderr)
        return 2
    seed = int(given.get("SEED") or SystemRandom().randrange(1_000_000))
    seconds = float(given.get("SECONDS") or 60)
    # aiokafka tells of every refusal by the broker.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-attack-{seed}"
    console = Console(width=None if sys.stdout.isatty() else 160)
    print(f"seed {seed}, {seconds:.0f} s, {folder}", flush=True)
    with tempfile.TemporaryDirectory() as data, Broker(0, Path(data)) as broker:
        run = AttackRun(
            broker.bootstrap, folder, seed, seconds, lambda text: print(text, flush=True)
        )
        rows = run.run(names or None)
    console.print(table(rows, seed))
    if run.not_run:
        console.print(f"not run, for want of time: {', '.join(run.not_run)}")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
