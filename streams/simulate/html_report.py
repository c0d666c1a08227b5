"""The findings of a simulation as one HTML page: tables, and bars drawn as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from streams.simulate.comparison import Findings, Product
from streams.simulate.text_report import change, headline

ROWS = 200
BAR_WIDTH, BAR_HEIGHT = 320, 14

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#5b6470;--line:#d8dee4;--paper:#fff;
--used:#2f6fb7;--short:#c2410c;--free:#dfe7ef}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9aa4af;--line:#30363d;--paper:#0d1117;
--used:#5a9be0;--short:#f0813a;--free:#263240}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
p.dim,td.dim{color:var(--dim)}.cards{display:flex;flex-wrap:wrap;gap:1rem}
.card{border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;min-width:9rem}
.card b{display:block;font-size:1.5rem}.bad{color:var(--short)}
.used{fill:var(--used)}.short{fill:var(--short)}.free{fill:var(--free)}
"""


def page(findings: Findings, title: str) -> str:
    """A page that needs nothing else: no script, no font, no picture from anywhere."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(headline(findings))}.</p>",
        _cards(findings),
        _loss(findings),
        _failures(findings),
        _products(findings.products),
        _groups(findings),
        _rejections(findings),
        _problems(findings),
        f'<p class="dim">{findings.events:,} events simulated in {findings.seconds:.1f} s by'
        " Seatflow; nothing was published.</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )


def _cards(findings: Findings) -> str:
    short = sum(product.short for product in findings.products)
    cards = [
        ("users licensed", change(findings.licensed_before, findings.licensed), False),
        ("users with errors", change(findings.with_errors_before, findings.with_errors), True),
        ("seats short", f"{short:,}", True),
        ("users who lose service plans", f"{findings.loss.users:,}", True),
        ("groups affected", f"{len(findings.groups):,}", False),
    ]
    return '<div class="cards">' + "".join(_card(*each) for each in cards) + "</div>"


def _card(name: str, value: str, bad: bool) -> str:
    mark = ' class="bad"' if bad and value != "0" else ""
    return f'<div class="card"><b{mark}>{escape(value)}</b>{escape(name)}</div>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already; a heading that begins with ``#`` is of a column of numbers."""
    names = list(head)
    marks = [' class="n"' if name.startswith("#") else "" for name in names]
    text = "".join(
        f'<th scope="col"{m}>{escape(n.lstrip("#"))}</th>'
        for n, m in zip(names, marks, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{m}>{cell}</td>" for cell, m in zip(row, marks, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{text}</tr></thead><tbody>{body}</tbody></table>"


def bar(parts: Iterable[tuple[str, int, str]], total: int) -> str:
    """Parts of a whole side by side: (class, number, what it is)."""
    at, drawn, words = 0.0, [], []
    for kind, number, what in parts:
        width = BAR_WIDTH * number / total if total else 0
        if width > 0:
            drawn.append(
                f'<rect class="{kind}" x="{at:.1f}" width="{width:.1f}" height="{BAR_HEIGHT}"/>'
            )
            words.append(f"{number:,} {what}")
        at += width
    return (
        f'<svg role="img" width="{BAR_WIDTH}" height="{BAR_HEIGHT}"'
        f' viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}"><title>{escape(", ".join(words))}</title>'
        + "".join(drawn)
        + "</svg>"
    )


def _products(products: list[Product]) -> str:
    most = max((max(p.units, p.used) + p.short for p in products), default=0)
    rows = [
        (
            escape(p.name),
            bar(
                [
                    ("used", p.used, "used"),
                    ("free", max(0, p.units - p.used), "free"),
                    ("short", p.short, "short"),
                ],
                most,
            ),
            f"{p.units:,}",
            change(p.used_before, p.used),
            f"{p.units - p.used:,}",
            change(p.short_before, p.short),
        )
        for p in products[:ROWS]
    ]
    if not rows:
        return ""
    head = ("Product", "Seats used, free and short", "#Units", "#Used", "#Available", "#Short")
    return "<h2>Seats</h2>" + _table(head, rows)


def _failures(findings: Findings) -> str:
    if not findings.failures:
        return ""
    most = max(failure.users for failure in findings.failures)
    rows = []
    for failure in findings.failures:
        examples = "<br>".join(
            f"{escape(e['user'])} ({escape(e['group'])}): {escape(e['message'])}"
            for e in failure.examples
        )
        drawn = bar([("short", failure.users, "users")], most)
        numbers = (f"{failure.users:,}", f"{failure.new:,}")
        rows.append((escape(failure.error), drawn, *numbers, examples))
    head = ("Error", "Users", "#Users", "#New", "Examples")
    return "<h2>What fails, and why</h2>" + _table(head, rows)


def _loss(findings: Findings) -> str:
    if not findings.loss.users:
        return ""
    users = ", ".join(escape(each["user"]) for each in findings.loss.examples)
    rows = [(escape(p), f"{n:,}") for p, n in findings.loss.plans.most_common(ROWS)]
    text = f"<p>{findings.loss.users:,} users, for example {users}.</p>"
    return '<h2 class="bad">Service plans lost</h2>' + text + _table(("Plan", "#Users"), rows)


def _groups(findings: Findings) -> str:
    rows = []
    for g in findings.groups[:ROWS]:
        parts = [
            ("used", g.licensed, "licensed"),
            ("short", g.with_errors, "with errors"),
            ("free", max(0, g.members - g.licensed - g.with_errors), "other members"),
        ]
        rows.append(
            (
                escape(g.name),
                bar(parts, max(g.members, g.licensed + g.with_errors)),
                change(g.members_before, g.members),
                change(g.licensed_before, g.licensed),
                change(g.with_errors_before, g.with_errors),
            )
        )
    if not rows:
        return ""
    more = len(findings.groups) - len(rows)
    after = f'<p class="dim">… and {more:,} more.</p>' if more > 0 else ""
    head = ("Group", "Members licensed and with errors", "#Members", "#Licensed", "#With errors")
    return "<h2>Groups affected</h2>" + _table(head, rows) + after


def _rejections(findings: Findings) -> str:
    rows = []
    for each in findings.rejections:
        examples = "<br>".join(
            escape(f"{e.get('user') or e.get('group') or ''}: {e.get('message', '')}")
            for e in each.examples
        )
        rows.append((escape(each.status), escape(each.error), f"{each.changes:,}", examples))
    if not rows:
        return ""
    head = ("Outcome", "Reason", "#Changes", "Examples")
    return "<h2>Changes not carried out</h2>" + _table(head, rows)


def _problems(findings: Findings) -> str:
    if not findings.bad_rows:
        return ""
    rows = [(escape(p.file), f"{p.line:,}", escape(p.reason)) for p in findings.problems[:ROWS]]
    return f"<h2>{findings.bad_rows:,} rows that cannot be read</h2>" + _table(
        ("File", "#Line", "Reason"), rows
    )
