"""The command ``seatflow dead-letters``: shows dead letters, and sends them again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.options import Brokers, Prefix, Text, settings_of
from streams.runtime.visible_text import visible_line

if TYPE_CHECKING:
    from streams.ingest.dead_letters import Filter, InputRecord, Letter
    from streams.runtime.settings import Settings

SHOWN_CHARACTERS = 300
SHOWN_REFUSALS = 10
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
NOTHING_SENT = 1

dead_letters_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show the records that could not be read, and send them again.",
)
Codes = Annotated[
    list[str] | None,
    typer.Option("--code", metavar="CODE", help="Only with this code; may be repeated."),
]
Topics = Annotated[
    list[str] | None,
    typer.Option("--topic", metavar="TOPIC", help="Only of this input topic; may be repeated."),
]
OfTenant = Annotated[
    Text, typer.Option("--tenant", metavar="ID", help="Only with this tenant in key or value.")
]
Since = Annotated[
    Text,
    typer.Option(
        "--since", metavar="TIME", help="Only since then: 90m, 24h, 7d, or 2026-11-24T08:00:00Z."
    ),
]


@dead_letters_app.command("list")
def list_letters(
    code: Codes = None,
    topic: Topics = None,
    tenant: OfTenant = None,
    since: Since = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines, for programs and for resend.")
    ] = False,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """Show dead letters with code and reason, the oldest first."""
    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    letters = _read(settings, _filter(settings, code, topic, tenant, since))
    if as_json:
        import orjson

        from streams.ingest.dead_letters import as_json as document_of

        for letter in letters:
            print(orjson.dumps(document_of(letter)).decode())
        return
    for letter in letters:
        _show(letter)
    print(f"{len(letters):,} dead letters." if letters else "No dead letters.", file=sys.stderr)


@dead_letters_app.command("resend")
def resend(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Mended letters, from `list --json`; - for standard input. Without it, the letters"
            " of the topic are sent as they are.",
        ),
    ] = None,
    code: Codes = None,
    topic: Topics = None,
    tenant: OfTenant = None,
    since: Since = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    brokers: Brokers = None,
    topic_prefix: Prefix = None,
) -> None:
    """Send dead letters again: mended ones from a file, or those that can be read by now.

    What would be a dead letter again is not sent. An event that was sent again before is recognized
    while it is among the last 64 of its object; after that it counts as new.
    """
    settings = settings_of(brokers=brokers, topic_prefix=topic_prefix)
    wanted = _filter(settings, code, topic, tenant, since)
    letters = _read(settings, wanted) if file is None else _mended(file, wanted)
    records = _readable(letters, mended=file is not None)
    if not records:
        print("Nothing to send.", file=sys.stderr)
        raise typer.Exit(NOTHING_SENT if letters else 0)
    counts = Counter(record.topic for record in records)
    listed = ", ".join(f"{count:,} to {name}" for name, count in counts.items())
    if not yes and not typer.confirm(f"Send {len(records):,} events again ({listed})?", err=True):
        print("Nothing was sent.", file=sys.stderr)
        raise typer.Exit(NOTHING_SENT)
    from streams.ingest.dead_letters import send

    print(f"{asyncio.run(send(settings, records)):,} events sent.", file=sys.stderr)


def _filter(
    settings: Settings,
    codes: list[str] | None,
    topics: list[str] | None,
    tenant: str | None,
    since: str | None,
) -> Filter:
    from streams.contract.rejection import CODES
    from streams.ingest.dead_letters import Filter

    for code in codes or ():
        if code not in CODES:
            raise typer.BadParameter(f"{code} is none of {', '.join(CODES)}", param_hint="--code")
    names = frozenset(topic.removeprefix(settings.topic_prefix) for topic in topics or ())
    return Filter(frozenset(codes or ()), names, tenant or "", _since_ms(since) if since else 0)


def _since_ms(since: str) -> int:
    number, unit = since[:-1], since[-1:]
    if number.isdecimal() and unit in UNIT_SECONDS:
        return round((time.time() - int(number) * UNIT_SECONDS[unit]) * 1000)
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(since.upper())
    except ValueError:
        raise typer.BadParameter(
            f"{visible_line(since)} is neither like 90m, 24h, 7d nor like 2026-11-24T08:00:00Z",
            param_hint="--since",
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _read(settings: Settings, wanted: Filter) -> list[Letter]:
    from streams.ingest.dead_letters import read_letters

    async def read() -> list[Letter]:
        return [letter async for letter in read_letters(settings, wanted)]

    return sorted(asyncio.run(read()), key=lambda letter: letter.at_ms)


def _mended(file: Path, wanted: Filter) -> list[Letter]:
    from streams.ingest.dead_letters import letter_from_json
    from streams.ingest.items import FeedError

    if wanted.codes or wanted.since_ms:
        raise typer.BadParameter("--code and --since choose from the topic, not from a file")
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise FeedError(f"{file} cannot be read: {error.strerror}") from None
    letters, bad = [], 0
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        letter = letter_from_json(line)
        if isinstance(letter, str):
            bad += 1
            print(f"seatflow: {file}:{number}: {visible_line(letter)}", file=sys.stderr)
        elif wanted.matches(letter):
            letters.append(letter)
    if bad:
        print("Nothing was sent: mend these lines first.", file=sys.stderr)
        raise typer.Exit(NOTHING_SENT)
    return letters


def _readable(letters: list[Letter], mended: bool) -> list[InputRecord]:
    """Returns the records that can be applied now; prints what is wrong with the others."""
    from streams.contract.rejection import Rejected
    from streams.ingest.dead_letters import input_record

    records, refused = [], []
    for letter in letters:
        record = input_record(letter, mended)
        if isinstance(record, Rejected):
            refused.append((letter, record))
        else:
            records.append(record)
    if refused:
        print(f"{len(refused):,} would be dead letters again:", file=sys.stderr)
    for letter, why in refused[:SHOWN_REFUSALS]:
        key = visible_line((letter.key or b"").decode(errors="replace"))
        print(
            f"  {letter.place or letter.topic} {key}: {visible_line(why.reason)}", file=sys.stderr
        )
    if len(refused) > SHOWN_REFUSALS:
        print(f"  … and {len(refused) - SHOWN_REFUSALS:,} more", file=sys.stderr)
    return records


def _show(letter: Letter) -> None:
    from engine.domain.model import timestamp

    def text(content: bytes | None) -> str:
        shown = "null" if content is None else content.decode(errors="backslashreplace")
        return visible_line(shown[:SHOWN_CHARACTERS]) + (
            "…" if len(shown) > SHOWN_CHARACTERS else ""
        )

    print(
        f"{timestamp(letter.at_ms)}  {letter.code or 'no code'}  {visible_line(letter.topic)}"
        f" {letter.found}"
    )
    print(f"  {visible_line(letter.reason)}")
    print(f"  key    {text(letter.key)}")
    print(f"  value  {text(letter.value)}")
