"""Whole records of any content over worker, console follower, receiver and bridge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition

from streams.console.read_model.input_projections import FOLLOWED
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.contract.topics import INPUT_NAMES, INTERNAL_NAMES, OUTPUT_NAMES
from streams.ingest.debezium import load_mapping
from streams.ingest.debezium_bridge import Bridge
from streams.runtime.settings import load_settings
from tests.fuzz.hostile_records import RECORDS, SEED, Hostile
from tests.fuzz.worker_door import Door, worker_door
from tests.streams.ingest.receiver import receiving

Json = dict[str, Any]
CALM = "calm"
AT = 1_764_000_000_000


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Shows the seed beside every failure, and keeps the lines of the log short of it."""
    print(f"SEATFLOW_FUZZ_SEED={SEED} SEATFLOW_FUZZ_RECORDS={RECORDS}")
    with structlog.testing.capture_logs():
        yield


def calm(offsets: dict[str, int]) -> Iterator[tuple[str, Any]]:
    """Yields the events of a well-behaved tenant, as topic and record."""
    product: Json = {"type": "product.defined", "skuId": "GOOD", "skuPartNumber": "GOOD"}
    product |= {"displayName": "Good", "servicePlans": []}
    yield _event(offsets, "catalog", "GOOD", product)
    units = {"enabled": 30, "warning": 0, "suspended": 0, "lockedOut": 0}
    subscription = {"type": "subscription.updated", "skuId": "GOOD", "prepaidUnits": units}
    yield _event(offsets, "subscriptions", f"{CALM}/GOOD", subscription)
    licences: Json = {"type": "licenses.changed", "group": "g1", "removeLicenses": []}
    licences["addLicenses"] = [{"skuId": "GOOD", "disabledPlans": []}]
    yield _event(offsets, "group-changes", f"{CALM}/g1", licences)
    for n in range(40):
        user = {"user": f"u{n}", "usageLocation": "US", "userPrincipalName": f"u{n}@calm.example"}
        key = f"{CALM}/u{n}"
        yield _event(offsets, "user-changes", key, {"type": "user.upserted", **user})
        join = {"type": "membership.added", "user": f"u{n}", "group": "g1"}
        yield _event(offsets, "user-changes", key, join)


def _event(offsets: dict[str, int], topic: str, key: str, body: dict[str, Any]) -> tuple[str, Any]:
    count = offsets[topic] = offsets.get(topic, 0) + 1
    event = body | {"id": f"calm-{topic}-{count}", "tenant": CALM}
    value = json.dumps(event).encode()
    record = SimpleNamespace(
        key=key.encode(), value=value, headers=(), timestamp=AT + count, timestamp_type=1, offset=0
    )
    return topic, record


