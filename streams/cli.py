"""The command `seatflow`. What a command needs is imported when it runs: `--help` is quick.

Flags are settings (streams/settings.py) under shorter names; a flag wins over the environment.
They are taken as text, so that settings alone say what is allowed, in the same words.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from streams.feed import Feed, FeedResult
    from streams.follow import Followed
    from streams.settings import Settings
    from streams.status import LagReader

INTERRUPTED = 130
SOME_ROWS_BAD = 1


def _flag(name: str, meaning: str, metavar: str) -> Any:
    return typer.Option(f"--{name}", help=meaning, metavar=metavar, show_default=False)


Text = str | None
Brokers = Annotated[Text, _flag("brokers", "The Kafka brokers to start from.", "HOST:PORT,…")]
AppId = Annotated[Text, _flag("app-id", "The consumer group of the workers.", "NAME")]
WorkerId = Annotated[
    Text, _flag("worker-id", "Static membership: a quick restart moves nothing.", "NAME")
]
Partitions = Annotated[Text, _flag("partitions", "Partitions of every topic.", "NUMBER")]
Prefix = Annotated[Text, _flag("topic-prefix", "Before every topic's name.", "TEXT")]
Replication = Annotated[Text, _flag("replication", "Copies of every new topic.", "NUMBER")]
DataDir = Annotated[Text, _flag("data-dir", "Where the broker keeps its data.", "DIR")]
MetricsPort = Annotated[
    Text, _flag("metrics-port", "For /metrics and /healthz; 0: any free one.", "PORT")
]
LogLevel = Annotated[Text, _flag("log-level", "debug, info, warning or error.", "LEVEL")]
LogFormat = Annotated[Text, _flag("log-format", "console or json.", "FORMAT")]
InFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file; - for standard input.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the events, publish nothing.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]

_options: dict[str, Any] = {"no_args_is_help": True, "add_completion": False}
app = typer.Typer(
    **_options,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Group-based licensing as a stream processor on Apache Kafka.\n\n"
    "New here? [bold]seatflow demo[/bold] shows the whole thing on this machine. Settings come from"
    " flags, SEATFLOW_… in the environment, or an .env file; [bold]seatflow settings[/bold] lists"
    " them.",
)
topics_app = typer.Typer(**_options, help="Make or check the topics.")
feed_app = typer.Typer(**_options, help="Read a file and publish it as events.")
app.add_typer(topics_app, name="topics")
app.add_typer(feed_app, name="feed")


def main() -> None:
    """Runs the command; whatever goes wrong is one clear line and an exit code, no traceback."""
    # The libraries log what comes to us as exceptions, and retries that will succeed. A worker
    # configures its own log.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    from streams.exits import CONFIGURATION, TEMPORARY, WorkerError
    from streams.feed import FeedError
    from streams.kafka_jars import BrokerError
    from streams.settings import SettingsError

    if isinstance(error, WorkerError):
        code = error.code
    elif isinstance(error, (SettingsError, BrokerError)):
        code = CONFIGURATION
    elif isinstance(error, FeedError):
        # Caused by Kafka: it may go better the next time.
        code = TEMPORARY if error.__cause__ else CONFIGURATION
    else:
        raise error
    print(f"seatflow: {error}", file=sys.stderr)
    sys.exit(code)


def _settings(**flags: str | None) -> Settings:
    from streams.settings import load_settings

    return load_settings(**flags)


def _tell_if_nobody_answers(settings: Settings) -> None:
    """A broker that is just starting is waited for; who waits should know."""
    from streams.ports import kafka_answers

    if settings.security_protocol != "PLAINTEXT":
        return
    for address in settings.brokers.split(","):
        host, _, port = address.rpartition(":")
        if kafka_answers(host, int(port)):
            return
    print(
        f"No broker answers at {settings.brokers} yet; waiting up to 30 s."
        " (`seatflow broker` starts one.)",
        file=sys.stderr,
    )


@app.command()
def broker(brokers: Brokers = None, data_dir: DataDir = None) -> None:
    """A real single-node Apache Kafka for development, in the foreground."""
    from streams.broker import run_in_foreground

    settings = _settings(brokers=brokers, data_dir=data_dir)
    raise typer.Exit(run_in_foreground(settings.brokers, settings.data_dir))


@topics_app.command("create")
def topics_create(
    brokers: Brokers = None,
    partitions: Partitions = None,
    topic_prefix: Prefix = None,
    replication: Replication = None,
) -> None:
    """Make the topics that are missing and check the others; safe to repeat."""
    from streams.exits import CONFIGURATION
    from streams.topics import create_topics

    settings = _settings(
        brokers=brokers, partitions=partitions, topic_prefix=topic_prefix, replication=replication
    )
    _tell_if_nobody_answers(settings)
    report = asyncio.run(create_topics(settings))
    print(
        f"{len(report.made)} topics made, {len(report.found)} there already:"
        f" {settings.topic_prefix}* at {settings.brokers}, {settings.partitions} partitions each."
    )
    for problem in report.problems:
        print(f"seatflow: {problem}", file=sys.stderr)
    if report.problems:
        raise typer.Exit(CONFIGURATION)


@app.command()
def worker(
    brokers: Brokers = None,
    app_id: AppId = None,
    worker_id: WorkerId = None,
    partitions: Partitions = None,
    topic_prefix: Prefix = None,
    metrics_port: MetricsPort = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """One worker; start as many as wanted. Ctrl-C or SIGTERM stops it cleanly."""
    settings = _settings(
        brokers=brokers,
        app_id=app_id,
        worker_id=worker_id,
        partitions=partitions,
        topic_prefix=topic_prefix,
        metrics_port=metrics_port,
        log_level=log_level,
        log_format=log_format,
    )
    from streams.worker import run_worker

    _tell_if_nobody_answers(settings)
    raise typer.Exit(run_worker(settings))


@feed_app.command("jsonl")
def feed_jsonl(
    file: InFile,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """JSON Lines: each line is one event of the contract, of any topic."""
    from streams.feed import events_from_jsonl

    settings = _settings(brokers=brokers, topic_prefix=topic_prefix)
    _feed(events_from_jsonl(file), settings, dry_run, strict)


@feed_app.command("catalog")
def feed_catalog(
    file: InFile,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """Microsoft's CSV "Product names and service plan identifiers for licensing"."""
    from streams.feed import events_from_catalog

    settings = _settings(brokers=brokers, topic_prefix=topic_prefix)
    _feed(events_from_catalog(file), settings, dry_run, strict)


