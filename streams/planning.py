"""``seatflow simulate`` and ``export``: what would happen, and what there is."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.options import Brokers, Prefix, settings_of

if TYPE_CHECKING:
    from streams.feed import FeedProblem
    from streams.simulate import Findings, Simulation

SOME_ROWS_BAD = 1
KEPT_PROBLEMS = 1_000

Snapshot = Annotated[
    Path | None,
    typer.Option("--on", metavar="FILE", help="What is there before: `seatflow export` makes it."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines, one finding each.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the report with charts here.")
]


def simulate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Events as JSON Lines; - for standard input."),
    ],
    on: Snapshot = None,
    as_json: Json = False,
    html: Html = None,
) -> None:
    """Dry run without Kafka: what would become of these events, on the engine itself.

    Other formats first: [bold]seatflow feed csv … --out events.jsonl[/bold].
    """
    findings = run(files, on)
    tell(findings, as_json, html, f"Simulation of {', '.join(file.name for file in files)}")
    if findings.bad_rows:
        raise typer.Exit(SOME_ROWS_BAD)


def run(files: list[Path], on: Path | None) -> Findings:
    """The findings of the files, one after the other, on top of a snapshot if there is one."""
    from streams.simulate.findings import compare, remember
    from streams.simulate.machine import Simulation

    simulation = Simulation()
    if on is not None and (problems := _read(simulation, on)):
        from streams.feed import FeedError

        raise FeedError(f"{on} is not a snapshot: {problems[0]}")
    before = remember(simulation)
    began = time.perf_counter()
    problems = [problem for file in files for problem in _read(simulation, file)]
    findings = compare(before, simulation)
    findings.seconds = time.perf_counter() - began
    findings.bad_rows, findings.problems = len(problems), problems[:KEPT_PROBLEMS]
    return findings


def _read(simulation: Simulation, file: Path) -> list[FeedProblem]:
    from rich.console import Console
    from rich.progress import track

    from streams.feed import events_from_jsonl

    feed = events_from_jsonl(file)
    console = Console(stderr=True)
    if not console.is_terminal:
        return simulation.run(feed.events())
    events = track(feed.events(), f"Simulating {file.name}", console=console, transient=True)
    return simulation.run(events)


def tell(findings: Findings, as_json: bool, html: Path | None, title: str) -> None:
    if html is not None:
        from streams.feed import FeedError
        from streams.simulate.html import page

        try:
            html.write_text(page(findings, title), encoding="utf-8")
        except OSError as error:
            raise FeedError(f"{html} cannot be written: {error.strerror}") from None
    if as_json:
        import orjson

        for line in findings.as_lines():
            sys.stdout.write(orjson.dumps(line).decode() + "\n")
    else:
        from rich.console import Console

        from streams.simulate.report import show

        show(findings, Console())
        if html is not None:
            print(f"Report with charts: {html}", file=sys.stderr)


def export(
    tenant: Annotated[str, typer.Option("--tenant", metavar="ID", help="Whose state.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To be written.")],
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """A snapshot of a tenant as events: to simulate on, or to move it elsewhere.

    Wait for the workers first: [bold]seatflow status --wait[/bold].
    """
    from streams.feed import FeedError
    from streams.simulate.export import Snapshot, differences, partitions_of

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    snapshot = Snapshot(asyncio.run(partitions_of(settings)), tenant)
    count = 0
    try:
        with file.open("wb") as out:
            for line in snapshot.lines():
                out.write(line + b"\n")
                count += 1
    except OSError as error:
        raise FeedError(f"{file} cannot be written: {error.strerror}") from None
    other = differences(snapshot)
    print(f"{count:,} events of {len(snapshot.users()):,} users written to {file}", file=sys.stderr)
    if other:
        print(
            f"{len(other):,} users come out otherwise, {other[0]} for one: they keep what does not"
            " follow from what is known now (R11, R12, R14)",
            file=sys.stderr,
        )
