"""The command `seatflow`: what it prints and how it ends, without Kafka and with it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import streams
from streams.catalog import product
from streams.cli import main
from streams.contract.topics import TOPICS
from streams.runtime.errors import CONFIGURATION, SOFTWARE, TEMPORARY
from streams.runtime.settings import PREFIX, Settings
from tests.support.graph_export import write_export
from tests.support.kafka import Kafka, latest, produce, read_topic

NOWHERE = "127.0.0.1:1"
E3 = product("E3")["skuId"]


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def seatflow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs the command in this process, far from the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["seatflow", *arguments])
        with pytest.raises(SystemExit) as end:
            main.main()
        return Ended(int(end.value.code or 0), *capsys.readouterr())

    return run


def line(ended: Ended) -> str:
    """The one line that tells what went wrong."""
    (only,) = ended.err.splitlines()
    return only


# --- without Kafka -------------------------------------------------------------------------------
def test_the_version_says_which_build_runs(seatflow: Run) -> None:
    build = "compiled" if streams.COMPILED else "plain Python"
    ended = seatflow("--version")
    assert (ended.code, ended.out) == (0, f"seatflow {version('seatflow')}, {build}\n")


def test_help_names_every_command_and_is_quick(seatflow: Run) -> None:
    shown = seatflow("--help").out
    for command in (
        "broker",
        "topics",
        "worker",
        "feed",
        "status",
        "read",
        "settings",
        "dead-letters",
    ):
        assert command in shown
    slow = "{'aiokafka', 'faust', 'pydantic', 'rich.table'}"
    code = f"import sys, streams.cli.main; sys.exit(repr({slow} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stderr.strip() == "set()"


@pytest.mark.parametrize("command", [["worker"], ["status"], ["settings"], ["topics", "create"]])
def test_a_wrong_setting_is_one_line_with_what_is_allowed(
    seatflow: Run, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("SEATFLOW_PARTITIONS", "many")
    ended = seatflow(*command)
    assert ended.code == CONFIGURATION
    expected = "SEATFLOW_PARTITIONS is 'many': must be a whole number from 1 to 1024"
    assert line(ended) == f"seatflow: {expected}"


def test_a_wrong_flag_is_told_as_the_setting_that_it_is(seatflow: Run) -> None:
    ended = seatflow("status", "--brokers", "kafka")
    assert ended.code == CONFIGURATION
    assert "SEATFLOW_BROKERS is 'kafka': must be host:port" in line(ended)


def test_a_flag_wins_over_the_environment(seatflow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATFLOW_APP_ID", "from-the-environment")
    assert "from-the-environment" in seatflow("settings").out
    shown = seatflow("settings", "--app-id", "from-the-flag").out
    assert "from-the-flag" in shown
    assert "from-the-environment" not in shown


def test_every_setting_is_listed_and_secrets_are_not_told(
    seatflow: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATFLOW_SASL_PASSWORD", "hunter2")
    shown = seatflow("settings").out
    for name in Settings.model_fields:
        assert PREFIX + name.upper() in shown
    assert "hunter2" not in shown
    assert "whole number from 1 to 1024" in " ".join(shown.split())


@pytest.mark.parametrize(
    "command", [["status"], ["status", "--wait", "--timeout", "5"], ["read", "errors"]]
)
def test_without_a_broker_it_says_how_to_get_one(seatflow: Run, command: list[str]) -> None:
    ended = seatflow(*command, "--brokers", NOWHERE)
    assert ended.code == TEMPORARY
    assert line(ended).startswith(f"seatflow: no broker answers at {NOWHERE}: start one with")


def test_feeding_without_a_broker_can_be_tried_again(seatflow: Run, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(json.dumps(user("ann")) + "\n")
    ended = seatflow("feed", "jsonl", "events.jsonl", "--brokers", NOWHERE)
    assert ended.code == TEMPORARY
    assert f"no broker answers at {NOWHERE}" in ended.err
    assert "Traceback" not in ended.err


def test_a_file_that_is_not_there_is_told(seatflow: Run) -> None:
    ended = seatflow("feed", "jsonl", "nothing.jsonl")
    assert ended.code == CONFIGURATION
    assert line(ended) == "seatflow: nothing.jsonl cannot be read: No such file or directory"


def test_a_dry_run_prints_and_bad_rows_fail_the_command(seatflow: Run, tmp_path: Path) -> None:
    rows = [json.dumps(user("ann")), "not json", json.dumps(user("bob"))]
    (tmp_path / "events.jsonl").write_text("\n".join(rows))
    ended = seatflow("feed", "jsonl", "events.jsonl", "--dry-run")
    assert ended.code == 1
    assert [row.split("\t")[1] for row in ended.out.splitlines()] == ["t/ann", "t/bob"]
    assert "events.jsonl:2: the value is not JSON" in ended.err
    strict = seatflow("feed", "jsonl", "events.jsonl", "--dry-run", "--strict")
    assert [row.split("\t")[1] for row in strict.out.splitlines()] == ["t/ann"]


def test_a_bug_is_a_line_too_with_a_way_to_the_traceback(
    seatflow: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.runtime.settings.describe", lambda _: 1 / 0)
    ended = seatflow("settings")
    assert ended.code == SOFTWARE
    assert "internal error: ZeroDivisionError" in line(ended)
    monkeypatch.setenv("SEATFLOW_LOG_LEVEL", "debug")
    assert "Traceback" in seatflow("settings").err


# --- with Kafka ----------------------------------------------------------------------------------


def user(name: str, **members: Any) -> dict[str, Any]:
    return event("user.upserted", tenant="t", user=name, usageLocation="US", **members)


def event(kind: str, **members: Any) -> dict[str, Any]:
    event.count += 1  # type: ignore[attr-defined]
    return {"type": kind, "id": f"e{event.count}", "time": "", **members}  # type: ignore[attr-defined]


event.count = 0  # type: ignore[attr-defined]


@pytest.fixture
def where(kafka: Kafka, topic_prefix: str) -> list[str]:
    return ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]


def worker_process(where: list[str], app_id: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streams", "worker", *where, "--app-id", app_id]
    with log.open("wb") as out:
        return subprocess.Popen(
            [*command, "--partitions", "2"],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(Path(main.__file__).parent.parent)},
        )


@pytest.fixture
def worker(
    seatflow: Run, where: list[str], topic_prefix: str, tmp_path: Path
) -> Iterator[list[str]]:
    """A worker on topics of its own; gives the flags that lead to it."""
    assert seatflow("topics", "create", *where, "--partitions", "2").code == 0
    process = worker_process(where, topic_prefix, tmp_path / "worker.log")
    yield [*where, "--app-id", topic_prefix]
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0, (tmp_path / "worker.log").read_text()


def test_topics_are_made_once_and_checked(seatflow: Run, where: list[str]) -> None:
    first = seatflow("topics", "create", *where, "--partitions", "2")
    assert first.code == 0
    assert first.out.startswith(f"{len(TOPICS)} topics created, 0 existed already")
    again = seatflow("topics", "create", *where, "--partitions", "2")
    assert (again.code, again.out[:38]) == (0, f"0 topics created, {len(TOPICS)} existed already: ")
    other = seatflow("topics", "create", *where, "--partitions", "3")
    assert other.code == CONFIGURATION
    assert f"{len(TOPICS)} topics have 2 partitions, but SEATFLOW_PARTITIONS is 3" in other.err


def test_a_container_gets_the_report_on_its_topics_as_json(
    seatflow: Run, where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATFLOW_LOG_FORMAT", "json")
    before = logging.getLogger().handlers[:]
    try:
        assert seatflow("topics", "create", *where, "--partitions", "2").code == 0
        ended = seatflow("topics", "create", *where, "--partitions", "3")
    finally:
        logging.getLogger().handlers[:] = before
    lines = [json.loads(text) for text in ended.err.splitlines()]
    assert (ended.code, ended.out) == (78, "")
    assert (lines[0]["event"], lines[0]["found"]) == ("topics_checked", len(TOPICS))
    assert {one["event"] for one in lines[1:]} == {"topic_wrong"}


@pytest.mark.parametrize("command", [["status"], ["status", "--wait"], ["read", "errors"]])
def test_missing_topics_are_told_with_what_to_do(
    seatflow: Run, where: list[str], command: list[str]
) -> None:
    ended = seatflow(*command, *where)
    assert ended.code == CONFIGURATION
    assert "make the topics with `seatflow topics create`" in line(ended)


def test_a_worker_without_topics_says_so_and_ends(
    kafka: Kafka, where: list[str], topic_prefix: str, tmp_path: Path
) -> None:
    process = worker_process(where, topic_prefix, tmp_path / "worker.log")
    assert process.wait(60) == CONFIGURATION
    log = (tmp_path / "worker.log").read_text()
    assert "topics are missing" in log
    assert "seatflow topics create" in log
    assert "Traceback" not in log


def test_waiting_ends_when_it_is_told_to(seatflow: Run, where: list[str], tmp_path: Path) -> None:
    seatflow("topics", "create", *where, "--partitions", "2")
    (tmp_path / "events.jsonl").write_text(json.dumps(user("ann")) + "\n")
    assert seatflow("feed", "jsonl", "events.jsonl", *where).code == 0
    ended = seatflow("status", "--wait", "--timeout", "1", "--app-id", "nobody", *where)
    assert ended.code == TEMPORARY
    expected = "not settled after 1 s; still to be done: user-changes 1. Is a `seatflow worker`"
    assert expected in ended.err


async def test_a_file_goes_in_and_licences_come_out(
    seatflow: Run, worker: list[str], kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    events = [
        product("E3"),
        event("tenant.updated", tenant="t", usageLocation="US"),
        event("subscription.updated", tenant="t", skuId=E3, prepaidUnits={"enabled": 1}),
        event("licenses.changed", tenant="t", group="g", addLicenses=[{"skuId": E3}]),
        user("ann"),
        event("membership.added", tenant="t", user="ann", group="g"),
        user("bob"),
        event("membership.added", tenant="t", user="bob", group="g"),
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    # `main` runs an event loop of its own: not in this one.
    where = worker[:4]
    fed = await in_a_thread(seatflow, "feed", "jsonl", "events.jsonl", *where)
    assert fed.code == 0, fed.err
    assert "8 events published" in fed.err
    await produce(kafka.bootstrap, f"{topic_prefix}user-changes", [(b"t/ann", b"no event")])
    waited = await in_a_thread(seatflow, "status", "--wait", "--timeout", "60", *worker)
    assert waited.code == 0, waited.err
    assert "Done: no lag" in waited.err

    users = latest(await read_topic(kafka.bootstrap, f"{topic_prefix}user-licenses"))
    states = {
        key: [state["error"] for state in json.loads(value)["licenseAssignmentStates"]]
        for key, value in users.items()
    }
    assert sorted(states.values()) == [["CountViolation"], ["None"]]

    found = json.loads((await in_a_thread(seatflow, "status", "--json", *worker)).out)
    assert found["lag_total"] == 0
    assert set(found["lag"]) >= {"user-changes", "internal.seat-grants"}
    assert [one["partitions"] for one in found["workers"]] == [[0, 1]]
    assert found["unowned"] == []
    assert [(one["consumedUnits"], one["waitingUsers"]) for one in found["seats"]] == [(1, 1)]
    assert (found["users_in_error"], found["users_by_error"]) == (1, {"CountViolation": 1})
    assert [group["group"] for group in found["groups_in_error"]] == ["g"]
    assert found["dead_letters"] == 1

    screen = (await in_a_thread(seatflow, "status", *worker)).out
    for part in ("0 records", "ENTERPRISEPACK", "CountViolation 1", "t/g", "not JSON"):
        assert part in screen

    answer = await in_a_thread(seatflow, "read", "user-licenses", "--key", "t/ann", *where)
    (record,) = answer.out.splitlines()
    assert json.loads(record)["value"]["user"] == "ann"


async def in_a_thread(run: Run, *arguments: str) -> Ended:
    import asyncio

    return await asyncio.to_thread(run, *arguments)


def test_an_export_of_graph_comes_out_as_it_was(
    seatflow: Run, worker: list[str], tmp_path: Path
) -> None:
    write_export(tmp_path / "export", 200)
    ended = seatflow("feed", "graph", "export", "--tenant", "t", "--compare", *worker)
    assert ended.code == 0, ended.out + ended.err
    assert ended.err.count("Waiting until the workers") == 3
    assert "190 users compared" in ended.out
    assert " 0 unexplained" in ended.out
