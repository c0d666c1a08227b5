"""Elements of text for the terminal that several commands share."""

from __future__ import annotations

from rich.text import Text

BAR_CHARACTERS = 24


def seat_bar(used: int, units: int, width: int = BAR_CHARACTERS) -> Text:
    """Returns a bar of the used seats among the purchased ones.

    It is red if no seat is left, and bright red if more seats are used than were purchased.
    """
    full = min(width, round(width * used / units)) if units else (width if used else 0)
    style = "green" if used < units else "red" if used == units or not used else "bright_red"
    return Text("█" * full, style).append("░" * (width - full), "dim")
