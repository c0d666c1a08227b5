"""The forecast of the day on which a product runs out of seats, from the trend of its use."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

DAYS = 30
LEAST_MINUTES = 60
FAR_DAYS = 730
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Point:
    """The seats in use and the units bought, as of a minute."""

    minute: int
    consumed: int
    units: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """``days`` until no seat is free; None if that is not to be expected. ``text``: in words."""

    text: str
    days: float | None = None
    points: tuple[Point, ...] = ()


def history(db: sqlite3.Connection, tenant: str, sku: str, now: datetime) -> tuple[Point, ...]:
    """Returns the figures of the last 30 days, oldest first."""
    since = int((now - timedelta(days=DAYS)).timestamp() // 60)
    rows = db.execute(
        "SELECT minute, consumed, units FROM seat_history WHERE tenant = ? AND sku = ?"
        " AND minute >= ? ORDER BY minute",
        (tenant, sku, since),
    )
    return tuple(Point(*row) for row in rows)


def forecast(points: tuple[Point, ...], available: int, now: datetime | None = None) -> Forecast:
    """Fits a line to the figures by least squares, each weighted by how long it stood."""
    now = now or datetime.now(UTC)
    if available <= 0:
        text = (
            "No seat is free."
            if available == 0
            else f"{-available:,} seats more are used than bought."
        )
        return Forecast(text, 0.0, points)
    end = int(now.timestamp() // 60)
    span = end - points[0].minute if points else 0
    if span < LEAST_MINUTES:
        text = f"No trend yet: {span} of {LEAST_MINUTES} minutes seen."
        return Forecast(text, None, points)
    pace = _pace(points, end)
    over = f"over the last {_long(span)}"
    if pace * FAR_DAYS < available:
        text = f"Steady {over}." if abs(pace) < 0.05 else f"{pace:+,.1f} seats a day {over}."
        return Forecast(f"{text} It is not going to run out.", None, points)
    days = available / pace
    on = (now + timedelta(days=days)).strftime("%-d %B %Y")
    text = f"{pace:+,.1f} seats a day {over}: none free in about {_long(days * MINUTES_A_DAY)}"
    return Forecast(f"{text}, on {on}.", days, points)


def _pace(points: tuple[Point, ...], end: int) -> float:
    """Returns seats per day: the slope of the line that fits the steps of consumption."""
    steps = zip(points, (*points[1:], Point(end, 0, 0)), strict=True)
    weighed = [((a.minute + b.minute) / 2, a.consumed, b.minute - a.minute) for a, b in steps]
    total = sum(w for *_, w in weighed)
    if not total:
        return 0.0
    mid = sum(x * w for x, _, w in weighed) / total
    mean = sum(y * w for _, y, w in weighed) / total
    # Within a step the figure stands still: that spread counts, too.
    spread = sum(w * ((x - mid) ** 2 + w * w / 12) for x, _, w in weighed)
    rise = sum(w * (x - mid) * (y - mean) for x, y, w in weighed)
    return MINUTES_A_DAY * rise / spread if spread else 0.0


def _long(minutes: float) -> str:
    for size, noun in ((MINUTES_A_DAY, "day"), (60, "hour"), (1, "minute")):
        if minutes >= 1.5 * size or size == 1:
            number = round(minutes / size)
            return f"{number:,} {noun}{'' if number == 1 else 's'}"
    raise AssertionError
