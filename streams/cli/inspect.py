"""The commands that show something: status, records, settings."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import AppId, Brokers, Partitions, Prefix, Text, WorkerId, settings_of

if TYPE_CHECKING:
    from rich.status import Status

    from streams.kafka.topic_reader import TopicRecord
    from streams.runtime.settings import Settings


NOTHING_FOUND = 1


def status(
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all lag is zero.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            min=0,
            help="With --wait: give up after S seconds (exit code 75).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    watching: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
) -> None:
    """Show workers, lag, seats and errors on one screen."""
    from rich.console import Console

    from streams.cli.status_screen import show, watch
    from streams.kafka.group_status import read_status

    settings = settings_of(brokers=brokers, app_id=app_id, topic_prefix=topic_prefix)
    if wait:
        asyncio.run(wait_for_workers(settings, timeout))
        if not as_json:
            return
    if watching:
        asyncio.run(watch(settings, Console()))
    found = asyncio.run(read_status(settings))
    if as_json:
        import orjson

        print(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        show(found, Console())


async def show_lag(line: Status, left: int) -> None:
    """Shows the number of records left on the status line."""
    line.update(f"{left:,} records left" if left else "No lag; checking once more")


async def wait_for_workers(settings: Settings, timeout: float | None) -> None:
    """Waits until the workers have applied everything. ``timeout``: in seconds."""
    from rich.console import Console

    from streams.kafka.group_status import LagReader, wait_until_settled

    console = Console(stderr=True)

    async with LagReader(settings) as reader:
        with console.status("Reading the lag") as line:
            await wait_until_settled(reader, timeout, lambda left: show_lag(line, left))
    console.print("Done: no lag on any input or internal topic.", highlight=False)


def read(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="Topic without its prefix, e.g. user-licenses.")
    ],
    key: Annotated[
        Text,
        typer.Option(
            "--key", metavar="KEY", help="Print only records with this key, e.g. contoso/u0001."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep printing new records until Ctrl-C.")
    ] = False,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """Print the records of a topic as JSON Lines."""
    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    name = topic.removeprefix(settings.topic_prefix)
    check_topic(name)
    found = asyncio.run(_read(settings, name, key, follow))
    if not found:
        what = f"no record with the key {key}" if key else "no record yet"
        print(f"seatflow: {settings.topic_prefix}{name} has {what}", file=sys.stderr)
        raise typer.Exit(NOTHING_FOUND if key else 0)


def check_topic(name: str) -> None:
    """Refuses a name that no topic has; internal topics can be read, too. Raises: WorkerError."""
    from streams.contract.topics import RECEIVED, TOPICS
    from streams.runtime.errors import CONFIGURATION, WorkerError
    from streams.runtime.nearest import did_you_mean

    names = [each.name for each in (*TOPICS, RECEIVED)]
    if name not in names:
        public = ", ".join(each for each in names if not each.startswith("internal."))
        meant = did_you_mean(name, names) or "."
        raise WorkerError(
            f"{name} is no topic{meant} The topics are {public}, and internal.* for the messages"
            " of workers",
            CONFIGURATION,
        )


async def _read(settings: Settings, topic: str, key: str | None, follow: bool) -> int:
    """Prints the records; returns how many they were."""
    import orjson

    from streams.kafka.topic_reader import TopicReader

    printed = 0

    def print_record(record: TopicRecord) -> None:
        nonlocal printed
        if key is not None and record.key != key:
            return
        printed += 1
        value = record.value
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        line: dict[str, Any] = {"key": record.key, "value": value}
        if record.headers:
            line["headers"] = record.headers
        print(orjson.dumps(line).decode(), flush=follow)

    async with TopicReader(settings, [topic], on_record=print_record) as follower:
        await follower.catch_up()
        while follow:
            await follower.read(0.5)
    return printed


def list_settings(
    brokers: Brokers = None,
    app_id: AppId = None,
    worker_id: WorkerId = None,
    partitions: Partitions = None,
    topic_prefix: Prefix = None,
) -> None:
    """List all settings: value, meaning, and what is allowed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from streams.runtime.settings import describe

    settings = settings_of(
        brokers=brokers,
        app_id=app_id,
        worker_id=worker_id,
        partitions=partitions,
        topic_prefix=topic_prefix,
    )
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Setting", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("Meaning")
    for one in describe(settings):
        value = escape(one.value) or "[dim]unset[/]"
        if one.value != one.default:
            value = f"[bold]{value}[/] [dim](default {escape(one.default) or 'unset'})[/]"
        allowed = f" [dim]({escape(one.allowed)})[/]" if one.allowed else ""
        table.add_row(one.name, value, escape(one.meaning) + allowed)
    Console().print(table, highlight=False)
