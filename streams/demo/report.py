"""What came of the demo: every figure is counted from the topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from streams.kafka.group_status import bar
from streams.kafka.topic_reader import Followed, Follower

GROUPS_SHOWN = 8
BIG_STEP = "Onboarding"
# What a state means for the people whom it is about.
STATES = {
    "Error": "Asked for, and not given",
    "ActiveWithError": "Kept, though something is wrong with it",
}


class StepTaken(NamedTuple):
    name: str
    sentence: str
    events: int
    seconds: float  # from the first event sent until the last answer could be read


class Example(NamedTuple):
    """``where``: the group by which the licence comes, or that it is a direct one."""

    who: str
    where: str
    product: str
    message: str


@dataclass(slots=True)
class Kind:
    """Users with one kind of error, or requests refused for one reason, and one of them."""

    state: str
    error: str
    count: int
    example: Example


@dataclass(slots=True)
class Seats:
    product: str
    consumed: int
    units: int
    waiting: int
    peak: int  # the most that were in use at any moment
    oversold: int  # times that a seat was taken beyond the units bought


@dataclass(slots=True)
class Summary:
    steps: list[StepTaken]
    users: int = 0
    licensed: int = 0
    in_error: int = 0
    errors: list[Kind] = field(default_factory=list)
    converted: int = 0  # licences that became direct ones when their group was deleted
    results: Counter[str] = field(default_factory=Counter)
    refused: list[Kind] = field(default_factory=list)  # ``state`` is User or Group
    seats: list[Seats] = field(default_factory=list)
    groups: int = 0
    groups_in_error: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[tuple[str, str]] = field(default_factory=list)  # topic, reason

    @property
    def oversold(self) -> int:
        return sum(seats.oversold for seats in self.seats)


class _Names:
    """Names for people, as far as the topics tell them."""

    def __init__(self, seen: Follower) -> None:
        self._groups = seen.latest["group-status"]
        self._seats = seen.latest["product-seats"]

    def group(self, tenant: str, group: str | None) -> str:
        if group in (None, "direct"):
            return "directly"
        status = self._groups.get(f"{tenant}/{group}") or {}
        return f"by {status.get('displayName') or group}"

    def product(self, tenant: str, sku: str | None) -> str:
        seats = self._seats.get(f"{tenant}/{sku}") or {}
        return seats.get("skuPartNumber") or sku or ""


def summarise(seen: Follower, steps: list[StepTaken]) -> Summary:
    names = _Names(seen)
    users = seen.latest["user-licenses"].values()
    groups = seen.latest["group-status"].values()
    return Summary(
        steps,
        users=len(users),
        licensed=sum(bool(user["assignedLicenses"]) for user in users),
        in_error=len({(e["tenant"], e["user"]) for e in seen.latest["errors"].values()}),
        errors=_errors(seen.latest["errors"].values(), names),
        converted=sum(_converted(seen.log["user-licenses"])),
        results=Counter(record.value["status"] for record in seen.log["results"]),
        refused=_refused(seen.log["results"], names),
        seats=_seats(seen, names),
        groups=len(groups),
        groups_in_error=sorted(
            (group for group in groups if group["membersWithErrors"]),
            key=lambda group: (-group["membersWithErrors"], group["group"]),
        ),
        dead_letters=[
            (record.headers["dlq.topic"], record.headers["dlq.reason"])
            for record in seen.log["dead-letters"]
        ],
    )


def _errors(records: Iterable[dict[str, Any]], names: _Names) -> list[Kind]:
    users: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for record in records:
        kind = (record["state"], record["error"])
        users.setdefault(kind, {}).setdefault(record["user"], record)
    kinds = []
    for (state, error), by_user in users.items():
        user = min(by_user)
        one = by_user[user]
        tenant = one["tenant"]
        example = Example(
            user,
            names.group(tenant, one["group"]),
            names.product(tenant, one["skuId"]),
            one["message"],
        )
        kinds.append(Kind(state, error, len(by_user), example))
    return sorted(kinds, key=lambda each: (list(STATES).index(each.state), -each.count))


def _refused(results: Iterable[Followed], names: _Names) -> list[Kind]:
    kinds: dict[tuple[str, str], Kind] = {}
    for _, _, _, one, _ in results:
        if one["status"] != "rejected":
            continue
        target = "User" if "user" in one else "Group"
        sku = names.product(one["tenant"], one.get("skuId"))
        example = Example(one[target.lower()], "", sku, one["message"])
        kind = kinds.setdefault((target, one["error"]), Kind(target, one["error"], 0, example))
        kind.count += 1
    return [kinds[key] for key in sorted(kinds, key=lambda key: (key[0] != "User", key[1]))]


def _converted(log: Iterable[Followed]) -> Iterator[int]:
    """R13: per user record, licences that came by a group before and are direct ones now."""
    before: dict[str, set[tuple[str, str | None]]] = {}
    for record in log:
        now = _entries(record.value)
        was, before[record.key] = before.get(record.key, set()), now
        lost = {sku for sku, group in was - now if group is not None}
        yield sum(group is None and sku in lost for sku, group in now - was)


def _entries(user: dict[str, Any] | None) -> set[tuple[str, str | None]]:
    states = user["licenseAssignmentStates"] if user else ()
    return {(s["skuId"], s["assignedByGroup"]) for s in states if s["state"] != "Error"}


# --- seats ---------------------------------------------------------------------------------------


def _seats(seen: Follower, names: _Names) -> list[Seats]:
    peaks, oversold = _use(seen)
    rows = []
    for key, one in seen.latest["product-seats"].items():
        consumed = one["consumedUnits"]
        rows.append(
            Seats(
                names.product(one["tenant"], one["skuId"]),
                consumed,
                consumed + one["availableUnits"],
                one["waitingUsers"],
                peaks[key],
                oversold[key],
            )
        )
    return sorted(rows, key=lambda seats: -seats.consumed)


def _use(seen: Follower) -> tuple[Counter[str], Counter[str]]:
    """For each product: the most seats in use at once, and the seats taken beyond the units.

    From the users' own records and the purchases, so that it does not rest on the counters that
    are to be checked. Partitions have no common order but that of their records' time, in which a
    seat is freed before it is had again. More units count once they are bought, fewer once the
    product's counters show them: before, they cannot have been known (R15).
    """
    changes = sorted(
        [
            *_bought(seen.log["subscriptions"]),
            *_shown(seen.log["product-seats"]),
            *_taken_and_freed(seen.log["user-licenses"]),
        ],
        key=lambda change: change[:2],
    )
    used: Counter[str] = Counter()
    peaks: Counter[str] = Counter()
    oversold: Counter[str] = Counter()
    units: dict[tuple[str, str], int] = {}
    for _, order, product, kind, number in changes:
        if kind != "use":
            units[kind, product] = number
            continue
        used[product] += number
        peaks[product] = max(peaks[product], used[product])
        most = max(units.get(("bought", product), 0), units.get(("shown", product), 0))
        if order == _TAKEN and used[product] > most:
            oversold[product] += 1
    return peaks, oversold


_FREED, _UNITS, _TAKEN = range(3)  # what comes first, of what has one time
_Change = tuple[int, int, str, str, int]


def _bought(log: Iterable[Followed]) -> Iterator[_Change]:
    for record in log:
        if isinstance(record.value, dict) and "prepaidUnits" in record.value:
            yield record.timestamp, _UNITS, record.key, "bought", _seats_of(record.value)


def _shown(log: Iterable[Followed]) -> Iterator[_Change]:
    for record in log:
        yield record.timestamp, _UNITS, record.key, "shown", _seats_of(record.value)


def _seats_of(value: dict[str, Any]) -> int:
    units = value["prepaidUnits"]
    return int(units.get("enabled", 0) + units.get("warning", 0))


def _taken_and_freed(log: Iterable[Followed]) -> Iterator[_Change]:
    held: dict[str, set[str]] = {}
    for record in log:
        licences = record.value["assignedLicenses"] if record.value else ()
        now = {one["skuId"] for one in licences}
        was, held[record.key] = held.get(record.key, set()), now
        tenant = record.key.partition("/")[0]
        for sku in was - now:
            yield record.timestamp, _FREED, f"{tenant}/{sku}", "use", -1
        for sku in now - was:
            yield record.timestamp, _TAKEN, f"{tenant}/{sku}", "use", 1


# --- on the screen -------------------------------------------------------------------------------


def show(summary: Summary, console: Console) -> None:
    console.print()
    console.rule("[bold]What came of it[/]", align="left")
    share = summary.licensed / summary.users if summary.users else 0.0
    console.print(
        f"[bold]{summary.licensed:,}[/] of {summary.users:,} users are licensed ({share:.1%});"
        f" [bold]{summary.in_error:,}[/] have an error that an administrator should look at."
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
            f"  [bold]{summary.converted:,}[/] licences outlived their deleted group as direct"
            " ones, since something else depends on them"
        )


def _show_refused(summary: Summary, console: Console) -> None:
    applied, deferred = summary.results["applied"], summary.results["deferred"]
    _title(console, "Licence changes refused, at once and as a whole")
    for kind in summary.refused:
        who, _, product, message = kind.example
        target = f"group {who}" if kind.state == "Group" else who
        _explain(console, kind, "change", ", ".join(filter(None, (target, product))), message)
    console.print(
        f"  {applied:,} changes were applied, {deferred:,} deferred until a product is defined",
        style="dim",
    )


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(f"[bold]{text}[/]")


def _explain(console: Console, kind: Kind, noun: str, about: str, message: str) -> None:
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
    for title in ("in use", "bought", "at most", "waiting"):
        table.add_column(title, justify="right")
    for seats in summary.seats:
        table.add_row(
            f"  {escape(seats.product)}",
            bar(seats.consumed, seats.units, 32),
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
                " bought: units were given up, which takes nobody's licence."
            )
    if summary.oversold:
        console.print(f"  [bold red]Oversold[/]: {summary.oversold:,} seats were not bought.")
    else:
        console.print("  [green]Never oversold[/]: no seat was taken beyond the units of its time.")


def _show_groups(summary: Summary, console: Console) -> None:
    bad = summary.groups_in_error
    _title(console, f"Groups with errors: {len(bad):,} of {summary.groups:,}")
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("  group", no_wrap=True)
    for title in ("members", "licensed", "in error"):
        table.add_column(title, justify="right")
    table.add_column("users by error")
    for group in bad[:GROUPS_SHOWN]:
        gone = " [dim](deleted)[/]" if group["deleted"] else ""
        table.add_row(
            f"  {escape(group['displayName'] or group['group'])}{gone}",
            f"{group['members']:,}",
            f"{group['membersLicensed']:,}",
            f"{group['membersWithErrors']:,}",
            ", ".join(f"{kind} {users:,}" for kind, users in group["errors"].items()),
        )
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
        if step.name == BIG_STEP:
            console.print(
                f"  Onboarding: {step.events:,} events in {step.seconds:.2f} s,"
                f" [bold]{step.events / step.seconds:,.0f} events/s[/], from sent to published"
            )
    console.print(
        f"  In all: {events:,} events in {seconds:.2f} s of work,"
        f" {events / seconds:,.0f} events/s. `seatflow bench` shows what it can do under load."
    )
