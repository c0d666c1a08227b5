"""The commands ``seatflow simulate``, ``export`` and ``plan``."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import Brokers, Prefix, settings_of

if TYPE_CHECKING:
    from streams.ingest import FeedProblem
    from streams.simulate import Findings
    from streams.simulate.migration_plan import DirectToGroupPlan
    from streams.whatif import Simulation

SOME_ROWS_BAD = 1
KEPT_PROBLEMS = 1_000

Snapshot = Annotated[
    Path | None,
    typer.Option("--on", metavar="FILE", help="Starting state (JSON from `seatflow export`)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines, one finding each.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a report with charts to this file."),
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
    """Simulate events on the engine, without Kafka, and report the effects.

    Convert other formats first: [bold]seatflow feed csv … --out events.jsonl[/bold].
    """
    findings = run(files, on)
    report(findings, as_json, html, f"Simulation of {', '.join(file.name for file in files)}")
    if findings.bad_rows:
        raise typer.Exit(SOME_ROWS_BAD)


def run(files: list[Path], on: Path | None) -> Findings:
    """Returns the findings of the files, in their order, on top of a snapshot (``on``) if given."""
    from streams.simulate.comparison import compare
    from streams.whatif import Simulation, take_baseline

    simulation = Simulation()
    if on is not None and (problems := _read(simulation, on)):
        from streams.ingest import FeedError

        raise FeedError(f"{on} is not a snapshot: {problems[0]}")
    before = take_baseline(simulation)
    began = time.perf_counter()
    problems = [problem for file in files for problem in _read(simulation, file)]
    findings = compare(before, simulation)
    findings.seconds = time.perf_counter() - began
    findings.bad_rows, findings.problems = len(problems), problems[:KEPT_PROBLEMS]
    return findings


def _read(simulation: Simulation, file: Path) -> list[FeedProblem]:
    from rich.console import Console
    from rich.progress import track

    from streams.ingest import events_from_jsonl
    from streams.simulate import run_feed

    feed = events_from_jsonl(file)
    console = Console(stderr=True)
    if not console.is_terminal:
        return run_feed(simulation, feed.events())
    events = track(feed.events(), f"Simulating {file.name}", console=console, transient=True)
    return run_feed(simulation, events)


def report(findings: Findings, as_json: bool, html: Path | None, title: str) -> None:
    """Prints the findings, and writes them as HTML if asked for. Raises: FeedError."""
    if html is not None:
        from streams.ingest import FeedError
        from streams.simulate.html_report import page

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

        from streams.simulate.text_report import show

        show(findings, Console())
        if html is not None:
            print(f"Report with charts: {html}", file=sys.stderr)


def export(
    tenant: Annotated[str, typer.Option("--tenant", metavar="ID", help="Tenant to export.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """Export a tenant's state as events, to simulate on it or to move it.

    Wait for the workers first: [bold]seatflow status --wait[/bold].
    """
    from streams.ingest import FeedError
    from streams.simulate.snapshot import Snapshot, differences, partitions_of

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
            f"{len(other):,} users would differ, e.g. {other[0]}: their direct licences could not"
            " take the plans that were asked for (R12)",
            file=sys.stderr,
        )


plan_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Plan a change in which no user loses service."
)


@plan_app.callback()
def plan_group() -> None:
    """Plan a change in which no user loses service."""


@plan_app.command("direct-to-group")
def plan_direct_to_group(
    group: Annotated[
        str, typer.Option("--group", metavar="ID", help="Group that assigns the licences.")
    ],
    on: Annotated[
        Path,
        typer.Option("--on", metavar="FILE", help="Starting state (JSON from `seatflow export`)."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="NAME", help="Write NAME.1-join.jsonl, NAME.2-release.jsonl"),
    ],
    product: Annotated[
        str | None,
        typer.Option(
            "--product", metavar="SKU", help="Only this product; the group gets it if it lacks it."
        ),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also release users who lose service plans.")
    ] = False,
) -> None:
    """Move from direct licences to a group's: reports the effects and writes the events.

    Feed the first file, wait, check, then feed the second. Planning again after the first file
    gives the second.
    """
    from streams.simulate.migration_plan import direct_to_group, write

    plan = direct_to_group(on, group, product, accept_loss)
    first, second = (out.with_name(f"{out.name}.{part}.jsonl") for part in ("1-join", "2-release"))
    write(plan.joins, first)
    write(plan.releases, second)
    _report_plan(plan, first, second)


def _report_plan(plan: DirectToGroupPlan, first: Path, second: Path) -> None:
    users_direct = len(plan.both) + len(plan.only_direct)
    print(f"{users_direct:,} users have {', '.join(plan.products)} directly:")
    print(f"  {len(plan.both):,} also through a group, {len(plan.only_direct):,} only directly")
    for title, users in (
        ("would lose service plans, and keep the direct licence", plan.would_lose),
        ("would not be licensed by the group, and keep the direct licence", plan.not_licensed),
    ):
        if users:
            print(f"  {len(users):,} {title}:")
        for user, why in users.items():
            print(f"    {user}: {why if isinstance(why, str) else ', '.join(why)}")
    print(f"  {len(plan.released):,} can be released; {plan.lost:,} users lose a service plan")
    print(f"1. {first}: {len(plan.joins):,} events. Then: seatflow status --wait")
    print(f"2. {second}: {len(plan.releases):,} events")
