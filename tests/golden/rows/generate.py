"""Writes golden rows: changelogs of simulated histories in which every optional field occurs.

Run with the release whose format is to be kept, not with a later one; see the README. Without an
argument, the rows of the present format are replaced.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEEDS = 120
ROWS = Path(__file__).resolve().parent
USER_FIELDS = (
    "known", "location", "upn", "mail", "addresses", "primary", "groups", "since", "paths",
    "entries", "problems", "state since", "revision", "seen", "pending",
)  # fmt: skip
PENDING_FIELDS = (
    "request", "change", "deferred changes", "deferred events", "claims", "pending claims",
    "duplicates", "attributes", "evaluation",
)  # fmt: skip
Changelog = dict[tuple[str, str], str]


def simulator() -> tuple[Any, Any]:
    """Returns the function that makes a configuration, and Simulation: both moved since."""
    for module in ("engine.simulation.runner", "engine.simulator"):
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        return getattr(found, "config_for", None) or found.setting, found.Simulation
    raise SystemExit("there is no simulator: run this in a checkout of the release")


def features(changelog: Changelog) -> Iterator[str]:
    """Yields which tables and which kinds of field values the changelog has."""
    for (table, _), text in changelog.items():
        row = json.loads(text)
        if not isinstance(row, list):
            yield f"{table} {bool(row)}"
            continue
        names = USER_FIELDS if table == "users" else [str(n) for n in range(len(row))]
        pending = row[len(USER_FIELDS) - 1] if table == "users" else None
        if row and isinstance(row[-1], dict) and (table != "users" or len(row) > len(names)):
            yield from (f"{table} fact {name} {bool(v)}" for name, v in row[-1].items())
            row = row[:-1] if table == "users" else row  # from format 2 on: optional facts
        for name, value in zip(names, row, strict=table == "users"):
            yield f"{table} {name} {type(value).__name__} {bool(value)}"
        if pending is not None:
            for name, value in zip(PENDING_FIELDS, pending, strict=True):
                yield f"{table} pending {name} {bool(value)}"
            for event in pending[3]:
                yield f"deferred {event[0]}"
        if table == "users" and "/" in row[9]:
            yield f"entry with {row[9].split(',')[0].count('/')} separators"


def histories() -> Iterator[tuple[int, int, int, Changelog]]:
    """Yields seed, partition, partitions and the changelog after each transaction."""
    config_for, simulation = simulator()
    for seed in range(SEEDS):
        found: list[tuple[int, int, int, Changelog]] = []
        s = simulation(config_for(seed))
        broker = s.broker
        append = broker.append

        def appended(t: Any, append: Any = append, broker: Any = broker) -> Any:
            outputs = append(t)
            if outputs is not None:
                changelog = dict(broker.changelogs[t.partition])
                found.append((seed, t.partition, broker.partitions, changelog))  # noqa: B023
            return outputs

        broker.append = appended
        s.load()
        s.heal()
        s.settle()
        yield from found


def folder_of_the_present_format() -> Path:
    """Returns the folder, which exists, without the rows that were in it."""
    from engine.state.formats import ROW_FORMAT

    folder = ROWS / f"v{ROW_FORMAT}"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.jsonl"):
        path.unlink()
    return folder


def main(folder: Path) -> None:
    """Writes to the folder the few changelogs that have all the features together."""
    rare: dict[str, int] = {}
    candidates = []
    for seed, partition, partitions, changelog in histories():
        has = set(features(changelog))
        if any(rare.get(feature, 0) < 4 for feature in has):
            for feature in has:
                rare[feature] = rare.get(feature, 0) + 1
            candidates.append((has, seed, partition, partitions, changelog))
    missing = set(rare)
    number = 0
    while missing:
        best = max(candidates, key=lambda c: (len(c[0] & missing), -len(c[4])))
        has, seed, partition, partitions, changelog = best
        missing -= has
        number += 1
        lines = [json.dumps({"seed": seed, "partition": partition, "partitions": partitions})]
        for (table, key), text in sorted(changelog.items()):
            lines.append(json.dumps([table, key, json.loads(text)], ensure_ascii=False))
        path = folder / f"changelog{number:02}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(path, len(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else folder_of_the_present_format())
