"""The compose file, run: three workers, Prometheus, the console and the receiver, under faults.

The tests share the running services and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.containers.compose import OPERATOR_TOKEN, SOURCE_TOKEN, Stack, eventually
from tests.containers.engine import ROOT

pytestmark = pytest.mark.timeout(900)
SMALL_TENANT = ROOT / "tests" / "containers" / "small_tenant.jsonl"
OURS = ("worker", "console", "receiver")
LONG_RUNNING = (*OURS, "kafka", "prometheus")
USERS_AT_ONCE, SEATS = 10_000, 19_000
TRY_AGAIN = 75
BEARER = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}


def test_every_service_is_healthy_and_watched(stack: Stack) -> None:
    assert len(stack.containers("worker")) == 3
    for service in LONG_RUNNING:
        for container in stack.containers(service):
            assert stack.docker.inspect(container, "{{.State.Health.Status}}") == "healthy"
    eventually(lambda: stack.workers_up() == 3)
    eventually(
        lambda: (
            {
                rule["health"]
                for group in stack.prometheus("rules")["groups"]
                for rule in group["rules"]
            }
            == {"ok"}
        )
    )


def test_our_containers_can_do_no_more_than_they_need(stack: Stack) -> None:
    limits = (
        "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}"
        " {{.HostConfig.SecurityOpt}} {{.HostConfig.RestartPolicy.Name}}"
    )
    memory = {"worker": 2 << 30, "console": 1 << 30, "receiver": 512 << 20}
    for service in OURS:
        for container in stack.containers(service):
            assert stack.docker.inspect(container, limits) == (
                "true [ALL] 10001:10001 [no-new-privileges:true] unless-stopped"
            )
            found = stack.docker.inspect(container, "{{.HostConfig.Memory}}")
            assert int(found) == memory[service]
        shell = ("exec", stack.containers(service)[0], "sh", "-c")
        refused = stack.docker(*shell, "touch /venv/x 2>&1 || true")
        assert "Read-only file system" in refused
        size = stack.docker(*shell, "df -k --output=size /tmp").split()[-1]
        assert int(size) == 16 * 1024


def test_the_topics_were_created_and_reported_as_json(stack: Stack) -> None:
    (container,) = stack.containers("topics")
    assert stack.docker.inspect(container, "{{.State.ExitCode}}") == "0"
    run = subprocess.run(
        ["docker", "logs", container],
        env=stack.docker.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    reports = [json.loads(line) for line in run.stderr.splitlines()]
    assert reports[-1]["event"] == "topics_checked"
    assert reports[-1]["made"] == 19


def test_an_event_goes_in_and_its_outcome_comes_out(stack: Stack) -> None:
    stack.seatflow("feed", "jsonl", str(SMALL_TENANT))
    stack.seatflow("status", "--wait")
    assert stack.user_states() == {"contoso/ann": ["Active"], "contoso/bob": ["Error"]}
    inside = stack.compose("exec", "-T", "worker", "seatflow", "read", "user-licenses")
    assert {json.loads(line)["key"] for line in inside.splitlines()} == {
        "contoso/ann",
        "contoso/bob",
    }


def test_the_receiver_takes_events_of_those_who_have_a_token(stack: Stack) -> None:
    user = {"id": "r1", "tenant": "contoso", "user": "carol", "usageLocation": "US"}
    event = {"type": "user.upserted", **user}
    with pytest.raises(HTTPError, match="401"):
        stack.request("POST", "RECEIVER", "/events", event)
    source = {"Authorization": f"Bearer {SOURCE_TOKEN}"}
    stack.request("POST", "RECEIVER", "/events", event, **source)
    stack.seatflow("status", "--wait")


def test_the_console_shows_it_to_those_who_have_a_token(stack: Stack) -> None:
    path = "/v1/tenants/contoso/users"
    with pytest.raises(HTTPError, match="401"):
        stack.get("CONSOLE", path)

    def users() -> set[str]:
        return {user["id"] for user in json.loads(stack.get("CONSOLE", path, **BEARER))["value"]}

    eventually(lambda: {"ann", "bob"} <= users())


def test_five_workers_are_found_by_prometheus(stack: Stack) -> None:
    stack.up("--no-recreate", "--scale", "worker=5")
    assert len(stack.containers("worker")) == 5
    eventually(lambda: stack.workers_up() == 5)


def test_kills_of_workers_and_of_the_broker_lose_and_repeat_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    killed = threading.Event()
    parts = 0

    def feed() -> None:
        nonlocal parts
        while not killed.is_set() or parts * USERS_AT_ONCE <= SEATS:
            load = tmp_path / f"load-{parts}.jsonl"
            load.write_text("".join(json.dumps(event) + "\n" for event in _load(parts)))
            _feed_until_taken(stack, load)
            parts += 1

    feeding = threading.Thread(target=feed)
    feeding.start()
    for service in ("worker", "kafka", "worker"):
        time.sleep(1)  # the kills come amid the load, at no particular moment of it
        assert feeding.is_alive(), "feeding failed"
        _kill_one(stack, service)
    killed.set()
    feeding.join(240)
    assert not feeding.is_alive()
    users = parts * USERS_AT_ONCE
    assert users > SEATS
    (broker,) = stack.containers("kafka")
    eventually(lambda: stack.docker.inspect(broker, "{{.State.Health.Status}}") == "healthy")
    stack.seatflow("status", "--wait", "--timeout", "120", timeout=180)
    states = [value for key, value in stack.user_states().items() if key.startswith("load/")]
    assert len(states) == users
    assert states.count(["Active"]) == SEATS
    assert states.count(["Error"]) == users - SEATS
    eventually(lambda: stack.workers_up() == 5, within_seconds=90)


def _kill_one(stack: Stack, service: str) -> None:
    """Kills a container that was never killed; returns when the engine has started it again."""
    count = "{{.RestartCount}} {{.State.Running}}"
    running = stack.containers(service)
    victim = next(c for c in running if stack.docker.inspect(c, count) == "0 true")
    stack.docker.kill_process(victim)
    eventually(lambda: stack.docker.inspect(victim, count) == "1 true")


def _load(part: int) -> list[dict[str, object]]:
    tenant = {"tenant": "load"}
    units = {"prepaidUnits": {"enabled": SEATS}}
    license_ = {"group": "all", "addLicenses": [{"skuId": "e3"}]}
    events: list[dict[str, object]] = [
        {"type": "subscription.updated", **tenant, "skuId": "e3", **units},
        {"type": "licenses.changed", **tenant, **license_},
    ]
    for number in range(part * USERS_AT_ONCE, (part + 1) * USERS_AT_ONCE):
        user = {**tenant, "user": f"u{number:06}"}
        events.append({"type": "user.upserted", **user, "usageLocation": "US"})
        events.append({"type": "membership.added", **user, "group": "all"})
    return [{"id": f"load-{part}-{number}", **event} for number, event in enumerate(events)]


def _feed_until_taken(stack: Stack, file: Path) -> None:
    """Feeds the file until it goes through: what the broker took before is taken as duplicates."""
    eventually(lambda: _feed(stack, file), within_seconds=180)


def _feed(stack: Stack, file: Path) -> bool:
    try:
        stack.seatflow("feed", "jsonl", str(file))
    except AssertionError:
        return False
    return True


def test_workers_stop_within_their_grace_period(stack: Stack) -> None:
    workers = stack.containers("worker")
    since = time.monotonic()
    stack.compose("stop", "worker")
    assert time.monotonic() - since < 15
    codes = [stack.docker.inspect(worker, "{{.State.ExitCode}}") for worker in workers]
    assert codes == ["0"] * 5
