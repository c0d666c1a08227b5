"""The screen of `seatflow status`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streams.kafka.group_status import Status, StatusReader
from streams.runtime.errors import TEMPORARY, WorkerError
from streams.runtime.settings import Settings
from streams.runtime.terminal import group_cells, group_table, seat_bar

ROWS_SHOWN = 10
NAMES_SHOWN = 5


async def watch(settings: Settings, console: Console, every: float = 2.0) -> None:
    """Refreshes the screen until Ctrl-C.

    The first Ctrl-C takes effect between two readings, since aiokafka may swallow a cancellation.
    The second one interrupts a reading that hangs.

    Raises:
        KeyboardInterrupt: after the first Ctrl-C.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked_to_stop() -> None:
        """Requests the end, and lets a second Ctrl-C interrupt."""
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, asked_to_stop)
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as screen:
        latest: Status | None = None
        while not stop.is_set():
            try:
                async with StatusReader(settings) as reader:
                    while not stop.is_set():
                        latest = await reader.read()
                        screen.update(shown(latest), refresh=True)
                        await _pause(stop, every)
            except WorkerError as error:
                if error.exit_code != TEMPORARY:
                    raise
                screen.update(out_of_date(latest, error), refresh=True)
                await _pause(stop, every)
    raise KeyboardInterrupt


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def out_of_date(latest: Status | None, error: Exception) -> Group:
    """Returns the screen while the broker is away: the reason, and what was known before it."""
    banner = Text(f"Out of date: {error}. Trying again …", style="bold red")
    parts: list[Any] = [Text(), shown(latest)] if latest else []
    return Group(banner, *parts)


def show(status: Status, console: Console) -> None:
    """Prints the status."""
    console.print(shown(status), highlight=False)


def shown(status: Status) -> Group:
    """Returns the status as one screen."""
    heading = f"[bold]Seatflow[/] at {status.brokers}, group {status.app_id}"
    if status.topic_prefix != "licensing.":
        heading += f", topics {status.topic_prefix}*"
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("Workers", _workers_shown(status))
    facts.add_row("Lag", _lag_shown(status))
    facts.add_row("Tenants", _listed(status.tenants))
    facts.add_row("Groups", _groups_shown(status))
    by_error = ", ".join(f"{kind} {users:,}" for kind, users in status.users_by_error.items())
    facts.add_row("Users in error", f"{status.users_in_error:,}" + (by_error and f": {by_error}"))
    if status.deferred:
        facts.add_row("Deferred", _deferred_shown(status))
    letters = f"{status.dead_letters:,}"
    if status.last_dead_letter:
        letters += f", the last one from {escape(status.last_dead_letter)}"
    facts.add_row("Dead letters", letters)
    parts: list[Any] = [Text.from_markup(heading), facts]
    if status.seats:
        parts.append(_seats_table(status.seats))
    if status.groups_in_error:
        parts.append(_group_table(status.groups_in_error))
    return Group(*parts)


def _workers_shown(status: Status) -> Any:
    if not status.workers:
        return "[red]none[/]: start one with `seatflow worker`"
    lines = [
        f"{worker.host} {worker.id[-12:]}: partitions "
        + (" ".join(map(str, worker.partitions)) or "none")
        for worker in status.workers
    ]
    if status.unowned:
        lines.append(f"[red]nobody[/]: partitions {' '.join(map(str, status.unowned))}")
    return Group(*lines)


def _lag_shown(status: Status) -> str:
    behind = {topic: count for topic, count in status.lag.items() if count}
    if not behind:
        return "[green]0[/] records: everything is done"
    ages = status.lag_seconds
    topics = ", ".join(
        f"{topic} {count:,}" + (f" ({ages[topic]:,.0f} s)" if ages.get(topic) else "")
        for topic, count in behind.items()
    )
    return f"[yellow]{sum(behind.values()):,}[/] records: {topics}"


def _groups_shown(status: Status) -> str:
    text = f"{status.groups:,}, with errors {len(status.groups_in_error):,}"
    if status.groups_in_progress:
        names = ", ".join(status.groups_in_progress[:3])
        more = ", …" if status.groups_in_progress[3:] else ""
        text += f"; being processed {len(status.groups_in_progress):,}: {names}{more}"
    return text


def _listed(names: list[str]) -> str:
    """Returns the number of names, and the first ones."""
    first = ", ".join(escape(name) for name in names[:NAMES_SHOWN])
    more = ", …" if names[NAMES_SHOWN:] else ""
    return f"{len(names):,}" + (f": {first}{more}" if first else "")


def _deferred_shown(status: Status) -> str:
    waiting = [f"{one['group']} for {' '.join(one['skuIds'])}" for one in status.deferred]
    return (
        f"[yellow]{len(waiting):,}[/] groups wait for products that the catalog does not define:"
        f" {', '.join(map(escape, waiting[:NAMES_SHOWN]))}{', …' if waiting[NAMES_SHOWN:] else ''}"
    )


def _seats_table(seats: list[dict[str, Any]]) -> Table:
    tenants = {one["tenant"] for one in seats}
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Product", no_wrap=True)
    table.add_column("Seats")
    for title in ("used", "units", "waiting"):
        table.add_column(title, justify="right")
    for one in seats[:ROWS_SHOWN]:
        used, units = one["consumedUnits"], one["consumedUnits"] + one["availableUnits"]
        name = one["skuPartNumber"] or one["skuId"]
        table.add_row(
            escape(f"{one['tenant']}/{name}" if len(tenants) > 1 else name),
            seat_bar(used, units),
            f"{used:,}",
            f"{units:,}",
            f"{one['waitingUsers']:,}" if one["waitingUsers"] else "",
        )
    if seats[ROWS_SHOWN:]:
        table.caption = f"and {len(seats) - ROWS_SHOWN:,} more"
    return table


def _group_table(groups: list[dict[str, Any]]) -> Table:
    table = group_table("Groups with errors", "bold")
    for group in groups[:ROWS_SHOWN]:
        table.add_row(escape(f"{group['tenant']}/{group['group']}"), *group_cells(group))
    if groups[ROWS_SHOWN:]:
        table.caption = f"and {len(groups) - ROWS_SHOWN:,} more"
    return table