async def _play(door: Door, hostile: Hostile | None) -> None:
    """Gives the calm tenant's events to the door, with hostile records between them."""
    r = hostile.random if hostile else None
    events = list(calm({}))
    for topic, record in events:
        if hostile and r:
            for _ in range(RECORDS // len(events)):
                other = r.choice(INPUT_NAMES * 3 + INTERNAL_NAMES)
                make = hostile.input if other in INPUT_NAMES else hostile.message
                door.append(other, [make(other, len(door.logs[other]))])
        record.offset = len(door.logs[topic])
        door.append(topic, [record])
        await door.settled()
        assert not door.failures, f"seed {SEED}: {door.failures[0]!r}"


async def test_no_record_ends_a_worker_or_disturbs_another_tenant() -> None:
    async with worker_door() as alone:
        await _play(alone, None)
        expected = alone.latest(CALM)
    assert len([key for key in expected if key[0] == "user-licenses"]) == 40
    async with worker_door() as door:
        await _play(door, Hostile())
        assert door.latest(CALM).keys() == expected.keys()
        assert door.latest(CALM) == expected
        reasons = {dict(letter.headers)["dlq.reason"] for letter in door.letters}
        assert len(door.letters) > RECORDS // 10
        assert all(0 < len(reason) < 1000 and b"\n" not in reason for reason in reasons)
        failed = sorted(reason for reason in reasons if reason.startswith(b"processor_failed"))
        assert not failed, f"seed {SEED}: bugs, each of which cost a record: {failed}"


@pytest.mark.parametrize(
    ("topics", "count"), [(INPUT_NAMES, RECORDS), (OUTPUT_NAMES, RECORDS // 10)]
)
def test_no_record_ends_the_consoles_follower(
    tmp_path: Path, topics: tuple[str, ...], count: int
) -> None:
    """Of an input, every record is shown or ignored; of an output, which workers write, passed."""
    settings = load_settings(_env_file=None, topic_prefix="t.")
    store = Store(tmp_path / "console.sqlite3", settings.topic_prefix)
    projector, hostile = ReadModelProjector(settings, store), Hostile()
    offsets: dict[str, int] = {}
    good = [(topic, record) for topic, record in calm({}) if topic in FOLLOWED]
    followed = [topic for topic in topics if topic in FOLLOWED]
    for topic, record in good:
        batches: dict[TopicPartition, list[Any]] = {}
        for _ in range(count // len(good)):
            other = hostile.random.choice(followed)
            source = other if other in INPUT_NAMES else "user-changes"
            made = hostile.input(source, offsets.get(other, 0))
            offsets[other] = offsets.get(other, 0) + 1
            batches.setdefault(TopicPartition("t." + other, 0), []).append(made)
        record.partition, record.offset = 0, offsets.get(topic, 0)
        offsets[topic] = record.offset + 1
        batches.setdefault(TopicPartition("t." + topic, 0), []).append(record)
        projector._write(batches)
        projector._count(batches)
        for place, records in batches.items():
            if place.topic == "t.results":
                projector.results.complete(each.value for each in records)
    assert store.offsets() == {(topic, 0): end for topic, end in offsets.items()}
    if topics == INPUT_NAMES:
        assert projector.unreadable is None, f"seed {SEED}: {projector.unreadable}"
    projector.close()
    store.close()


MAPPING = """
tenant = "{tenant}"
[user]
id = "{id}"
userPrincipalName = "{upn}"
displayName = "{name}"
usageLocation = "{country}"
"""


def test_no_record_ends_the_bridge(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(MAPPING)
    settings = load_settings(_env_file=None, topic_prefix="t.")
    bridge, hostile = Bridge(settings, "hr", load_mapping(tmp_path / "m.toml")), Hostile()
    row = {"id": "u1", "upn": "ann@x.example", "name": "Ann", "country": "US"}
    envelope = {"before": row, "after": row, "op": "u", "source": {"ts_ms": 1}}
    for offset in range(RECORDS):
        body = {"payload": envelope} if hostile.random.random() < 0.5 else envelope
        record = hostile.record("hr", "k", body, offset)
        for topic, key, value, headers in bridge._records(record):
            assert topic in (*INPUT_NAMES, "dead-letters")
            assert key is None or isinstance(key, bytes)
            assert value is None or isinstance(value, bytes)
            reason = dict(headers).get("dlq.reason", b"")
            assert not reason.startswith(b"processor_failed"), f"seed {SEED}: {record} {reason!r}"


def test_no_request_ends_the_receiver(tmp_path: Path) -> None:
    hostile, r = Hostile(), Hostile().random
    user: Json = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "ann@x.example",
    }
    user |= {
        "externalId": "u1",
        "active": True,
        "emails": [{"value": "a@b.example", "primary": True}],
    }
    patch: Json = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}
    patch["Operations"] = [{"op": "Replace", "path": "displayName", "value": "Ann"}]
    bulk: Json = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"]}
    bulk["Operations"] = [{"method": "POST", "bulkId": "1", "path": "/Users", "data": user}]
    event: Json = {"specversion": "1.0", "type": "user.upserted", "id": "e", "source": "hr"}
    event["data"] = {"tenant": "contoso", "user": "u1", "displayName": "Ann"}
    notification = {"value": [{"clientState": "a-secret-of-contoso", "resource": "Users/u1"}]}
    doors = (
        ("POST", "/scim/v2/Users", user), ("PUT", "/scim/v2/Users/u1", user),
        ("PATCH", "/scim/v2/Users/u1", patch), ("POST", "/scim/v2/Groups", user),
        ("POST", "/scim/v2/Bulk", bulk), ("POST", "/bulkUpload", bulk), ("POST", "/events", event),
        ("POST", "/notifications", notification), ("POST", "/graph/notifications", notification),
    )  # fmt: skip
    with receiving(tmp_path) as (client, _):
        for n in range(RECORDS // 4):
            method, path, body = r.choice(doors)
            content = hostile.bytes_of(hostile.mutated(body)) or b""
            kind = r.choice(("application/json", "application/scim+json", "text/plain", ""))
            answer = client.request(
                method, path, content=content, headers={"content-type": kind} if kind else {}
            )
            assert answer.status_code < 500, f"seed {SEED}, request {n}: {path} {content[:300]!r}"
            if n % 50 == 0:
                assert client.get("/healthz").status_code == 200
        answer = client.post("/scim/v2/Users", json=user | {"userName": "calm@x.example"})
        assert answer.status_code in (200, 201, 409)
