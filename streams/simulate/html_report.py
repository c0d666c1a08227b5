"""The findings of a simulation as one HTML page (``templates/report.html``)."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from streams.runtime.visible_text import visible_value
from streams.simulate.comparison import Findings
from streams.simulate.text_report import change, headline

MAX_ROWS = 200
BAR_WIDTH, BAR_HEIGHT = 320, 14  # CSS pixels


def page(findings: Findings, title: str) -> str:
    """Returns the page; it needs no other file: no script, no font, no image."""
    environment = Environment(
        loader=PackageLoader("streams.simulate"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=visible_value,
    )
    environment.filters["number"] = "{:,}".format
    most_seats = max((max(p.units, p.used) + p.short for p in findings.products), default=0)
    return environment.get_template("report.html").render(
        findings=findings,
        title=title,
        headline=headline(findings),
        change=change,
        most_seats=most_seats,
        rows=MAX_ROWS,
        bar_width=BAR_WIDTH,
        bar_height=BAR_HEIGHT,
    )
