"""An outage of Kafka is visible within 15 s at every part, and ends by itself.

The broker is a real one that is paused (SIGSTOP: connections open, no answer) or killed
(connections refused), and comes back at the same address.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from streams.local.broker import Broker
from streams.runtime.deadline import Deadline
from tests.streams.ingest.receiver import SOURCES, TOKEN
from tests.streams.kafka.test_group_status import seen_on
from tests.support.scrape import address, get, parse, total
from tests.support.system import ROOT, Events, System, Worker, running
from tests.support.timing import limit_seconds

VISIBLE_WITHIN = 15.0
BACK_WITHIN = 90.0  # of which a killed broker needs about 10 to start

pytestmark = pytest.mark.kafka


@dataclass
class Parts:
    """A broker with a worker, a console and a receiver, all of them idle."""

    broker: Broker
    system: System
    worker: Worker
    console: Worker
    console_url: str
    receiver: Worker
    receiver_url: str


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("outage")
    (folder / "sources.toml").write_text(SOURCES)
    with (
        Broker(0, folder / "kafka") as broker,
        running(broker.bootstrap, partitions=2) as system,
        contextlib.ExitStack() as stack,
    ):
        worker = system.worker(SEATFLOW_METRICS_PORT="0")
        make = Events()
        system.publish([make.product("e3"), make.user("ann")])
        env = {**system.env, "SEATFLOW_DATA_DIR": str(folder), "SEATFLOW_HTTP_PORT": "0"}
        console, console_url = listening(stack, env, "console")
        sources = str(folder / "sources.toml")
        receiver, receiver_url = listening(
            stack, env, "receive", "--port", "0", "--sources", sources
        )
        system.settle()
        found = Parts(broker, system, worker, console, console_url, receiver, receiver_url)
        until(lambda: all(code == 200 for code, _ in health(found).values()), 60)
        yield found


def listening(
    stack: contextlib.ExitStack, env: dict[str, str], *command: str
) -> tuple[Worker, str]:
    """Starts a server; returns it with its address, once it listens."""
    process = Worker(env, command=command)
    stack.callback(process.kill)
    found = re.search(r"http://[^/]+", process.wait_for("http://"))
    assert found is not None
    return process, found[0]


def health(parts: Parts) -> dict[str, tuple[int, str]]:
    return {
        "worker": get(f"{address(parts.worker)}/readyz"),
        "console": get(f"{parts.console_url}/health"),
        "receiver": get(f"{parts.receiver_url}/readyz"),
    }


def until(holds: Callable[[], Any], seconds: float) -> float:
    """Waits until a condition holds; returns the seconds that took."""
    begun, deadline = time.monotonic(), Deadline(seconds)
    while not holds():
        assert not deadline.has_passed
        time.sleep(0.1)
    return time.monotonic() - begun


def metric(parts: Parts, name: str) -> list[float]:
    urls = (address(parts.worker), parts.console_url, parts.receiver_url)
    return [total(list(parse(get(f"{url}/metrics")[1])), name) for url in urls]


def create(parts: Parts, name: str) -> httpx2.Response:
    return httpx2.post(
        f"{parts.receiver_url}/scim/v2/Users",
        json={"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": name},
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=60,
    )


def status(parts: Parts) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", "status", "--json"],
        cwd=ROOT,
        env={**os.environ, **parts.system.env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def pause(broker: Broker) -> Callable[[], None]:
    pid = broker.pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


def kill(broker: Broker) -> Callable[[], None]:
    broker.kill()
    return broker.start


@pytest.mark.parametrize("end", [pause, kill])
def test_an_outage_is_visible_and_ends(
    parts: Parts, end: Callable[[Broker], Callable[[], None]]
) -> None:
    assert metric(parts, "seatflow_broker_reachable") == [1, 1, 1]
    resume = end(parts.broker)
    try:
        within = limit_seconds(VISIBLE_WITHIN)
        until(lambda: all(code == 503 for code, _ in health(parts).values()), within)
        for name, (_, text) in health(parts).items():
            assert "no broker has answered at" in text, name
        for process in (parts.worker, parts.console, parts.receiver):
            assert "broker_away" in process.wait_for("broker_away", timeout=5)
        assert metric(parts, "seatflow_broker_reachable") == [0, 0, 0]
        # The workers and the receiver go on: a restart would not bring the broker back.
        assert get(f"{address(parts.worker)}/healthz")[0] == 200
        assert get(f"{parts.receiver_url}/healthz")[0] == 200
        page = httpx2.get(f"{parts.console_url}/", follow_redirects=True).text
        assert 'role="alert"' in page
        assert "no broker has answered at" in page
        begun = time.monotonic()
        answer = create(parts, "bob@x.example")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert time.monotonic() - begun < limit_seconds(10)
        begun = time.monotonic()
        asked = status(parts)
        assert asked.returncode == 75
        assert "no broker answers at" in asked.stderr
        assert time.monotonic() - begun < within
    finally:
        resume()
    until(lambda: all(code == 200 for code, _ in health(parts).values()), BACK_WITHIN)
    for process in (parts.worker, parts.console, parts.receiver):
        process.wait_for("broker_back", timeout=5)
    assert metric(parts, "seatflow_broker_reachable") == [1, 1, 1]
    assert create(parts, f"{end.__name__}@x.example").status_code == 201
    # Offsets that are still being loaded are not taken for 0.
    found = json.loads(status(parts).stdout)
    assert found["lag_total"] <= 2, found["lag"]
    assert found["unowned"] == []


def test_status_never_takes_offsets_that_are_not_loaded_for_0(parts: Parts) -> None:
    """From the first moment after a restart on, the lag is right or the command says why not."""
    parts.system.settle()
    parts.broker.kill()
    parts.broker.start()
    for _ in range(5):
        asked = status(parts)
        if asked.returncode == 0:
            assert json.loads(asked.stdout)["lag_total"] <= 2, asked.stdout
        else:
            assert asked.returncode == 75
            assert "has not loaded the offsets" in asked.stderr or "no broker" in asked.stderr
    until(lambda: all(code == 200 for code, _ in health(parts).values()), BACK_WITHIN)


def test_a_request_at_work_when_the_broker_stops_is_503_in_time(parts: Parts) -> None:
    """Before the outage is known, the request itself waits for Kafka."""
    resume = pause(parts.broker)
    try:
        begun = time.monotonic()
        answer = create(parts, "cid@x.example")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert time.monotonic() - begun < limit_seconds(10)
    finally:
        resume()
    until(lambda: get(f"{parts.receiver_url}/readyz")[0] == 200, BACK_WITHIN)
    until(lambda: create(parts, "cid2@x.example").status_code == 201, BACK_WITHIN)


def test_status_that_is_watched_says_that_it_is_out_of_date(parts: Parts) -> None:
    master, slave = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "streams", "status", "--watch"],
        cwd=ROOT,
        env={**os.environ, **parts.system.env, "COLUMNS": "120", "LINES": "40", "TERM": "xterm"},
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    try:
        seen_on(master, "Users in error")
        resume = pause(parts.broker)
        try:
            seen_on(master, "Out of date: ", limit_seconds(2 * VISIBLE_WITHIN))
        finally:
            resume()
        seen_on(master, "everything is done", BACK_WITHIN)
    finally:
        watching.kill()
        os.close(master)
        os.close(slave)
    until(lambda: all(code == 200 for code, _ in health(parts).values()), BACK_WITHIN)
