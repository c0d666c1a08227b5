"""The summary of the demo: every figure is counted from the topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.domain.vocabulary import LicenseState
from streams.kafka.topic_reader import TopicReader, TopicRecord

# The meaning of each error state, for people.
STATES = {
    LicenseState.ERROR.value: "Licences that could not be assigned",
    LicenseState.ACTIVE_WITH_ERROR.value: "Licences kept in spite of an error",
}


class CompletedStep(NamedTuple):
    """A step of the scenario that has settled."""

    name: str
    sentence: str
    events: int
    seconds: float  # from the first event sent to the last output read


class Example(NamedTuple):
    """One case of an error. ``where``: by which group, or that the licence is direct."""

    who: str
    where: str
    product: str
    message: str


@dataclass(slots=True)
class ErrorSummary:
    """The users with one error, or the requests rejected for one reason, with an example."""

    state: str
    error: str
    count: int
    example: Example


@dataclass(slots=True)
class SeatUsage:
    """The seats of one product."""

    product: str
    consumed: int
    units: int
    waiting: int
    peak: int  # most seats in use at any time
    oversold: int  # seats taken beyond the units bought at that time


@dataclass(slots=True)
class Summary:
    """The figures of a whole run."""

    steps: list[CompletedStep]
    users: int = 0
    licensed: int = 0
    in_error: int = 0
    errors: list[ErrorSummary] = field(default_factory=list)
    converted: int = 0  # licences that became direct when their group was deleted
    results: Counter[str] = field(default_factory=Counter)
    refused: list[ErrorSummary] = field(default_factory=list)  # ``state`` is User or Group
    seats: list[SeatUsage] = field(default_factory=list)
    groups: int = 0
    groups_in_error: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[tuple[str, str]] = field(default_factory=list)  # topic, reason

    @property
    def oversold(self) -> int:
        """Seats of all products taken beyond the units bought."""
        return sum(seats.oversold for seats in self.seats)


class _Names:
    """Display names of groups and products, from the topics."""

    def __init__(self, seen: TopicReader) -> None:
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


def summarize(seen: TopicReader, steps: list[CompletedStep]) -> Summary:
    """Returns the summary of what was published."""
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


def _errors(records: Iterable[dict[str, Any]], names: _Names) -> list[ErrorSummary]:
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
        kinds.append(ErrorSummary(state, error, len(by_user), example))
    return sorted(kinds, key=lambda each: (list(STATES).index(each.state), -each.count))


def _refused(results: Iterable[TopicRecord], names: _Names) -> list[ErrorSummary]:
    kinds: dict[tuple[str, str], ErrorSummary] = {}
    for _, _, _, one, _ in results:
        if one["status"] != "rejected":
            continue
        target = "User" if "user" in one else "Group"
        sku = names.product(one["tenant"], one.get("skuId"))
        example = Example(one[target.lower()], "", sku, one["message"])
        kind = kinds.setdefault(
            (target, one["error"]), ErrorSummary(target, one["error"], 0, example)
        )
        kind.count += 1
    return [kinds[key] for key in sorted(kinds, key=lambda key: (key[0] != "User", key[1]))]


def _converted(log: Iterable[TopicRecord]) -> Iterator[int]:
    """Yields, per user record, licences that were a group's before and are direct now (R13)."""
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


def _seats(seen: TopicReader, names: _Names) -> list[SeatUsage]:
    peaks, oversold = seat_usage(seen)
    rows = []
    for key, one in seen.latest["product-seats"].items():
        consumed = one["consumedUnits"]
        rows.append(
            SeatUsage(
                names.product(one["tenant"], one["skuId"]),
                consumed,
                consumed + one["availableUnits"],
                one["waitingUsers"],
                peaks[key],
                oversold[key],
            )
        )
    return sorted(rows, key=lambda seats: -seats.consumed)


def seat_usage(seen: TopicReader) -> tuple[Counter[str], Counter[str]]:
    """Returns, for each product, the peak of seats in use, and the seats taken beyond the units.

    Computed from the users' records and the purchases, so that it does not depend on the counters
    that it checks. Partitions are ordered by record time, in which a seat is freed before it is
    taken again. An increase of units counts from the purchase; a decrease counts once the product's
    counters show it, since it was not known to all before (R15).
    """
    changes = sorted(
        [
            *_bought(seen.log["subscriptions"]),
            *_published(seen.log["product-seats"]),
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
        most = max(units.get(("bought", product), 0), units.get(("published", product), 0))
        if order == _TAKEN and used[product] > most:
            oversold[product] += 1
    return peaks, oversold


_FREED, _UNITS, _TAKEN = range(3)  # the order of changes with the same time
_Change = tuple[int, int, str, str, int]


def _bought(log: Iterable[TopicRecord]) -> Iterator[_Change]:
    for record in log:
        if isinstance(record.value, dict) and "prepaidUnits" in record.value:
            yield record.timestamp, _UNITS, record.key, "bought", _seats_of(record.value)


def _published(log: Iterable[TopicRecord]) -> Iterator[_Change]:
    for record in log:
        yield record.timestamp, _UNITS, record.key, "published", _seats_of(record.value)


def _seats_of(value: dict[str, Any]) -> int:
    units = value["prepaidUnits"]
    return int(units.get("enabled", 0) + units.get("warning", 0))


def _taken_and_freed(log: Iterable[TopicRecord]) -> Iterator[_Change]:
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
