"""The report of the demo, on the screen."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from streams.demo.summary import STATES, ErrorSummary, Summary
from streams.runtime.terminal import group_cells, group_table, seat_bar

GROUPS_SHOWN = 8
LARGEST_STEP = "Onboarding"


def show(summary: Summary, console: Console) -> None:
    """Prints the report."""
    console.print()
    console.rule("[bold]Result[/]", align="left")
    share = summary.licensed / summary.users if summary.users else 0.0
    console.print(
        f"[bold]{summary.licensed:,}[/] of {summary.users:,} users are licensed ({share:.1%});"
        f" [bold]{summary.in_error:,}[/] have an error that needs an administrator."
    )
    _show_errors(summary, console)
    _show_refused(summary, console)
    _show_seats(summary, console)
    _show_groups(summary, console)
    _show_dead_letters(summary, console)
    _show_speed(summary, console)


def _show_errors(summary: Summary, console: Console) -> None:
    for state, meaning in STATES.items():
        kinds = [kind for kind in summary.errors if kind.state == state]
        if kinds:
            _title(console, f"{meaning} [dim]({state})[/]")
        for kind in kinds:
            who, where, product, message = kind.example
            _explain(console, kind, "user", f"{who}, {product} {where}", message)
    if summary.converted:
        console.print(
            f"  [bold]{summary.converted:,}[/] licences became direct when their group was"
            " deleted, since other licences depend on them"
        )


def _show_refused(summary: Summary, console: Console) -> None:
    applied, deferred = summary.results["applied"], summary.results["deferred"]
    _title(console, "Licence changes rejected, each as a whole")
    for kind in summary.refused:
        who, _, product, message = kind.example
        target = f"group {who}" if kind.state == "Group" else who
        _explain(console, kind, "change", ", ".join(filter(None, (target, product))), message)
    console.print(
        f"  {applied:,} changes were applied; {deferred:,} are deferred until a product is defined",
        style="dim",
    )


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(f"[bold]{text}[/]")


def _explain(console: Console, kind: ErrorSummary, noun: str, about: str, message: str) -> None:
    many = "" if kind.count == 1 else "s"
    console.print(f"  [yellow]{kind.error}[/], {kind.count:,} {noun}{many}")
    _indented(console, f"[dim]{escape(about)}:[/] {escape(message)}", 4)


def _indented(console: Console, text: str, by: int) -> None:
    console.print(Padding(text, (0, 0, 0, by), expand=False))


def _show_seats(summary: Summary, console: Console) -> None:
    _title(console, "Seats")
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("  product", no_wrap=True)
    table.add_column("")
    for title in ("in use", "bought", "peak", "waiting"):
        table.add_column(title, justify="right")
    for seats in summary.seats:
        table.add_row(
            f"  {escape(seats.product)}",
            seat_bar(seats.consumed, seats.units, 32),
            f"{seats.consumed:,}",
            f"{seats.units:,}",
            f"{seats.peak:,}",
            f"{seats.waiting:,}" if seats.waiting else "",
        )
    console.print(table)
    for seats in summary.seats:
        if seats.consumed > seats.units:
            console.print(
                f"  {escape(seats.product)} has {seats.consumed - seats.units:,} more in use than"
                " bought: reducing the units takes no licence away."
            )
    if summary.oversold:
        console.print(
            f"  [bold red]Oversold[/]: {summary.oversold:,} seats were taken that were not bought."
        )
    else:
        console.print(
            "  [green]Never oversold[/]: no more seats were in use than units bought, at any time."
        )


def _show_groups(summary: Summary, console: Console) -> None:
    bad = summary.groups_in_error
    _title(console, f"Groups with errors: {len(bad):,} of {summary.groups:,}")
    table = group_table("  group", "dim")
    for group in bad[:GROUPS_SHOWN]:
        gone = " [dim](deleted)[/]" if group["deleted"] else ""
        name = escape(group["displayName"] or group["group"])
        table.add_row(f"  {name}{gone}", *group_cells(group))
    console.print(table)
    if bad[GROUPS_SHOWN:]:
        console.print(f"  and {len(bad) - GROUPS_SHOWN:,} more", style="dim")


def _show_dead_letters(summary: Summary, console: Console) -> None:
    _title(console, f"Dead letters: {len(summary.dead_letters):,}")
    for (topic, reason), count in sorted(Counter(summary.dead_letters).items()):
        times = f" ({count:,} times)" if count > 1 else ""
        _indented(console, f"[dim]{escape(topic)}:[/] {escape(reason)}{times}", 2)


def _show_speed(summary: Summary, console: Console) -> None:
    events = sum(step.events for step in summary.steps)
    seconds = sum(step.seconds for step in summary.steps)
    _title(console, "Speed")
    for step in summary.steps:
        if step.name == LARGEST_STEP:
            console.print(
                f"  Onboarding: {step.events:,} events in {step.seconds:.2f} s,"
                f" [bold]{step.events / step.seconds:,.0f} events/s[/], from input to output"
            )
    console.print(
        f"  Total: {events:,} events in {seconds:.2f} s, {events / seconds:,.0f} events/s."
        " `seatflow bench` measures the throughput under load."
    )
