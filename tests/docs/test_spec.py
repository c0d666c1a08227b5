"""The examples of the specification are valid input and output of the contract."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from streams.contract.decoder import DECODERS, Rejected
from streams.contract.schemas import EVENTS, RECORDS, schema_of
from tests.docs.test_docs import DOCS

CONTRACT = (DOCS / "spec" / "contract.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"`licensing\.([a-z-]+)`[^\n]*\n\n```json\n(.*?)```", CONTRACT, re.DOTALL)
INPUTS = [
    (topic, line) for topic, block in BLOCKS if topic in DECODERS for line in block.splitlines()
]
OUTPUTS = [(topic, block) for topic, block in BLOCKS if topic not in DECODERS]


@pytest.mark.parametrize(("topic", "line"), INPUTS)
def test_an_example_of_an_input_is_read(topic: str, line: str) -> None:
    event = json.loads(line)
    parts = [event.get(member) for member in ("tenant", "user", "group", "skuId")]
    parts = parts[:1] + parts[2:] if topic == "group-changes" else parts
    key = "/".join([part for part in parts if part][:2])
    decoded = DECODERS[topic](key.encode(), line.encode())
    assert not isinstance(decoded, Rejected), decoded


def test_every_event_type_has_an_example() -> None:
    shown = {(topic, json.loads(line)["type"]) for topic, line in INPUTS}
    assert shown == {(message.topic, message.name) for message in EVENTS}


@pytest.mark.parametrize(("topic", "record"), OUTPUTS)
def test_an_example_of_an_output_fits_its_schema(topic: str, record: str) -> None:
    (message,) = (m for m in RECORDS if m.topic == topic)
    jsonschema.validate(json.loads(record), schema_of(message))


def test_every_output_but_dead_letters_has_an_example() -> None:
    assert {topic for topic, _ in OUTPUTS} == {message.topic for message in RECORDS}
