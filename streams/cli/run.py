"""The commands that run something: broker, topics, worker, console, demo, benchmarks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import (
    AppId,
    Brokers,
    DataDir,
    LogFormat,
    LogLevel,
    MetricsPort,
    Partitions,
    Prefix,
    Replication,
    Text,
    WorkerId,
    flag,
    settings_of,
)

if TYPE_CHECKING:
    from streams.kafka.topic_admin import TopicsReport
    from streams.runtime.settings import Settings

topics_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Create or check the topics."
)


@topics_app.callback()
def topics_group() -> None:
    """Create or check the topics."""


def note_if_unreachable(settings: Settings) -> None:
    """Tells the user that the command waits for a broker, if none is reachable yet."""
    from streams.local.ports import kafka_answers

    if settings.security_protocol != "PLAINTEXT":
        return
    for address in settings.brokers.split(","):
        host, _, port = address.rpartition(":")
        if kafka_answers(host, int(port)):
            return
    print(
        f"No broker is reachable at {settings.brokers} yet; waiting up to 30 s."
        " (`seatflow broker` starts one.)",
        file=sys.stderr,
    )


def broker(brokers: Brokers = None, data_dir: DataDir = None) -> None:
    """Run Apache Kafka for development, in the foreground."""
    from streams.local.broker import run_in_foreground
    from streams.runtime.data_directory import check_directory

    settings = settings_of(brokers=brokers, data_dir=data_dir)
    check_directory(settings.data_dir)
    raise typer.Exit(run_in_foreground(settings.brokers, settings.data_dir))


@topics_app.command("create")
def topics_create(
    brokers: Brokers = None,
    partitions: Partitions = None,
    topic_prefix: Prefix = None,
    replication: Replication = None,
    log_format: LogFormat = None,
) -> None:
    """Create missing topics, check the existing ones and mend settings; safe to repeat."""
    from streams.kafka.topic_admin import create_topics
    from streams.runtime import log_events
    from streams.runtime.errors import CONFIGURATION

    settings = settings_of(
        brokers=brokers,
        partitions=partitions,
        topic_prefix=topic_prefix,
        replication=replication,
        log_format=log_format,
    )
    in_json = settings.log_format == "json"
    if in_json:
        log_events.configure(settings.log_level, settings.log_format)
    else:
        log_events.configure("error", settings.log_format)  # the line below says it for people
        note_if_unreachable(settings)
    report = asyncio.run(create_topics(settings))
    (_log_topics if in_json else _print_topics)(settings, report)
    if report.problems:
        raise typer.Exit(CONFIGURATION)


@topics_app.command("list")
def topics_list(brokers: Brokers = None, topic_prefix: Prefix = None) -> None:
    """List the topics with their partitions; exit code 78 if one is missing."""
    from streams.kafka.topic_admin import list_topics
    from streams.runtime.errors import CONFIGURATION

    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    note_if_unreachable(settings)
    found = asyncio.run(list_topics(settings))
    for name, partitions in found.items():
        print(f"{name}  {'missing' if partitions is None else f'{partitions} partitions'}")
    if None in found.values():
        print("seatflow: make the missing topics with `seatflow topics create`", file=sys.stderr)
        raise typer.Exit(CONFIGURATION)


def _print_topics(settings: Settings, report: TopicsReport) -> None:
    each = "" if report.problems else f", {settings.partitions} partitions each"
    print(
        f"{len(report.created)} topics created, {len(report.found)} existed already:"
        f" {settings.topic_prefix}* at {settings.brokers}{each}."
    )
    for sentence in report.mended:
        print(f"mended {sentence}")
    for problem in report.problems:
        print(f"seatflow: {problem}", file=sys.stderr)


def _log_topics(settings: Settings, report: TopicsReport) -> None:
    """Reports as JSON log lines, for containers."""
    import structlog

    from streams.runtime import log_events

    log = structlog.get_logger(__name__)
    log.info(
        log_events.TOPICS_CHECKED,
        made=len(report.created),
        found=len(report.found),
        brokers=settings.brokers,
        partitions=settings.partitions,
    )
    for sentence in report.mended:
        log.warning(log_events.TOPIC_MENDED, why=sentence)
    for problem in report.problems:
        log.error(log_events.TOPIC_WRONG, why=problem)


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
    """Run one worker; start as many as needed."""
    settings = settings_of(
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

    note_if_unreachable(settings)
    raise typer.Exit(run_worker(settings))


def console(
    http_host: Annotated[Text, flag("host", "Address to listen on.", "ADDRESS")] = None,
    http_port: Annotated[Text, flag("port", "Port to listen on; 0: any free port.", "PORT")] = None,
    http_tokens_file: Annotated[
        Text, flag("tokens", "Token file (TOML): who may use the console.", "FILE")
    ] = None,
    token_for: Annotated[
        Text, flag("new-token", "Print a new token and its entry for the token file.", "NAME")
    ] = None,
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
    data_dir: DataDir = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the web console and the HTTP API (needs the extra `console`)."""
    if token_for is not None:
        from streams.console.security.auth import new_token

        token, entry = new_token(token_for)
        print(f"{entry}\n# the token, for its holder only: {token}")
        return
    settings = settings_of(
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


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit when the scenario has finished.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=8, help="Number of workers.")] = 2,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Directory for data and logs.", show_default="temporary"),
    ] = None,
) -> None:
    """Run everything on this machine: Kafka, workers, a sample tenant."""
    from streams.demo.runner import run_demo
    from streams.runtime.data_directory import check_directory

    if data_dir is not None:
        check_directory(data_dir, named_by="--data-dir")

    raise typer.Exit(run_demo(once, workers, data_dir))


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME…", help="Benchmarks to run, e.g. onboarding; all for all of them."
        ),
    ] = None,
    brokers: Brokers = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results to this file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a chart to this file (PNG).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Run a tenth of the work.")] = False,
) -> None:
    """Run benchmarks, each compared with the limit of the broker."""
    import importlib

    if brokers is not None:
        brokers = settings_of(brokers=brokers).brokers
    run = importlib.import_module("streams.bench").run
    raise typer.Exit(run(names or ["onboarding"], brokers, json_file, plot, quick))
