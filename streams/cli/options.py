"""The options that several commands share.

Most are settings under shorter names; a flag wins over the environment. They are taken as text, so
that ``streams/runtime/settings.py`` alone decides what is allowed, in the same words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.runtime.settings import Settings


def flag(name: str, meaning: str, metavar: str) -> Any:
    """Returns an option that shows no default, since the setting has it."""
    return typer.Option(f"--{name}", help=meaning, metavar=metavar, show_default=False)


Text = str | None
Brokers = Annotated[Text, flag("brokers", "Kafka bootstrap servers.", "HOST:PORT,…")]
Prefix = Annotated[Text, flag("topic-prefix", "Prefix of all topic names.", "TEXT")]
AppId = Annotated[Text, flag("app-id", "Consumer group of the workers.", "NAME")]
WorkerId = Annotated[
    Text,
    flag(
        "worker-id",
        "Identity for static membership: a quick restart does not trigger a rebalance.",
        "NAME",
    ),
]
Partitions = Annotated[Text, flag("partitions", "Number of partitions of every topic.", "NUMBER")]
Replication = Annotated[Text, flag("replication", "Replication factor of new topics.", "NUMBER")]
DataDir = Annotated[Text, flag("data-dir", "Data directory.", "DIR")]
MetricsPort = Annotated[
    Text, flag("metrics-port", "Port for /metrics and health checks; 0: any free port.", "PORT")
]
LogLevel = Annotated[Text, flag("log-level", "debug, info, warning or error.", "LEVEL")]
LogFormat = Annotated[Text, flag("log-format", "console or json.", "FORMAT")]
InFile = Annotated[Path, typer.Argument(metavar="FILE", help="Input file; - for standard input.")]
InPages = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Input file, or a folder of them; - for standard input."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the events instead of publishing them.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Write the events to this file as JSON Lines instead of publishing them.",
    ),
]
Tenant = Annotated[
    str, typer.Option("--tenant", metavar="ID", help="Tenant that the users and groups belong to.")
]
Facts = Annotated[
    str,
    typer.Option(
        "--facts",
        metavar="2022|2025",
        help="Edition of the facts about plans: which exclude or require each other.",
    ),
]
Run = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="TEXT",
        help="Salt for event ids; change it to feed the same file again.",
        show_default=False,
    ),
]


def edition_of(facts: str) -> str:
    """Returns the edition of the facts about plans. Raises: typer.BadParameter."""
    from streams.catalog import EDITIONS

    if facts not in EDITIONS:
        raise typer.BadParameter(f"--facts is {facts}, not one of {', '.join(EDITIONS)}")
    return facts


def settings_of(**flags: str | None) -> Settings:
    """Returns the settings, with the given flags over the environment. Raises: SettingsError."""
    from streams.runtime.settings import load_settings

    return load_settings(**flags)
