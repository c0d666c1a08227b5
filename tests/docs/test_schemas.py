"""The contract as files: current, valid, and true of what is read and written."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import validator_for

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.asyncapi import asyncapi
from streams.contract.decoder import DECODERS, Rejected
from streams.contract.event_reader import Event, event_of
from streams.contract.event_readers import READERS
from streams.contract.schemas import EVENTS, MESSAGES, RECORDS, schema_of
from streams.contract.topics import INPUT_NAMES, OUTPUTS
from streams.demo.scenario import demo_steps
from streams.docgen.reference import pages
from tests.support.demo_cluster import demo_cluster

DATA = Path(__file__).parent / "data"
GOLDEN = sorted((DATA / "golden").glob("*.json"))


@pytest.fixture(scope="module")
def demo() -> InMemoryCluster:
    return demo_cluster()


def validator(message: Any) -> Draft202012Validator:
    return Draft202012Validator(schema_of(message), format_checker=FormatChecker())


def schema_of_event(topic: str, body: dict[str, Any]) -> Any:
    found = [m for m in EVENTS if (m.topic, m.name) == (topic, body.get("type"))]
    return found[0] if found else None


def test_the_files_in_the_documentation_are_current() -> None:
    for path, text in pages().items():
        if "reference" in path.parts:
            assert path.read_text(encoding="utf-8") == text, f"{path}: run `make docs`"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.file)
def test_a_schema_is_one(message: Any) -> None:
    Draft202012Validator.check_schema(schema_of(message))


def test_every_type_of_event_and_every_output_has_one() -> None:
    decoded = {(topic, kind) for topic, kinds in READERS.items() for kind in kinds}
    assert {(m.topic, m.name) for m in EVENTS} == decoded
    assert {m.topic for m in EVENTS} == set(INPUT_NAMES)
    wanted = {topic.name for topic in OUTPUTS} - {"dead-letters"}
    assert {m.topic for m in RECORDS} == wanted
    assert len({m.file for m in MESSAGES}) == len(MESSAGES)


def test_the_asyncapi_document_is_valid() -> None:
    schema = json.loads(gzip.decompress((DATA / "asyncapi-3.0.0.schema.json.gz").read_bytes()))
    document = asyncapi()
    errors = list(validator_for(schema)(schema).iter_errors(document))
    assert [f"{list(e.absolute_path)}: {e.message[:200]}" for e in errors] == []

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_what_the_demo_sends_and_publishes_is_as_the_schemas_say(demo: InMemoryCluster) -> None:
    for step in demo_steps():
        for topic, key, value in step.records:
            decoded = DECODERS[topic](key, value, None)
            try:
                body = json.loads(value)
            except ValueError:
                continue
            message = schema_of_event(topic, body) if isinstance(body, dict) else None
            if isinstance(decoded, Rejected):
                continue
            assert validator(message).is_valid(body), value
    by_topic = {message.topic: validator(message) for message in RECORDS}
    seen = set()
    for output in demo.outputs:
        if output.value is not None:
            seen.add(output.topic)
            errors = [each.message for each in by_topic[output.topic].iter_errors(output.value)]
            assert errors == [], output
    assert seen == set(by_topic)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "no spaces"},
        {"id": None},
        {"type": "user.exploded"},
        {"tenant": "x" * 129},
        {"user": 7},
        {"usageLocation": "us"},
        {"proxyAddresses": "SMTP:a@x"},
        {"proxyAddresses": [""]},
        {"displayName": "x" * 1025},
    ],
)
def test_schema_and_decoder_refuse_the_same(change: dict[str, Any]) -> None:
    body = {"type": "user.upserted", "id": "e", "tenant": "t", "user": "u"}
    message = schema_of_event("user-changes", body)
    assert validator(message).is_valid(body)
    wrong = body | change
    assert not validator(message).is_valid(wrong)
    assert isinstance(event_of(json.dumps(wrong).encode()), str)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_what_was_once_written_stays_readable(path: Path) -> None:
    record = json.loads(path.read_text())
    [message] = [m for m in MESSAGES if path.name == m.file.replace(".schema.json", ".json")]
    assert [each.message for each in validator(message).iter_errors(record)] == []
    if message in EVENTS:
        assert isinstance(event_of(json.dumps(record).encode()), Event)


def test_every_record_has_a_golden_sample() -> None:
    assert {p.name for p in GOLDEN} == {m.file.replace(".schema.json", ".json") for m in MESSAGES}


def objects_and_choices(schema: Any) -> Any:
    """Yields the schemas of which generators make a class: objects, and lists of words."""
    if isinstance(schema, dict):
        if (
            schema.get("type") == "object"
            or "properties" in schema
            or isinstance(schema.get("enum"), list)
        ):
            yield schema
        for name, each in schema.items():
            if name not in ("not", "propertyNames", "required", "enum", "const", "default"):
                yield from objects_and_choices(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects_and_choices(each)


def test_every_schema_has_a_name_of_its_own() -> None:
    """Without one, generators of models call a class AnonymousSchema_7."""
    found: dict[str, Any] = {}
    payloads = [
        message["payload"]["schema"] for message in asyncapi()["components"]["messages"].values()
    ]
    for document in (*map(schema_of, MESSAGES), *payloads):
        for schema in objects_and_choices(document):
            name = schema["title"]
            assert re.fullmatch(r"([A-Z][a-z]+)+", name), name
            shape = {k: v for k, v in schema.items() if k not in ("description", "$schema", "$id")}
            assert found.setdefault(name, shape) == shape, f"two schemas are called {name}"
    assert {"UserUpserted", "GroupLicensesChanged", "ServicePlan", "UserLicenses"} <= found.keys()


def test_a_time_may_be_null() -> None:
    """As pydantic and other models write a member that is not given."""
    body = {"type": "user.deleted", "id": "e1", "time": None, "tenant": "t", "user": "u"}
    validator(schema_of_event("user-changes", body)).validate(body)
    assert isinstance(event_of(json.dumps(body).encode()), Event)
