"""The command ``seatflow``: composes the commands, which are in the other modules of this package.

What a command needs is imported when it runs, so that ``--help`` is fast.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from streams.cli.backup import backup, restore
from streams.cli.dead_letters import dead_letters_app
from streams.cli.errors import INTERRUPTED, fail
from streams.cli.feed import feed_app
from streams.cli.inspect import list_settings, read, status
from streams.cli.receive import receive
from streams.cli.run import bench, broker, console, demo, topics_app, worker
from streams.cli.simulate import export, plan_app, simulate

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Group-based licensing as a stream processor on Apache Kafka.\n\n"
    "New here? [bold]seatflow demo[/bold] shows everything on this machine. Settings come from"
    " flags, SEATFLOW_… environment variables, or an .env file; [bold]seatflow settings[/bold]"
    " lists them.",
)
app.add_typer(topics_app, name="topics")
app.add_typer(feed_app, name="feed")
app.add_typer(plan_app, name="plan")
app.add_typer(dead_letters_app, name="dead-letters")
app.command()(simulate)
app.command()(export)
app.command()(receive)
app.command()(broker)
app.command()(backup)
app.command()(restore)
app.command()(worker)
app.command()(status)
app.command()(read)
app.command("settings")(list_settings)
app.command()(console)
app.command()(demo)
app.command()(bench)


def _print_version(wanted: bool) -> None:
    """Prints the version and which build of the hot path runs, then ends the command."""
    if wanted:
        from importlib.metadata import version

        from streams import COMPILED

        print(f"seatflow {version('seatflow')}, {'compiled' if COMPILED else 'plain Python'}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version, and whether its hot path is compiled.",
        ),
    ] = False,
) -> None:
    """Takes the options that stand before the command."""


def main() -> None:
    """Runs the command. An error is one clear line and an exit code, without a traceback."""
    # The libraries log errors that also reach us as exceptions, and retries that will succeed. A
    # worker configures its own log.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        fail(error)
