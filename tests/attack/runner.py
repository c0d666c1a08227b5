"""Runs the named attacks, then those of the grammar, until the time is over; judges each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from streams.contract.topics import INPUT_NAMES, INTERNAL_NAMES, TOPICS
from streams.runtime.deadline import Deadline
from tests.attack.attacks import ATTACKS, Attack
from tests.attack.grammar import Grammar, Sent
from tests.attack.target import Target, target
from tests.attack.verdict import LIMIT_SECONDS, RECORD_BYTES, Row
from tests.support.kafka import read_topic
from tests.support.system import ROOT

CALM_SECONDS = 3.0
MOST_LIMIT_SECONDS = 10.0
RECORDS, REQUESTS = 150, 40
INTERNAL_ERROR = 500
GRAMMAR = "grammar"
"""The name of the generated attacks among those to run."""
FEED_TIMEOUT_SECONDS = 30.0
Tell = Callable[[str], None]


@dataclass
class AttackRun:
    """One run: the broker, the seed, and the rows so far."""

    bootstrap: str
    folder: Path
    seed: int
    seconds: float
    tell: Tell = print
    limit: float = LIMIT_SECONDS
    rows: list[Row] = field(default_factory=list)
    forged: list[Sent] = field(default_factory=list)
    """Records that the grammar sent to internal topics: the system did not write them."""
    not_run: list[str] = field(default_factory=list)
    targets: int = 0
    busy: float = field(
        default_factory=lambda: max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    )
    """Processes of others for each processor, before the start: they make everybody wait."""

    def run(self, names: list[str] | None = None) -> list[Row]:
        """Runs everything, and returns a row for each attack."""
        deadline = Deadline(self.seconds)
        chosen = list(names or [*ATTACKS, GRAMMAR])
        generates = GRAMMAR in chosen
        named = [ATTACKS[name] for name in chosen if name != GRAMMAR]
        waiting = sorted(named, key=lambda each: (bool(each.still), each.long))
        size = min(1.0, self.seconds / 60)
        grammar = Grammar(self.seed)
        turn = 0
        while (waiting or generates) and not deadline.has_passed:
            with self._target() as place:
                self._named(place, waiting, size, deadline)
                while not waiting and generates and not deadline.has_passed:
                    turn += 1
                    if not self._grammar(place, grammar, turn):
                        break
        self.not_run = [attack.name for attack in waiting]
        return self.rows

    @contextlib.contextmanager
    def _target(self) -> Iterator[Target]:
        """A fresh system: after an attack that succeeded, the old one tells nothing more."""
        self.targets += 1
        folder = self.folder / f"target-{self.targets}"
        with target(self.bootstrap, folder) as place:
            place.digest()
            calm_since = time.time()
            time.sleep(CALM_SECONDS)
            calm = place.seen.longest_wait(calm_since)
            self.limit = min(max(LIMIT_SECONDS * self.busy, 5 * calm), MOST_LIMIT_SECONDS)
            says = f"without an attack a change waits {calm:.2f} s, limit {self.limit:.1f} s"
            self.tell(f"target {self.targets}: {says}")
            first = len(self.rows)
            yield place
            known = dict.fromkeys(row.still for row in self.rows[first:] if row.still)
            self.rows.append(self._records(place, "; ".join(known)))

    def _named(self, place: Target, waiting: list[Attack], size: float, deadline: Deadline) -> None:
        while waiting and not deadline.has_passed:
            attack = waiting.pop(0)

            def run(attack: Attack = attack) -> None:
                attack.run(place, size)

            row = self._judged(place, Row(attack.name, attack.door, still=attack.still), run)
            if not row.held:
                return

    def _judged(self, place: Target, row: Row, run: Callable[[], None]) -> Row:
        row.limit = self.limit
        place.forget_peaks()
        before, since, failed = place.memory_mib(), time.time(), len(place.failures())
        try:
            run()
        except AssertionError as error:
            row.problems.append(str(error))
        except (httpx2.HTTPError, OSError) as error:  # its own request was cut off
            self.tell(f"  {row.attack}: {error!r}")
        place.digest()
        row.waited = place.seen.longest_wait(since)
        row.console = place.seen.longest_request("console", since)
        row.receiver = place.seen.longest_request("receiver", since)
        row.refused = sum(place.seen.refused(door, since) for door in ("console", "receiver"))
        row.ended = place.ended()
        # The last defence made it one record's failure; it is a bug all the same.
        row.problems += place.failures()[failed:][:3]
        after = place.memory_mib()
        row.growth_mib = max(after[name] - before[name] for name in after)
        if not row.ended and not place.console_follows():
            row.problems.append("the console does not follow any more")
        self.rows.append(row)
        self.tell(f"  {row.attack:16} {'; '.join([row.word, *row.reasons()])}")
        return row

    def _grammar(self, place: Target, grammar: Grammar, turn: int) -> bool:
        """Runs a round of records, requests and a file; returns whether all held."""
        if turn == 1 or not grammar.learned:
            place.publish([(t, k or "", v or b"") for t, k, v in grammar.setup])
            place.digest()
            grammar.learned = _learn(place)
        rounds: list[tuple[str, str, Callable[[], None]]] = [
            ("records", "topics", lambda: self._send(place, grammar.records(RECORDS))),
            ("requests", "console, receiver", lambda: _ask(place, grammar)),
            ("file", "files", lambda: _feed(place, grammar)),
        ]
        return all(
            self._judged(place, Row(f"{name} {turn}", door), run).held for name, door, run in rounds
        )

    def _send(self, place: Target, records: list[Sent]) -> None:
        self.forged += [one for one in records if one.topic in INTERNAL_NAMES]
        groups: dict[tuple[object, ...], list[Sent]] = {}
        for record in records:
            groups.setdefault((record.headers, record.timestamp_ms), []).append(record)
        for same in groups.values():
            place.produce(
                [(one.topic, one.key, one.value) for one in same],
                headers=same[0].headers,
                timestamp_ms=same[0].timestamp_ms,
            )

    def _records(self, place: Target, still: str) -> Row:
        """Judges the sizes of everything that the system wrote."""
        row = Row("sizes", "all", still=still)
        greatest = (0, "")
        forged = {one.value for one in self.forged}
        for topic in TOPICS:
            if topic.name in INPUT_NAMES or topic.name == "dead-letters":
                continue
            name = place.system.prefix + topic.name
            records = asyncio.run(read_topic(place.system.bootstrap, name, timeout=60))
            sizes = [len(record.value or b"") for record in records if record.value not in forged]
            greatest = max(greatest, (max(sizes, default=0), topic.name))
        self.tell(f"  the greatest record has {greatest[0]:,} bytes ({greatest[1]})")
        if greatest[0] > RECORD_BYTES:
            row.problems.append(f"a record of {greatest[0]:,} bytes in {greatest[1]}")
        return row


def _learn(place: Target) -> list[Sent]:
    found = []
    for name in INTERNAL_NAMES:
        records = place.system.records(name)[-50:]
        found += [Sent(name, record.key, record.value) for record in records]
    return found


def _ask(place: Target, grammar: Grammar) -> None:
    wrong = []
    with place.client("console") as console, place.client("receiver") as receiver:
        clients = {"console": console, "receiver": receiver}
        for _ in range(REQUESTS):
            asked = grammar.request()
            with contextlib.suppress(httpx2.HTTPError):
                answer = clients[asked.door].request(
                    asked.method, asked.path, headers=asked.headers, content=asked.content
                )
                if answer.status_code == INTERNAL_ERROR:
                    wrong.append(f"{asked.method} {asked.path[:80]} {asked.content[:200]!r}")
    assert not wrong, f"answered by 500: {' | '.join(wrong)}"


def _feed(place: Target, grammar: Grammar) -> None:
    """Feeds a file; the command ends with a message for people, never with a traceback."""
    format, content = grammar.file()
    path = place.folder / f"fed.{format}"
    path.write_bytes(content)
    command = [sys.executable, "-m", "streams", "feed", format, str(path)]
    if format != "jsonl":
        command += ["--tenant", "attacker"] if format != "catalog" else []
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **place.system.env},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=FEED_TIMEOUT_SECONDS,
        check=False,
    )
    said = run.stdout + run.stderr
    for word in ("Traceback", "No such option", "Missing option"):
        assert word not in said, f"feed {format}: {said[-500:]}"
    assert "\x1b" not in said, f"feed {format} passes an escape to the terminal"