def _feed(items: Feed, settings: Settings, dry_run: bool, strict: bool) -> None:
    from streams.feed import publish
    from streams.settings import client_options

    result = asyncio.run(
        publish(
            items,
            settings.brokers,
            settings.topic_prefix,
            kafka=client_options(settings),
            dry_run=dry_run,
            strict=strict,
            on_problem=lambda problem: print(f"seatflow: {problem}", file=sys.stderr),
        )
    )
    _told(result, dry_run)
    if result.bad_rows:
        raise typer.Exit(SOME_ROWS_BAD)


def _told(result: FeedResult, dry_run: bool) -> None:
    by_topic = ", ".join(f"{topic} {count:,}" for topic, count in sorted(result.topics.items()))
    verb = "would be published" if dry_run else f"published in {result.seconds:.1f} s"
    line = f"{result.events:,} events {verb}" + (f": {by_topic}" if by_topic else "")
    if result.bad_rows:
        line += f"; {result.bad_rows:,} bad rows, see above"
    if result.stopped_at:
        line += " (--strict: stopped there)"
    print(line, file=sys.stderr)


@app.command()
def status(
    wait: Annotated[bool, typer.Option("--wait", help="Return when all lag is zero.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", min=0, help="With --wait: give up then (exit 75)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
) -> None:
    """Workers, lag, seats, users and groups in error, on one screen."""
    from rich.console import Console

    from streams.status import read_status, show

    settings = _settings(brokers=brokers, app_id=app_id, topic_prefix=topic_prefix)
    if wait:
        asyncio.run(_wait(settings, timeout))
        if not as_json:
            return
    found = asyncio.run(read_status(settings))
    if as_json:
        import orjson

        print(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        show(found, Console())


async def _wait(settings: Settings, timeout: float | None) -> None:
    from rich.console import Console
    from rich.status import Status

    from streams.status import LagReader, wait_until_settled

    console = Console(stderr=True)

    async def wait(reader: LagReader, line: Status) -> None:
        async def look(left: int) -> None:
            line.update(f"{left:,} records to do" if left else "Settled? Looking once more")

        await wait_until_settled(reader, timeout, look)

    async with LagReader(settings) as reader:
        with console.status("Looking") as line:
            await wait(reader, line)
    console.print("All is done: no lag on any input or internal topic.", highlight=False)


@app.command()
def read(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="Without the prefix, say user-licenses.")
    ],
    key: Annotated[
        Text, typer.Option("--key", metavar="KEY", help="Only this key, say contoso/u0001.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """The records of a topic, one line of JSON each: what is in it now, committed only."""
    settings = _settings(brokers=brokers, topic_prefix=topic_prefix)
    asyncio.run(_read(settings, topic.removeprefix(settings.topic_prefix), key, follow))


async def _read(settings: Settings, topic: str, key: str | None, follow: bool) -> None:
    import orjson

    from streams.follow import Follower

    def tell(record: Followed) -> None:
        if key is not None and record.key != key:
            return
        value = record.value
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        shown: dict[str, Any] = {"key": record.key, "value": value}
        if record.headers:
            shown["headers"] = record.headers
        print(orjson.dumps(shown).decode(), flush=follow)

    async with Follower(settings, [topic], on_record=tell) as follower:
        await follower.catch_up()
        while follow:
            await follower.read(0.5)


@app.command("settings")
def list_settings(
    brokers: Brokers = None,
    app_id: AppId = None,
    worker_id: WorkerId = None,
    partitions: Partitions = None,
    topic_prefix: Prefix = None,
) -> None:
    """Every setting: its value now, what it is, what is allowed."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from streams.settings import describe

    settings = _settings(
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


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the story is told.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=8, help="How many.")] = 2,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Keep data and logs in here.", show_default="temporary"),
    ] = None,
) -> None:
    """The whole thing on this machine: a broker, workers, a sample tenant, what happened."""
    from streams.demo import run_demo

    raise typer.Exit(run_demo(once, workers, data_dir))


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Which.")] = None,
    brokers: Brokers = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures here.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw them here (PNG).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the work.")] = False,
) -> None:
    """The benchmarks, each beside what the bare pipeline can do."""
    import importlib

    if brokers is not None:
        brokers = _settings(brokers=brokers).brokers
    run = importlib.import_module("streams.bench").run
    raise typer.Exit(run(names or [], brokers, json_file, plot, quick))
