"""CloudEvents checked against the SDK, a schema registry's prefix, Debezium's change events."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from engine.domain.events import UserDeleted
from streams.contract.decoder import DECODERS, Rejected
from streams.ingest import FeedError
from streams.ingest.debezium import events_from_debezium, load_mapping
from streams.ingest.debezium_bridge import Bridge
from streams.runtime.settings import load_settings
from tests.streams.ingest.played import events, told
from tests.support.kafka import Kafka, create_topics, produce
from tests.support.system import running

MAP = """
tenant = "contoso"
[user]
id = "{number}"
userPrincipalName = "{login}"
displayName = "{first} {last}"
usageLocation = "{country}"
gone = { column = "status", is = ["left"] }
[[groups]]
id = "department-{department}"
"""


@pytest.mark.parametrize("to_message", [to_binary_event, to_structured_event])
def test_what_the_sdk_sends_is_read(to_message: Any) -> None:
    attributes = {"type": "user.deleted", "source": "/hr/1", "id": "e 1", "partitionkey": "t/u"}
    message = to_message(CloudEvent(attributes, {"tenant": "t", "user": "u"}))
    headers = [
        (name, value if isinstance(value, bytes) else str(value).encode())
        for name, value in message.headers.items()
    ]
    value = message.value if isinstance(message.value, bytes) else message.value.encode()
    key = message.key if isinstance(message.key, bytes) else str(message.key).encode()
    decoded = DECODERS["user-changes"](key, value, headers)
    assert decoded == (UserDeleted("e 1", "t", "u"), "/hr/1")


def test_the_prefix_of_a_schema_registry_is_passed_over() -> None:
    body = json.dumps({"type": "user.deleted", "id": "e", "tenant": "t", "user": "u"}).encode()
    decode = DECODERS["user-changes"]
    assert decode(b"t/u", b"\x00\x00\x00\x00\x2a" + body) == decode(b"t/u", body)
    assert isinstance(decode(b"t/u", b"\x00\x00\x00\x00\x2a"), Rejected)
    assert isinstance(decode(b"t/u", b"\x00" + body), Rejected)


def row(number: Any = 7, **columns: Any) -> dict[str, Any]:
    known = {"login": "Ann@x.example", "first": "Ann", "last": "A", "country": "DE"}
    return {"number": number, **known, "department": "R&D", "status": "active", **columns}


def envelope(op: str, before: Any, after: Any) -> dict[str, Any]:
    source = {"connector": "postgresql", "table": "people", "ts_ms": 1, "snapshot": "false"}
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": 2}


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    file = tmp_path / "map.toml"
    file.write_text(MAP)
    return file


def fed(tmp_path: Path, mapping: Path, *values: Any) -> Any:
    file = tmp_path / "changes.jsonl"
    file.write_text("\n".join(json.dumps(value) for value in values))
    return events_from_debezium(file, mapping)


ANN = {
    "type": "user.upserted",
    "user": "7",
    "userPrincipalName": "Ann@x.example",
    "displayName": "Ann A",
    "usageLocation": "DE",
}
JOINED = {"type": "membership.added", "user": "7", "group": "department-r:26:d"}


def test_mail_attributes_come_from_columns(tmp_path: Path, mapping: Path) -> None:
    more = (
        'mail = "{mail}"\nmailNickname = "{alias}"\nproxyAddresses = "SMTP:{mail};smtp:{alias}@x"'
    )
    mapping.write_text(MAP.replace("gone =", f"{more}\ngone ="))
    value = envelope("c", None, row(mail="a@x.example", alias="ann.a", department=None))
    addresses = ["SMTP:a@x.example", "smtp:ann.a@x"]
    facts = {"mail": "a@x.example", "mailNickname": "ann.a", "proxyAddresses": addresses}
    assert events(fed(tmp_path, mapping, value)) == [ANN | facts]
    value = envelope("u", row(), row(mail="a@x.example", alias=None, department=None))
    assert events(fed(tmp_path, mapping, value))[0]["mailNickname"] is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (envelope("c", None, row()), [ANN, JOINED]),
        ({"schema": {}, "payload": envelope("r", None, row())}, [ANN, JOINED]),
        (row(__op="c", __deleted="false"), [ANN, JOINED]),
        (envelope("u", row(), row(country=None)), [ANN | {"usageLocation": None}]),
        (
            envelope("u", row(), row(department="Sales")),
            [
                ANN,
                JOINED | {"group": "department-sales"},
                JOINED | {"type": "membership.removed"},
            ],
        ),
        (envelope("u", row(), row(status="left")), [{"type": "user.deleted", "user": "7"}]),
        (envelope("u", row(status="left"), row()), [ANN, JOINED]),
        (envelope("c", None, row(status="left")), []),
        (envelope("d", row(), None), [{"type": "user.deleted", "user": "7"}]),
        (row(__deleted="true"), [{"type": "user.deleted", "user": "7"}]),
        (envelope("t", None, None), []),
        (None, []),
    ],
)
def test_a_change_of_a_row(tmp_path: Path, mapping: Path, value: Any, expected: Any) -> None:
    assert events(fed(tmp_path, mapping, value)) == expected


def test_a_changed_identity_deletes_the_old_user(tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text(
        "tenant = '{company}'\n[user]\nid = '{login}'\nusageLocation = '{country}'\n"
        "gone = { column = 'status', is = ['left'] }\n[[groups]]\nid = 'all-{department}'\n"
    )

    def person(**columns: Any) -> dict[str, Any]:
        known = {"login": "ida.ek@x.example", "company": "contoso", "country": "SE"}
        return {**known, "department": "Sales", "status": "active", **columns}

    def of(*values: Any) -> list[tuple[str, str, str | None]]:
        found = [json.loads(item.value) for item in fed(tmp_path, file, *values)]
        assert len({(each["tenant"], each["id"]) for each in found}) == len(found)
        return [
            (each["type"], f"{each['tenant']}/{each['user']}", each.get("group")) for each in found
        ]

    new = person(login="Ida.Berg@x.example")
    ek, berg = "contoso/ida.ek@x.example", "contoso/ida.berg@x.example"
    made = [("user.upserted", berg, None), ("membership.added", berg, "all-sales")]
    assert of(envelope("u", person(), new)) == [("user.deleted", ek, None), *made]
    moved = "fabrikam/ida.berg@x.example"
    assert of(envelope("u", new, person(login="ida.berg@x.example", company="fabrikam"))) == [
        ("user.deleted", berg, None),
        ("user.upserted", moved, None),
        ("membership.added", moved, "all-sales"),
    ]
    # The case of a name does not make another user, and who was gone is not deleted again.
    assert of(envelope("u", person(), person(login="IDA.EK@x.example"))) == [
        ("user.upserted", ek, None)
    ]
    assert of(envelope("u", person(status="left"), new)) == made
    assert of(envelope("u", person(), new | {"status": "left"})) == [("user.deleted", ek, None)]
    # Without the old id, the row is taken for the same user.
    assert of(envelope("u", {"department": "Sales"}, new)) == made[:1]


def test_placeholders_of_unchanged_values_are_no_values(tmp_path: Path, mapping: Path) -> None:
    kept = "__debezium_unavailable_value"
    base64 = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
    # Before has the value, as with REPLICA IDENTITY FULL: nothing is lost.
    full = envelope("u", row(), row(login=kept, department=kept, status=kept))
    assert events(fed(tmp_path, mapping, full)) == [ANN]
    # Nobody has it: the attribute and the group stay as they are.
    absent = row(login=kept, country=[kept], first=base64, department=kept)
    [user] = events(fed(tmp_path, mapping, envelope("u", absent, absent)))
    assert user == {"type": "user.upserted", "user": "7"}
    new_user = {"type": "user.upserted", "user": "7", "usageLocation": "DE"}
    assert events(
        fed(tmp_path, mapping, row(__op="c", login=kept, first=kept, department=None))
    ) == [new_user]
    for value, words in (
        (envelope("u", row(number=kept), row(number=kept)), "identifies"),
        (envelope("u", row(number=8, department=kept), row(department=kept)), "a group"),
    ):
        [(_, reason)] = told(fed(tmp_path, mapping, value))
        assert words in reason
        assert "REPLICA IDENTITY FULL" in reason


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (envelope("u", None, row()), "REPLICA IDENTITY"),
        (envelope("c", None, {"number": 7}), "no column login"),
        (envelope("c", None, row() | {"number": None}), "no id"),
        (envelope("c", None, row(country="Germany")), "two capital letters"),
        (envelope("u", None, None), "neither"),
        ([1], "object"),
    ],
)
def test_what_cannot_be_mapped_is_told(
    tmp_path: Path, mapping: Path, value: Any, words: str
) -> None:
    [(line, reason)] = told(fed(tmp_path, mapping, value))
    assert line == 1
    assert words in reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tenant = 1", "tenant"),
        ("tenant = 't'\n[user]\n", "id"),
        ("tenant = 't'\n[user]\nid = '{a}'\nphone = '{b}'", "phone"),
        ("tenant = 't'\n[user]\nid = '{a}'\ngone = 1", "gone"),
        ("tenant = 't'\n[user]\nid = '{a}'\n[[groups]]\nname = 'x'", "groups"),
        ("nonsense", "TOML"),
    ],
)
def test_a_mapping_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(FeedError, match=words):
        load_mapping(tmp_path / "m.toml")


def test_the_topic_of_debezium_as_an_input(kafka: Kafka, mapping: Path) -> None:
    with running(kafka.bootstrap) as system:
        table = f"{system.name}.public.people"
        asyncio.run(create_topics(kafka.bootstrap, table, partitions=2))
        flags = {k.removeprefix("SEATFLOW_").lower(): v for k, v in system.env.items()}

        def carry(*values: Any) -> Bridge:
            records = [(b"k", None if v is None else json.dumps(v).encode()) for v in values]
            asyncio.run(produce(kafka.bootstrap, table, records))
            bridge = Bridge(load_settings(**flags), table, load_mapping(mapping))
            asyncio.run(bridge.run(until_end=True))
            return bridge

        first = carry(envelope("c", None, row()), envelope("u", None, row()), None)
        assert (first.processed, first.rejected) == (3, 1)
        second = carry(envelope("d", row(), None))
        assert (second.processed, second.rejected) == (1, 0)
        found = [json.loads(record.value or b"") for record in system.records("user-changes")]
        assert [each["type"] for each in found] == [
            "user.upserted",
            "membership.added",
            "user.deleted",
        ]
        assert found[0]["id"].startswith("debezium:")
        [dead] = system.records("dead-letters")
        assert b"REPLICA IDENTITY" in dict(dead.headers)["dlq.reason"]
