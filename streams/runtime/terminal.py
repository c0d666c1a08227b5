"""Elements of text for the terminal that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

BAR_CHARACTERS = 24


def seat_bar(used: int, units: int, width: int = BAR_CHARACTERS) -> Text:
    """Returns a bar of the used seats among the purchased ones.

    It is red if no seat is left, and bright red if more seats are used than were purchased.
    """
    full = min(width, round(width * used / units)) if units else (width if used else 0)
    style = "green" if used < units else "red" if used == units or not used else "bright_red"
    return Text("█" * full, style).append("░" * (width - full), "dim")


def group_table(title: str, header_style: str) -> Table:
    """Returns a table of groups with errors, without rows: a name, then ``group_cells``."""
    table = Table(box=None, header_style=header_style, padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    for name in ("members", "licensed", "in error"):
        table.add_column(name, justify="right")
    table.add_column("users by error")
    return table


def group_cells(group: Mapping[str, Any]) -> list[str]:
    """Returns the counts of a row, from the group's record of `group-status`."""
    counts = (group["members"], group["membersLicensed"], group["membersWithErrors"])
    errors = ", ".join(f"{kind} {users:,}" for kind, users in group["errors"].items())
    return [*(f"{count:,}" for count in counts), errors]
