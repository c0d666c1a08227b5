"""The command ``seatflow feed``: one subcommand per format."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.feed_graph import feed_graph
from streams.cli.options import (
    Brokers,
    DryRun,
    Facts,
    InFile,
    InPages,
    OutFile,
    Prefix,
    Run,
    Strict,
    Tenant,
    Text,
    edition_of,
    settings_of,
)
from streams.runtime.visible_text import visible_line

if TYPE_CHECKING:
    from streams.ingest import Feed, FeedResult
    from streams.runtime.settings import Settings

SOME_ROWS_BAD = 1

feed_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Read a file and publish it as events."
)


@feed_app.command("jsonl")
def feed_jsonl(
    file: InFile,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """JSON Lines: each line is one event of the contract, of any topic."""
    from streams.ingest import events_from_jsonl

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    feed(events_from_jsonl(file), settings, dry_run, strict)


@feed_app.command("catalog")
def feed_catalog(
    file: InFile,
    facts: Facts = "2025",
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    out: OutFile = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """Microsoft's CSV "Product names and service plan identifiers for licensing"."""
    from streams.ingest import events_from_catalog

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    feed(events_from_catalog(file, edition_of(facts)), settings, dry_run, strict, out)


@feed_app.command("csv")
def feed_csv(
    file: InFile,
    tenant: Tenant,
    group: Annotated[
        Text, typer.Option("--group", metavar="ID", help="Group whose members the table lists.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Delete the users, or remove them from the group.")
    ] = False,
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            metavar="CSV",
            help="Export with id and userPrincipalName, to translate names to ids.",
        ),
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option("--result", metavar="CSV", help="Write the result of each row to this file."),
    ] = None,
    run: Run = "",
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    out: OutFile = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """Entra's bulk templates and exports, or any table of users with a header."""
    from streams.ingest.entra_csv import events_from_csv

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    items = events_from_csv(
        file, tenant, group=group, remove=remove, ids=ids, result=result, run=run
    )
    published = False
    try:
        code = _feed(items, settings, dry_run, strict, out)
        published = not dry_run and out is None
    finally:
        items.finish(published)
    if code:
        raise typer.Exit(code)


@feed_app.command("scim")
def feed_scim(
    file: InPages,
    tenant: Tenant,
    run: Run = "",
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    out: OutFile = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """SCIM 2.0: bulk requests, PATCH and other requests, lists of users and groups."""
    needs_extra("scim2_models", "feeds")
    from streams.ingest.scim import events_from_scim

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    feed(events_from_scim(file, tenant, run=run), settings, dry_run, strict, out)


@feed_app.command("debezium")
def feed_debezium(
    map_file: Annotated[
        Path,
        typer.Option(
            "--map", metavar="TOML", help="Mapping of columns to attributes (see the docs)."
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File with one record value per line.")
    ] = None,
    topic: Annotated[
        Text,
        typer.Option("--topic", metavar="NAME", help="Topic of Debezium to read continuously."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="With --topic: exit at the current end of the topic.")
    ] = False,
    run: Run = "",
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    out: OutFile = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """Debezium's change events of a table of people: a file, or a topic, continuously."""
    from streams.ingest.debezium import events_from_debezium
    from streams.ingest.items import FeedError

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    if (file is None) == (topic is None):
        raise FeedError("name either a FILE, or Debezium's topic with --topic")
    if file is not None:
        feed(events_from_debezium(file, map_file, run=run), settings, dry_run, strict, out)
    else:
        _bridge(settings, str(topic), map_file, once)


feed_app.command("graph")(feed_graph)


def _bridge(settings: Settings, topic: str, map_file: Path, once: bool) -> None:
    from streams.ingest.debezium import load_mapping
    from streams.ingest.debezium_bridge import Bridge

    bridge = Bridge(settings, topic, load_mapping(map_file))
    asyncio.run(bridge.run(until_end=once))
    print(
        f"{bridge.processed:,} records processed, {bridge.rejected:,} dead letters", file=sys.stderr
    )


def needs_extra(module: str, extra: str) -> None:
    """Raises FeedError if the packages of an extra are not installed."""
    import importlib.util

    from streams.ingest.items import FeedError

    if importlib.util.find_spec(module) is None:
        raise FeedError(f"this command needs Seatflow's extra `{extra}` (docs/deployment.md)")


def feed(
    items: Feed, settings: Settings, dry_run: bool, strict: bool, out: Path | None = None
) -> None:
    """Publishes, prints or writes the feed; the exit code is 1 if some rows were bad."""
    if code := _feed(items, settings, dry_run, strict, out):
        raise typer.Exit(code)


def _feed(items: Feed, settings: Settings, dry_run: bool, strict: bool, out: Path | None) -> int:
    from streams.ingest import FeedResult, publish, write
    from streams.runtime.settings import client_options

    options: dict[str, Any] = {
        "strict": strict,
        "on_problem": lambda problem: print(f"seatflow: {visible_line(problem)}", file=sys.stderr),
    }
    result = FeedResult()
    try:
        if out is not None:
            result = write(items, out, **options)
        else:
            kafka = client_options(settings)
            brokers, prefix = settings.brokers, settings.topic_prefix
            work = publish(
                items, brokers, prefix, kafka=kafka, dry_run=dry_run, result=result, **options
            )
            with interruptible_reads():
                asyncio.run(work)
    except KeyboardInterrupt:
        report_interruption(result, dry_run, out)
        raise
    report(result, "would be published" if dry_run else f"written to {out}" if out else None)
    report_notes(items)
    return SOME_ROWS_BAD if result.bad_rows else 0


@contextmanager
def interruptible_reads() -> Iterator[None]:
    """Lets Ctrl-C end a read of standard input: asyncio's own handler waits until it has ended.

    Python has signals in its main thread alone: elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def report_interruption(result: FeedResult, dry_run: bool, out: Path | None) -> None:
    """Prints what a feed had done when Ctrl-C ended it, and that it may be repeated."""
    if out is not None:
        print(f"Interrupted: {out} is not complete.", file=sys.stderr)
    elif not dry_run:
        print(
            f"Interrupted: {result.acknowledged:,} events are published. Feed the same file again"
            " to complete it: events that are published already change nothing.",
            file=sys.stderr,
        )


def report_notes(items: object) -> None:
    """Prints what a feed skipped, and its warnings."""
    for what, count in sorted(getattr(items, "skipped", {}).items()):
        print(f"skipped: {count:,} × {visible_line(what)}", file=sys.stderr)
    for warning in getattr(items, "warnings", ()):
        print(f"warning: {visible_line(warning)}", file=sys.stderr)


def report(result: FeedResult, done: str | None) -> None:
    """Prints the counts of a feed. ``done``: what was done with the events, if not published."""
    by_topic = ", ".join(f"{topic} {count:,}" for topic, count in sorted(result.topics.items()))
    verb = done or f"published in {result.seconds:.1f} s"
    line = f"{result.events:,} events {verb}" + (f": {by_topic}" if by_topic else "")
    if result.bad_rows:
        line += f"; {result.bad_rows:,} bad rows, see above"
    if result.gave_up:
        line += (
            f". Stopped: not one of the first {result.bad_rows} rows can be read. Is the file of"
            " another format? `seatflow feed --help` lists them"
        )
    elif result.stopped_at:
        line += " (--strict: stopped there)"
    print(line, file=sys.stderr)
