"""The flags that several commands have. They are settings under shorter names, taken as text, so
that settings alone say what is allowed (streams/runtime/settings.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.runtime.settings import Settings


def flag(name: str, meaning: str, metavar: str) -> Any:
    return typer.Option(f"--{name}", help=meaning, metavar=metavar, show_default=False)


Text = str | None
Brokers = Annotated[Text, flag("brokers", "The Kafka brokers to start from.", "HOST:PORT,…")]
Prefix = Annotated[Text, flag("topic-prefix", "Before every topic's name.", "TEXT")]
InFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file; - for standard input.")]
InPages = Annotated[
    Path, typer.Argument(metavar="FILE", help="The file, or a folder of them; - for standard input")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the events, publish nothing.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Write the events here as JSON Lines, publish nothing."
    ),
]
Tenant = Annotated[
    str, typer.Option("--tenant", metavar="ID", help="Whose users and groups these are.")
]
Run = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="TEXT",
        help="Goes into the events' ids: to feed a file again on purpose.",
        show_default=False,
    ),
]


def settings_of(**flags: str | None) -> Settings:
    from streams.runtime.settings import load_settings

    return load_settings(**flags)
