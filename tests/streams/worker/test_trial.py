"""A record that stalls, takes all memory or crashes the process is found in a child (trial.py)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.changelog_rows import APPLIED, ATTEMPTED, row_key
from streams.runtime.settings import load_settings
from streams.worker import trial
from streams.worker.partition_task import PartitionTask
from streams.worker.trial import End, Outcome
from tests.lab.counting_worker import HOP
from tests.streams.worker.test_partition_task import TOPIC, until
from tests.streams.worker.test_replay import (
    GOOD,
    Broker,
    BugToy,
    Logs,
    broker,
    reasons,
    seen,
)

__all__ = ["broker"]
CPU_SECONDS = 0.3


def ignore() -> None:
    pass


def go_on() -> bool:
    return True


async def tried(steps: Iterator[bool], silence_seconds: float = 60.0) -> Outcome:
    return await trial.run(steps, CPU_SECONDS, silence_seconds, go_on)


def hold_the_interpreter() -> None:
    """Runs in C, without letting any thread or signal handler of Python run."""
    sum(range(10**15))


def steps(*acts: Any) -> Iterator[bool]:
    for act in acts:
        act()
        yield True


async def test_all_pass() -> None:
    assert await tried(steps(ignore, ignore, ignore)) == (3, End.PASSED)


async def test_what_the_child_does_stays_there() -> None:
    found: list[int] = []
    assert await tried(steps(lambda: found.append(1))) == (1, End.PASSED)
    assert not found


async def test_one_that_never_ends_is_stalled() -> None:
    assert await tried(steps(ignore, hold_the_interpreter, ignore)) == (1, End.STALLED)


async def test_the_time_is_that_of_one_step() -> None:
    def work() -> None:
        end = time.process_time() + CPU_SECONDS / 2
        while time.process_time() < end:
            pass

    assert await tried(steps(*[work] * 5)) == (5, End.PASSED)


async def test_one_that_takes_all_memory_is_found() -> None:
    taken = lambda: bytearray(trial.MEMORY_BYTES * 2)  # noqa: E731
    assert await tried(steps(ignore, ignore, taken)) == (2, End.MEMORY)


async def test_one_that_crashes_the_process_is_found() -> None:
    crash = lambda: os.kill(os.getpid(), signal.SIGSEGV)  # noqa: E731
    assert await tried(steps(ignore, crash)) == (1, End.KILLED)


async def test_an_exception_is_left_to_the_worker() -> None:
    assert await tried(steps(ignore, lambda: 1 // 0)) == (1, End.UNKNOWN)


async def test_one_that_waits_for_ever_is_given_up() -> None:
    outcome = await tried(steps(ignore, lambda: time.sleep(600)), silence_seconds=0.2)
    assert outcome == (1, End.UNKNOWN)


class Sleeper:
    """A step that never ends, and the process in which it runs."""

    def __init__(self, directory: Path) -> None:
        self._pid = directory / "pid"

    def __call__(self) -> None:
        self._pid.with_suffix(".new").write_text(str(os.getpid()))
        self._pid.with_suffix(".new").rename(self._pid)
        time.sleep(600)

    @property
    def runs(self) -> bool:
        return self._pid.exists()

    def is_gone(self) -> bool:
        with pytest.raises(ProcessLookupError):
            os.kill(int(self._pid.read_text()), 0)
        return True


async def test_a_trial_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    sleeper = Sleeper(tmp_path)
    task = asyncio.create_task(trial.run(steps(sleeper), 60.0, 600.0, go_on))
    await until(lambda: sleeper.runs)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sleeper.is_gone()


async def test_a_trial_that_is_abandoned_leaves_no_process(tmp_path: Path) -> None:
    sleeper = Sleeper(tmp_path)
    outcome = await trial.run(steps(sleeper), 60.0, 600.0, lambda: not sleeper.runs)
    assert outcome == (0, End.ABANDONED)
    assert sleeper.is_gone()


# --- a partition ----------------------------------------------------------------------------------


class StallToy(BugToy):
    """Stalls, as compiled code would, or crashes the process, as an event asks."""

    parent = 0

    def handle(self, topic: str, batch: Any) -> Any:
        for delivered in batch:
            if topic == TOPIC and delivered.event[1].get("stall"):
                assert os.getpid() != self.parent, "the worker itself applied it"
                hold_the_interpreter()
            if topic == TOPIC and delivered.event[1].get("segfault"):
                assert os.getpid() != self.parent, "the worker itself applied it"
                os.kill(os.getpid(), signal.SIGSEGV)
        return super().handle(topic, batch)


class StallLogs(Logs):
    def __init__(self) -> None:
        super().__init__()
        self.settings = load_settings(
            _env_file=None, commit_interval=0.0, topic_prefix="t.", session_timeout=6.0
        )

    def new_machine(self, partition: int) -> Any:
        machine = StallToy(partition, 1)
        machine.parent = os.getpid()
        return machine


@pytest.fixture
async def logs(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StallLogs]:
    original = trial.run

    async def run(steps: Any, cpu_seconds: float, silence_seconds: float, go_on: Any) -> Outcome:
        return await original(steps, CPU_SECONDS, silence_seconds, go_on)

    monkeypatch.setattr(trial, "run", run)
    logs = StallLogs()
    yield logs
    assert logs.task
    await logs.task.lose()


def attempted(broker: Broker, offsets: bytes) -> None:
    """The last worker ended where it began."""
    broker.rows |= {row_key(*ATTEMPTED): offsets, APPLIED: offsets}


async def opened(logs: StallLogs) -> None:
    logs.task = PartitionTask(3, logs)
    await until(lambda: bool(logs.task and logs.task.is_open))


@pytest.mark.parametrize("before", [0, 3])
async def test_the_record_that_stalls_is_a_dead_letter(
    logs: StallLogs, broker: Broker, before: int
) -> None:
    attempted(broker, b"{}")
    await opened(logs)
    logs.send(*[GOOD] * before, ("b", b'{"stall":true}'), GOOD, ("c", b"no json"), GOOD)
    await logs.applied()
    assert not logs.failures
    assert seen(broker) == {"a": before + 2}
    letters = reasons(broker)
    assert letters[0] == (b"b", "processor_failed", str(before))
    assert len(letters) == 2
    assert logs.metrics.counts["dead_letters"][TOPIC, "processor_failed"] == 1
    assert b"does not end" in dict(broker.letters[0].headers)["dlq.reason"]
    logs.send(GOOD)
    await logs.applied()


async def test_the_record_that_ends_the_process_twice_is_a_dead_letter(
    logs: StallLogs, broker: Broker
) -> None:
    attempted(broker, b"{}")
    await opened(logs)
    logs.send(GOOD, ("b", b'{"segfault":true}'), GOOD)
    await logs.applied()
    assert seen(broker) == {"a": 2}
    assert reasons(broker) == [(b"b", "processor_failed", "1")]
    assert b"ended the process, twice" in dict(broker.letters[0].headers)["dlq.reason"]


async def test_a_worker_that_was_killed_makes_no_culprit(logs: StallLogs, broker: Broker) -> None:
    attempted(broker, b"{}")
    await opened(logs)
    logs.send(*[GOOD] * 1200, topic=TOPIC)
    await logs.applied()
    assert seen(broker) == {"a": 1200}
    assert not broker.letters
    assert not logs.failures


async def test_an_exception_in_a_trial_is_replayed_as_before(
    logs: StallLogs, broker: Broker
) -> None:
    attempted(broker, b"{}")
    await opened(logs)
    logs.send(GOOD, ("b", b'{"crash":true}'), GOOD, ("c", b'{"stall":true}'), GOOD)
    await logs.applied()
    assert not logs.failures
    assert seen(broker) == {"a": 3}
    assert [offset for _, _, offset in reasons(broker)] == ["1", "3"]


async def test_a_rebalance_does_not_wait_for_a_trial(
    logs: StallLogs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.CPU_SECONDS", 600.0)
    attempted(broker, b"{}")
    await opened(logs)
    task = logs.task
    assert task
    logs.send(GOOD, ("b", b'{"stall":true}'))
    before = task.progress
    await until(lambda: task.progress != before)
    logs.rebalancing = True
    await task.hold()
    assert not broker.letters
    monkeypatch.setattr(f"{__name__}.CPU_SECONDS", 0.3)
    logs.rebalancing = False
    task.resume()
    logs.read_from(task.positions())
    await logs.applied()
    assert seen(broker) == {"a": 1}
    assert reasons(broker) == [(b"b", "processor_failed", "1")]


async def test_messages_come_first_in_a_trial_too(logs: StallLogs, broker: Broker) -> None:
    attempted(broker, b"{}")
    await opened(logs)
    logs.send(("x", b"{}"), topic=HOP)
    logs.send(GOOD, ("b", b'{"stall":true}'))
    await logs.applied()
    await logs.applied(HOP)
    assert seen(broker) == {"a": 1}
    assert len(broker.letters) == 2


async def test_each_opening_with_a_backlog_notes_where_it_goes_on(
    logs: StallLogs, broker: Broker
) -> None:
    broker.rows |= {APPLIED: b'{"user-changes":0}', row_key(*ATTEMPTED): b'{"user-changes":7}'}
    await opened(logs)
    await until(lambda: broker.rows[row_key(*ATTEMPTED)] == b'{"user-changes":0}')
