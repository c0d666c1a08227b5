"""The command `seatflow`. What a command needs is imported when it runs: `--help` is quick.

Flags are settings (streams/runtime) under shorter names; a flag wins over the environment.
They are taken as text, so that settings alone say what is allowed, in the same words.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from streams.cli.feed import feed_app
from streams.cli.options import Brokers, Prefix, Text, flag
from streams.cli.receive import receive
from streams.cli.simulate import export, plan_app, simulate

if TYPE_CHECKING:
    from streams.kafka.group_status import LagReader
    from streams.kafka.topic_reader import Followed
    from streams.runtime.settings import Settings

INTERRUPTED = 130


AppId = Annotated[Text, flag("app-id", "The consumer group of the workers.", "NAME")]
WorkerId = Annotated[
    Text, flag("worker-id", "Static membership: a quick restart moves nothing.", "NAME")
]
Partitions = Annotated[Text, flag("partitions", "Partitions of every topic.", "NUMBER")]
Replication = Annotated[Text, flag("replication", "Copies of every new topic.", "NUMBER")]
DataDir = Annotated[Text, flag("data-dir", "Where the broker keeps its data.", "DIR")]
MetricsPort = Annotated[
    Text, flag("metrics-port", "For /metrics and health; 0: any free one.", "PORT")
]
LogLevel = Annotated[Text, flag("log-level", "debug, info, warning or error.", "LEVEL")]
LogFormat = Annotated[Text, flag("log-format", "console or json.", "FORMAT")]

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
app.add_typer(topics_app, name="topics")
app.add_typer(feed_app, name="feed")
app.add_typer(plan_app, name="plan")
app.command()(simulate)
app.command()(export)
app.command()(receive)


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
    from streams.ingest import FeedError
    from streams.local.kafka_jars import BrokerError
    from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError
    from streams.runtime.settings import SettingsError

    if isinstance(error, WorkerError):
        code = error.code
    elif isinstance(error, (SettingsError, BrokerError)):
        code = CONFIGURATION
    elif isinstance(error, FeedError):
        # Caused by Kafka: it may go better the next time.
        code = TEMPORARY if error.__cause__ else CONFIGURATION
    else:
        _fail_by_a_bug(error)
    print(f"seatflow: {error}", file=sys.stderr)
    sys.exit(code)


def _fail_by_a_bug(error: Exception) -> NoReturn:
    """A worker's traceback belongs in its log; a person who is at the keyboard gets a line."""
    import traceback

    from streams.runtime.errors import SOFTWARE

    if "worker" in sys.argv or os.environ.get("SEATFLOW_LOG_LEVEL") == "debug":
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"seatflow: a bug of Seatflow: {error!r} at {frame.filename}:{frame.lineno}."
        " SEATFLOW_LOG_LEVEL=debug shows the way there.",
        file=sys.stderr,
    )
    sys.exit(SOFTWARE)


def _settings(**flags: str | None) -> Settings:
    from streams.runtime.settings import load_settings

    return load_settings(**flags)


def _tell_if_nobody_answers(settings: Settings) -> None:
    """A broker that is just starting is waited for; who waits should know."""
    from streams.local.ports import kafka_answers

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
    """Apache Kafka for development, in the foreground."""
    from streams.local.broker import run_in_foreground

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
    from streams.kafka.topic_admin import create_topics
    from streams.runtime.errors import CONFIGURATION

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
    """One worker; start as many as wanted."""
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
    from streams.worker.worker import run_worker

    _tell_if_nobody_answers(settings)
    raise typer.Exit(run_worker(settings))


@app.command()
def status(
    wait: Annotated[bool, typer.Option("--wait", help="Return when all lag is zero.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="S", min=0, help="With --wait: give up then (exit 75)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
    watching: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
) -> None:
    """Workers, lag, seats and errors, on one screen."""
    from rich.console import Console

    from streams.kafka.group_status import read_status, show, watch

    settings = _settings(brokers=brokers, app_id=app_id, topic_prefix=topic_prefix)
    if wait:
        asyncio.run(_wait(settings, timeout))
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


async def _wait(settings: Settings, timeout: float | None) -> None:
    from rich.console import Console
    from rich.status import Status

    from streams.kafka.group_status import LagReader, wait_until_settled

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
    """What a topic holds, a line of JSON for each record."""
    settings = _settings(brokers=brokers, topic_prefix=topic_prefix)
    asyncio.run(_read(settings, topic.removeprefix(settings.topic_prefix), key, follow))


async def _read(settings: Settings, topic: str, key: str | None, follow: bool) -> None:
    import orjson

    from streams.kafka.topic_reader import Follower

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

    from streams.runtime.settings import describe

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
def console(
    http_host: Annotated[Text, flag("host", "Where to listen.", "ADDRESS")] = None,
    http_port: Annotated[Text, flag("port", "0: any free one.", "PORT")] = None,
    http_tokens_file: Annotated[Text, flag("tokens", "Who may use it (TOML).", "FILE")] = None,
    token_for: Annotated[
        Text, flag("new-token", "Print a new token and its entry for the file.", "NAME")
    ] = None,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
    data_dir: DataDir = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """The web console and the HTTP API, until Ctrl-C; they need the extra called console."""
    if token_for is not None:
        from streams.console.security.auth import new_token

        token, entry = new_token(token_for)
        print(f"{entry}\n# for the holder, and nobody else: {token}")
        return
    settings = _settings(
        http_host=http_host,
        http_port=http_port,
        http_tokens_file=http_tokens_file,
        brokers=brokers,
        app_id=app_id,
        topic_prefix=topic_prefix,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from streams.console.start import start

    raise typer.Exit(start(settings))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the story is told.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=8, help="How many.")] = 2,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Keep data and logs in here.", show_default="temporary"),
    ] = None,
) -> None:
    """All of it on this machine: Kafka, workers, a sample tenant."""
    from streams.demo.runner import run_demo

    raise typer.Exit(run_demo(once, workers, data_dir))


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Which: onboarding … all.")
    ] = None,
    brokers: Brokers = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures here.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw them here (PNG).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the work.")] = False,
) -> None:
    """The benchmarks, each beside the limit."""
    import importlib

    if brokers is not None:
        brokers = _settings(brokers=brokers).brokers
    run = importlib.import_module("streams.bench").run
    raise typer.Exit(run(names or ["onboarding"], brokers, json_file, plot, quick))
