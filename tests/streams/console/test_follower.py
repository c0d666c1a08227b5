"""One record must not blind the console: what workers accept is shown, a failure is reported."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from streams.console.commands.processing_status import ProcessingStatus
from streams.console.read_model import queries
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.runtime.settings import load_settings
from tests.streams.console.conftest import Console
from tests.streams.console.local import Rec
from tests.support.scrape import parse, total
from tests.support.system import Events

make = Events()


@pytest.fixture
def projector(tmp_path: Path) -> Any:
    settings = load_settings(brokers="127.0.0.1:1")
    store = Store(tmp_path / "console.sqlite3", settings.topic_prefix)
    made = ReadModelProjector(settings, store)
    yield made
    made.close()
    store.close()


def write(projector: ReadModelProjector, topic: str, *records: Rec) -> None:
    projector._write({TopicPartition(projector.settings.topic_prefix + topic, 0): list(records)})


def record(key: str, value: Any, offset: int = 0) -> Rec:
    body = value if isinstance(value, bytes) else orjson.dumps(value)
    return Rec(key.encode(), body, 1, offset)


def user(projector: ReadModelProjector, id: str) -> dict[str, Any]:
    found = queries.user(projector.store.read_connection(), "contoso", id)
    assert found is not None
    return found


def test_a_schema_registry_prefix_is_read_as_workers_read_it(projector: Any) -> None:
    _, key, value = make.user("u1", displayName="Ann")
    write(projector, "user-changes", record(key, b"\0\0\0\0\7" + value))
    for topic, event in (
        ("catalog", make.product("e3")),
        ("subscriptions", make.seats("e3", 2)),
        ("tenants", make.tenant_settings(displayName="Contoso")),
    ):
        write(projector, topic, record(event[1], b"\0\0\0\0\7" + event[2]))
    assert user(projector, "u1")["displayName"] == "Ann"
    assert queries.sku(projector.store.read_connection(), "contoso", "e3") is not None
    assert projector.lag().problem is None or "connected" in projector.lag().problem
    assert projector.unreadable is None


@pytest.mark.parametrize("name", [["Ann"], 7, {"first": "Ann"}, None, True])
def test_data_in_a_plain_event_is_no_envelope(projector: Any, name: Any) -> None:
    """Members that the contract does not know are allowed, and may be anything."""
    _, key, value = make.user("u1", displayName="Ann")
    body = {**orjson.loads(value), "data": {"displayName": name}}
    write(projector, "user-changes", record(key, body))
    assert user(projector, "u1")["displayName"] == "Ann"


def test_a_record_that_fails_is_passed_over_and_reported(projector: Any, tmp_path: Path) -> None:
    """A forged output record; the others of its batch are shown, and health stays bad."""
    projector.progress.problem = None
    good = [record(k, v, 1) for _, k, v in [make.user("u1", displayName="Ann")]]
    write(projector, "user-changes", *good)
    write(projector, "results", record("x", {"status": 1}, 5), record("y", b"not JSON", 6))
    write(projector, "group-status", record("contoso/g", {"forged": True}, 7))
    problem = projector.lag().problem
    assert problem is not None
    assert "group-status, partition 0, offset 7" in problem or "results" in problem
    assert "not shown: " in problem
    assert projector.store.offsets()["group-status", 0] == 8
    # Also after a restart: the offset is passed.
    projector.store.close()
    again = Store(tmp_path / "console.sqlite3", projector.settings.topic_prefix)
    projector.store = again
    assert again.unreadable() == projector.unreadable
    again.clear()
    assert again.unreadable() is None


async def test_any_failure_is_shown_and_retried(projector: Any) -> None:
    """No failure ends the follower."""
    attempts = 0
    again = asyncio.Event()

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            again.set()
        raise KeyError("a bug")

    projector._follow = fail
    task = asyncio.create_task(projector.run())
    await again.wait()
    assert not task.done()
    assert "KeyError" in projector.lag().problem
    task.cancel()


async def test_the_processing_status_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: Any) -> Any:
        raise ValueError("a bug")

    monkeypatch.setattr("streams.console.commands.processing_status.LagReader", broken)
    status = ProcessingStatus(load_settings(brokers="127.0.0.1:1"))
    task = asyncio.create_task(status.run())
    await asyncio.sleep(0.05)
    assert not task.done()
    assert "ValueError" in (status.problem or "")
    task.cancel()


async def test_retries_wait_longer_each_time(
    projector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a limit; an attempt that followed the topics begins again with the shortest wait."""
    waits: list[float] = []
    enough = asyncio.Event()

    async def follow() -> None:
        projector._is_following = len(waits) == 8
        raise KeyError("a bug")

    async def note(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 10:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(projector, "_follow", follow)
    monkeypatch.setattr("streams.console.read_model.projector.pause", note)
    task = asyncio.create_task(projector.run())
    await enough.wait()
    task.cancel()
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 1, 2]
    assert projector.progress.failures == 10


def test_metrics_tell_failures_and_the_broker(console: Console) -> None:
    console.service.projector.progress.failures = 3
    console.service.projector.unreadable = (2, "the first")
    answer = console.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = list(parse(answer.text))
    assert total(samples, "seatflow_console_failures_total", follower="topics") == 3
    assert total(samples, "seatflow_console_failures_total", follower="workers") == 0
    assert total(samples, "seatflow_console_unreadable_records") == 2
    assert total(samples, "seatflow_broker_reachable") == 1


def test_an_outage_is_on_the_live_pages_too(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(console.service.broker), "is_away", True)
    for path in ("/", "/docs"):
        page = console.client.get(path, headers={"accept": "text/html"}).text
        assert page.count("no broker has answered at") == page.count('role="alert"') == 1
    overview = console.client.get("/", headers={"accept": "text/html"}).text
    live = overview[overview.index("data-live") :]
    assert "no broker has answered at" in live
    assert console.client.get("/health").status_code == 503


def test_health_is_503_and_pages_say_why(console: Console) -> None:
    console.service.processing.problem = "the workers' progress is unknown"
    assert console.client.get("/health").status_code == 503
    page = console.client.get("/", headers={"accept": "text/html"}).text
    assert "progress is unknown" in page


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "console.sqlite3"
    path.touch(0o644)
    store = Store(path, "licensing.")
    store.note_unreadable("x")
    for part in tmp_path.iterdir():
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, part
    store.close()
