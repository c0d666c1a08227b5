"""The findings of a simulation as text on the screen."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.runtime.visible_text import visible_line
from streams.simulate.comparison import Findings, Group, Product

MAX_ROWS = 20


def change(before: int, after: int) -> str:
    """Formats a number and its change, e.g. ``1,204 (+4)``."""
    return f"{after:,}" if before == after else f"{after:,} ({after - before:+,})"


def headline(findings: Findings) -> str:
    """Returns the findings in one line."""
    return (
        f"{change(findings.licensed_before, findings.licensed)} of"
        f" {change(findings.users_before, findings.users)} users licensed,"
        f" {change(findings.with_errors_before, findings.with_errors)} with errors"
    )


def show(findings: Findings, console: Console) -> None:
    """Prints the findings."""
    console.print(f"[bold]{headline(findings)}[/]", highlight=False)
    pace = findings.events / findings.seconds if findings.seconds else 0
    console.print(
        f"[dim]{findings.events:,} events simulated in {findings.seconds:.1f} s"
        f" ({pace:,.0f}/s); nothing was published[/]",
        highlight=False,
    )
    _loss(findings, console)
    _failures(findings, console)
    _products(findings.products, console)
    _groups(findings.groups, console)
    _rejections(findings, console)
    if findings.bad_rows:
        console.print(f"\n[bold red]{findings.bad_rows:,} rows could not be read[/]")
        for problem in findings.problems[:MAX_ROWS]:
            console.print(f"  {escape(visible_line(problem))}", highlight=False)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column[0].isupper() else "right")
    return table


def _loss(findings: Findings, console: Console) -> None:
    loss = findings.loss
    if not loss.users:
        return
    console.print(f"\n[bold red]{loss.users:,} users lose service plans[/]", highlight=False)
    for plan, users in loss.plans.most_common(MAX_ROWS):
        console.print(f"  {escape(plan)}: {users:,}", highlight=False)
    for each in loss.examples:
        console.print(f"  [dim]for example[/] {escape(each['user'])}", highlight=False)


def _failures(findings: Findings, console: Console) -> None:
    if not findings.failures:
        return
    console.print()
    table = _table("Error", "users", "new", "Example")
    for failure in findings.failures:
        for number, example in enumerate(failure.examples):
            where = f"{example['user']} ({example['group']}): {example['message']}"
            numbers = (f"{failure.users:,}", f"{failure.new:,}") if number == 0 else ("", "")
            table.add_row(failure.error if number == 0 else "", *numbers, escape(where))
    console.print(table, highlight=False)


def _products(products: list[Product], console: Console) -> None:
    if not products:
        return
    console.print()
    table = _table("Product", "units", "used", "available", "users short of a seat")
    for each in products[:MAX_ROWS]:
        short = change(each.short_before, each.short)
        off = "" if each.status == each.status_before else f" (now {each.status})"
        table.add_row(
            escape(each.name + off),
            f"{each.units:,}",
            change(each.used_before, each.used),
            f"{each.units - each.used:,}",
            f"[bold red]{short}[/]" if each.short else short,
        )
    console.print(table, highlight=False)
    _more(len(products), console)


def _groups(groups: list[Group], console: Console) -> None:
    if not groups:
        return
    console.print()
    table = _table("Group affected", "members", "licensed", "with errors")
    for each in groups[:MAX_ROWS]:
        table.add_row(
            escape(each.name),
            change(each.members_before, each.members),
            change(each.licensed_before, each.licensed),
            change(each.with_errors_before, each.with_errors),
        )
    console.print(table, highlight=False)
    _more(len(groups), console)


def _rejections(findings: Findings, console: Console) -> None:
    for each in findings.rejections:
        what = f"{each.changes:,} changes {each.status}" + (f": {each.error}" if each.error else "")
        console.print(f"\n[bold]{what}[/]", highlight=False)
        for example in each.examples:
            who = example.get("user") or example.get("group") or ""
            text = example.get("message") or "a product is not defined yet"
            console.print(f"  {escape(f'{who}: {text}')}", highlight=False)


def _more(count: int, console: Console) -> None:
    if count > MAX_ROWS:
        console.print(f"[dim]… and {count - MAX_ROWS:,} more (--json has all)[/]", highlight=False)
