"""The console on a real Kafka: catching up, going on, failing, and commands to the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2

from streams.console.read_model import queries, tenants
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.runtime.settings import Settings, load_settings
from tests.streams.console.browser import Running
from tests.support.kafka import Kafka
from tests.support.system import Events, System


async def follow(settings: Settings, store: Store, within: float = 30.0) -> ReadModelProjector:
    """Until it has caught up, or has a problem."""
    projector = ReadModelProjector(settings, store)
    task = asyncio.create_task(projector.run())
    told: list[Any] = []
    for _ in range(int(within / 0.05)):
        await asyncio.sleep(0.05)
        problem = projector.progress.problem
        told.append(problem)
        if projector.progress.caught_up or (problem and "not connected" not in problem):
            break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    projector.close()
    return projector


def settings_of(system: System) -> Settings:
    return load_settings(brokers=system.bootstrap, topic_prefix=system.prefix, partitions=4)


def test_it_goes_on_where_it_stopped(kafka: Kafka, tmp_path: Path) -> None:
    """Offsets are as durable as rows: nothing is read twice, nothing is left out."""
    system, make = System(kafka.bootstrap), Events()
    settings, path = settings_of(system), tmp_path / "console.sqlite3"
    system.publish([make.user(f"u{n}") for n in range(200)])
    store = Store(path, settings.topic_prefix)
    first = asyncio.run(follow(settings, store))
    assert first.progress.applied == 200
    assert first.lag().records == 0
    store.close()
    system.publish([make.user(f"u{n}", displayName="new") for n in range(100, 250)])
    store = Store(path, settings.topic_prefix)
    second = asyncio.run(follow(settings, store))
    assert second.progress.applied == 150
    assert tenants.figures(store.read_connection(), "contoso")["users"] == 250
    found = queries.user(store.read_connection(), "contoso", "u120")
    assert found is not None
    assert found["displayName"] == "new"
    store.close()


def test_missing_topics_are_told(kafka: Kafka, tmp_path: Path) -> None:
    """With the command that makes them."""
    settings = load_settings(brokers=kafka.bootstrap, topic_prefix="nothing-here.")
    store = Store(tmp_path / "console.sqlite3", settings.topic_prefix)
    projector = asyncio.run(follow(settings, store))
    assert "seatflow topics create" in (projector.lag().problem or "")
    store.close()


def test_no_broker_is_told(tmp_path: Path) -> None:
    """With what to start or to set; what is known stays there to be seen."""
    settings = load_settings(brokers="127.0.0.1:1")
    store = Store(tmp_path / "console.sqlite3", settings.topic_prefix)
    projector = asyncio.run(follow(settings, store))
    assert "seatflow broker" in (projector.lag().problem or "")
    assert projector.lag().seconds > 0
    store.close()


def test_commands_come_back_with_the_workers_answer(running: Running) -> None:
    """Through Kafka and a worker: applied, rejected, deferred, and what has no result."""
    with httpx2.Client(base_url=f"{running.url}/v1/tenants/acme", timeout=30) as client:
        assert client.put("/users/ann", json={"usageLocation": "US"}).status_code == 200
        assert client.put("/subscriptions/e3", json={"prepaidUnits": {"enabled": 1}}).is_success
        given = client.post("/users/ann/assignLicense", json={"addLicenses": [{"skuId": "e3"}]})
        assert given.status_code == 200, given.text
        assert given.json()["assignedLicenses"] == [{"skuId": "e3", "disabledPlans": []}]
        client.put("/users/bob", json={"usageLocation": "US"})
        full = client.post("/users/bob/assignLicense", json={"addLicenses": [{"skuId": "e3"}]})
        assert (full.status_code, full.json()["error"]["code"]) == (400, "CountViolation")
        later = client.post("/groups/g/assignLicense", json={"addLicenses": [{"skuId": "later"}]})
        assert later.status_code == 202
        assert client.post("/groups/g/reprocess").status_code == 200
        assert client.delete("/users/ann").status_code == 204
        assert client.get("/users/ann").status_code == 404
        sent = client.get("/audit", params={"activity": "Request user license change"}).json()
        assert [row["target"]["id"] for row in sent["value"]] == ["bob", "ann"]
