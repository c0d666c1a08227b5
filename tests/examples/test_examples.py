"""Every example runs, and does what its README says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from streams.console.app import create_app
from streams.contract.event_reader import Event as JsonlEvent
from streams.contract.event_reader import event_of
from tests.streams.console.local import local_service
from tests.streams.ingest.receiver import TOKEN, receiving
from tests.support.kafka import Kafka
from tests.support.system import Event, running

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(name: str, *arguments: str) -> str:
    """Returns what an example prints; fails if its exit status is not 0."""
    command = [str(EXAMPLES / name)] if name.endswith(".sh") else [sys.executable, EXAMPLES / name]
    result = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def onboarding() -> list[Event]:
    """The events of onboarding.jsonl as records."""
    lines = (EXAMPLES / "onboarding.jsonl").read_bytes().splitlines()
    events = [event_of(line) for line in lines]
    return [(e.topic, e.key.decode(), e.value) for e in events if isinstance(e, JsonlEvent)]


def test_the_readme_lists_every_example_and_each_is_tested() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    listed = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text()))
    assert files == listed
    here = Path(__file__).read_text()
    assert {name for name in files if name.endswith((".py", ".sh")) and name not in here} == set()


def test_a_dry_run() -> None:
    output = run("dry_run.sh")
    assert "CountViolation" in output


def test_csv_to_events(tmp_path: Path) -> None:
    run("csv_to_events.sh", str(tmp_path / "events.jsonl"))
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["type"] for e in events].count("membership.added") == 3


def test_the_embedded_engine() -> None:
    output = run("embed_engine.py", str(EXAMPLES / "onboarding.jsonl"))
    assert output.count("Active") == 2
    assert output.count("Error CountViolation") == 1


def test_a_scim_request(tmp_path: Path) -> None:
    with receiving(tmp_path) as (client, writer):
        output = run("scim_request.py", str(client.base_url).rstrip("/"), TOKEN)
        assert output.startswith("201 ")
        (event,) = writer.events()
        assert event["usageLocation"] == "US"


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Yields the address of an application served from a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            pass
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_what_if(tmp_path: Path) -> None:
    settings, service, world = local_service(tmp_path)
    world.publish(onboarding())
    with serving(create_app(settings, service)) as address:
        outcome = json.loads(run("what_if.py", address))
    assert outcome["usersFailing"] == 1  # both units are in use
    service.store.close()


@pytest.mark.kafka
def test_events_of_a_kafka_client_and_their_results(kafka: Kafka) -> None:
    with running(kafka.bootstrap) as system:
        system.worker()
        topics = {
            "product": "catalog",
            "subscription": "subscriptions",
            "licenses": "group-changes",
        }
        events: list[Event] = []
        for line in (EXAMPLES / "onboarding.jsonl").read_bytes().splitlines()[:3]:
            body = json.loads(line)
            parts = [body.get("tenant"), body.get("group") or body.get("skuId")]
            topic = topics[body["type"].partition(".")[0]]
            events.append((topic, "/".join(part for part in parts if part), line))
        system.publish(events)
        system.settle()
        run("send_events.py", kafka.bootstrap, system.prefix)
        system.settle()
        output = run("read_results.py", kafka.bootstrap, system.prefix)
        assert output == "contoso/ann e3 sales Active \n"
