"""The verdict on a run: a row of numbers, of which the first five must be 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.checkers import History, Record, Violation, same_outcome, violations
from tests.lab.load import Place
from tests.lab.record import Recording
from tests.lab.tenants import CALM
from tests.spec.contract import EVENTS, UnreadableError, read
from tests.spec.world import World

OVERSOLD, LOST, REFUSED, DUPLICATES, WRONG = "oversold", "lost", "false refusals", "dup.", "wrong"
COLUMN = {
    "never oversold": OVERSOLD,
    "counters never oversold": OVERSOLD,
    "every intent published": LOST,
    "every command answered": LOST,
    "bad input is dead letter": LOST,
    "settled": LOST,
    "same outcome": LOST,
    "in the log": LOST,
    "no false refusal": REFUSED,
    "no false conflict": REFUSED,
    "revisions grow": DUPLICATES,
    "answered once": DUPLICATES,
}
AFTER_SNAPSHOTS_MS = 1_800_000_000_000
"""Of the first record in the oracle's time: later than the moments that snapshots name (R25)."""
COUNTED = (OVERSOLD, LOST, REFUSED, DUPLICATES, WRONG)


@dataclass
class Row:
    experiment: str
    seed: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    inputs: int = 0
    stall: float = 0.0  # seconds that an input record waited, at most
    settle: float = 0.0  # seconds from the healing to the last record
    seconds: float = 0.0
    exits: dict[int, int] = field(default_factory=dict)
    static: bool = False
    skipped: str = ""
    problems: list[str] = field(default_factory=list)  # bugs that are no violation of a record

    @property
    def good(self) -> bool:
        return not any(self.counts.values()) and not self.problems

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "good": self.good}


def judge(
    row: Row,
    recording: Recording,
    acknowledged: Mapping[Place, bytes | None],
    ignored: frozenset[str] = frozenset(),
) -> list[Violation]:
    """Fills in the row's counts; returns what they count. ``ignored``: members of outcomes."""
    records = recording.records
    found = violations(records)
    found += answered_once(records)
    found += in_the_log(records, acknowledged)
    found += same_outcome(told(records, CALM), of_tenant(records, CALM), ignored)
    counts = Counter(COLUMN.get(v.check, WRONG) for v in found)
    row.counts = {name: counts[name] for name in COUNTED}
    row.inputs = sum(1 for record in records if record.topic in EVENTS)
    row.stall = recording.longest_wait()
    return found


def answered_once(records: Iterable[Record]) -> list[Violation]:
    finals = Counter(
        (r.key, r.document["causedBy"])
        for r in records
        if r.topic == "results" and r.document and r.document["status"] != "deferred"
    )
    return [
        Violation("answered once", f"{key}: {cause} was answered {count} times")
        for (key, cause), count in finals.items()
        if count > 1
    ]


def in_the_log(
    records: Iterable[Record], acknowledged: Mapping[Place, bytes | None]
) -> list[Violation]:
    """Checks that every record that the broker acknowledged is still in its log.

    Without that, a verdict on the workers would mean nothing.
    """
    there = {(r.topic, r.partition, r.offset): r.raw for r in records if r.topic in EVENTS}
    return [
        Violation("in the log", f"{place} was acknowledged and is gone or changed")
        for place, value in acknowledged.items()
        if place not in there or there[place] != value
    ]


def of_tenant(records: Iterable[Record], tenant: str) -> History:
    outputs = [r for r in records if r.topic not in EVENTS]
    return History([r for r in outputs if (r.key or "").split("/")[0] == tenant])


def told(records: Iterable[Record], tenant: str) -> History:
    """Returns the fault-free outcome: the oracle applies the tenant's input event by event."""
    world = World()
    for at, record in enumerate(records, start=AFTER_SNAPSHOTS_MS):
        if record.topic not in EVENTS:
            continue
        try:
            event = read(record.topic, record.key, record.raw, record.headers)
        except UnreadableError:
            continue
        if event.get("tenant", tenant) == tenant:
            world.apply(record.topic, event, (at, 0))
    return History(
        Record(topic, 0, n, key, value) for n, (topic, key, value) in enumerate(world.log)
    )
