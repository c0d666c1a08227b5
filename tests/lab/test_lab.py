"""The fault laboratory: its short set of experiments on real Kafka, and tests of its own tools.

`make lab` runs all experiments; the short set has those that find the most per second.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.decoder import DECODERS
from streams.kafka.changelog_rows import APPLIED
from streams.local.broker import free_port
from tests.checkers import Record, same_outcome
from tests.lab.experiments import EXPERIMENTS, SHORT
from tests.lab.proxy import Proxy
from tests.lab.record import Recording, Taken
from tests.lab.runner import run
from tests.lab.tenants import CALM, Event, Tenants
from tests.lab.verdict import in_the_log, of_tenant, told

SEED = 1


@pytest.mark.kafka
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SHORT)
def test_under_faults_the_promises_hold(name: str, tmp_path: Path) -> None:
    row = run(EXPERIMENTS[name], SEED, tmp_path)
    if row.skipped:
        pytest.skip(row.skipped)
    shown = {path.name: path.read_text() for path in tmp_path.glob("*.txt")}
    assert row.good, f"seed {SEED}: {row.as_json()}\n{shown}"
    assert row.inputs > 1000


def load(seed: int, count: int) -> list[Event]:
    tenants = Tenants(Random(seed))
    setup = [event for part in tenants.setup() for event in part]
    return setup + [tenants.next() for _ in range(count)]


def test_a_seed_makes_one_load() -> None:
    assert load(7, 3000) == load(7, 3000)
    assert load(7, 100) != load(8, 100)


def test_the_load_has_bad_input_repetitions_and_every_type_of_event() -> None:
    tenants = Tenants(Random(3), bad=0.01, again=0.01)
    events = [tenants.next() for _ in range(5000)]
    ids: set[bytes] = set()
    types, bad, again = set(), 0, 0
    assert sum(b'"restorable": true' in (value or b"") for _, _, value in events) > 50
    for _, key, value in events:
        try:
            event = json.loads(value or b"")
            types.add((event["type"], key is None))
            again += value in ids
            ids.add(value or b"")
        except (ValueError, LookupError, TypeError):
            bad += 1
    assert {name for name, without_key in types if not without_key} >= {
        *("user.upserted", "user.deleted", "user.reprocess", "licenses.changed"),
        *("membership.added", "membership.removed", "subscription.updated", "tenant.updated"),
        *("group.upserted", "group.deleted", "group.reprocess", "product.defined"),
        *("user.snapshot", "licenses.set"),
    }
    assert 10 < bad < 100
    assert 10 < again < 100


def as_records(events: list[Event]) -> list[Record]:
    return [Record(topic, 0, n, key, value) for n, (topic, key, value) in enumerate(events)]


def test_the_calm_tenant_does_not_depend_on_the_order_of_its_users() -> None:
    """The oracle predicts its end state, so only the order of the events of one key may matter."""
    tenants = Tenants(Random(5), bad=0, again=0)
    first, second = tenants.setup()
    events = [tenants.calm.next() for _ in range(300)]
    by_user = sorted(events, key=lambda event: str(event[1]))  # stable: one user after the other
    one = told(as_records([*first, *second, *events]), CALM)
    other = told(as_records([*first, *second, *by_user]), CALM)
    assert states(one.users) == states(other.users)
    assert len(one.users) > 20


def states(users: dict[str, dict[str, object]]) -> dict[str, list[object]]:
    keep = ("skuId", "assignedByGroup", "state", "error")
    return {
        key: [
            user["mail"],
            user["proxyAddresses"],
            *([s[name] for name in keep] for s in user["licenseAssignmentStates"]),  # type: ignore[attr-defined]
        ]
        for key, user in users.items()
        if user["licenseAssignmentStates"]
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_calm_tenant_ends_as_the_oracle_says_whatever_the_batches(seed: int) -> None:
    """Guarantee 1 in memory: snapshots, restorations and restarts at any moment included."""
    tenants, dice = Tenants(Random(seed), bad=0, again=0), Random(seed)
    cluster, inputs = InMemoryCluster(4), []
    first, second = tenants.setup()
    for number, event in enumerate([*first, *second, *(tenants.calm.next() for _ in range(400))]):
        topic, key, value = event
        decoded = DECODERS[topic]((key or "").encode(), value, None)
        assert isinstance(decoded, tuple), decoded
        cluster.publish(topic, key or "", decoded[0], 1_800_000_000_000 + number)
        inputs.append(event)
        for _ in range(dice.choice((0, 0, 1, 2, 4))):
            work = [(p, *topic_and_lag) for p in range(4) for topic_and_lag in cluster.lag(p)]
            if work and number > len(first):
                p, topic, lag = dice.choice(work)
                cluster.step(p, topic, dice.randint(1, lag))
        if number == len(first):
            cluster.settle()
        elif dice.random() < 0.02:
            cluster.restart(dice.randrange(4))
    cluster.settle(dice)
    outputs = [Record(o.topic, 0, n, o.key, o.value) for n, o in enumerate(cluster.outputs)]
    assert same_outcome(told(as_records(inputs), CALM), of_tenant(outputs, CALM)) == []


def test_outputs_of_one_tenant_are_told_apart() -> None:
    records = [Record("user-licenses", 0, n, f"{t}/u", {}) for n, t in enumerate(("calm", "wild"))]
    assert list(of_tenant(records, "calm").users) == ["calm/u"]


def test_what_was_acknowledged_and_is_not_in_the_log_is_noticed() -> None:
    records = [Record("tenants", 0, 0, "t", b"a")]
    assert not in_the_log(records, {("tenants", 0, 0): b"a"})
    assert len(in_the_log(records, {("tenants", 0, 0): b"b", ("tenants", 0, 1): b"a"})) == 2


def test_the_longest_wait_is_from_the_input_to_the_transaction_that_applied_it() -> None:
    def taken(at: int, topic: str, offset: int, key: bytes, value: bytes) -> Taken:
        return Taken(at, Record(topic, 0, offset, key.decode(), value), key)

    recording = Recording(
        [
            taken(1000, "user-changes", 0, b"t/a", b"1"),
            taken(1100, "user-changes", 1, b"t/b", b"2"),
            taken(1200, "changelog", 0, APPLIED, b'{"user-changes": 1}'),
            taken(4100, "changelog", 1, APPLIED, b'{"user-changes": 2}'),
        ]
    )
    assert recording.longest_wait() == 3.0
    assert recording.last_output() == 4.1


@pytest.fixture
def echo() -> Iterator[Proxy]:
    """Provides a proxy in front of an echo server that keeps what it receives."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(free_port(), listener.getsockname())
    proxy.start()
    proxy.listener = listener  # type: ignore[attr-defined]
    try:
        yield proxy
    finally:
        proxy.stop()
        listener.close()


def test_a_cut_holds_back_both_ways_and_a_healed_one_delivers_late(echo: Proxy) -> None:
    client = socket.create_connection(("127.0.0.1", echo.port))
    server, _ = echo.listener.accept()  # type: ignore[attr-defined]
    client.settimeout(0.3)
    server.settimeout(0.3)
    client.sendall(b"one")
    assert server.recv(10) == b"one"
    echo.mute()
    client.sendall(b"two")
    assert server.recv(10) == b"two"
    server.sendall(b"reply")
    with pytest.raises(TimeoutError):
        client.recv(10)
    echo.cut()
    client.sendall(b"three")
    with pytest.raises(TimeoutError):
        server.recv(10)
    echo.heal()
    assert server.recv(10) == b"three"
    assert client.recv(10) == b"reply"
    echo.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    client.close()
    server.close()
