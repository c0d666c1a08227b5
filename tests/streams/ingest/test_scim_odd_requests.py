"""SCIM requests with odd values at any depth: a file goes on after each of them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streams.ingest import FeedItem
from tests.streams.ingest.played import told
from tests.streams.ingest.test_scim import ENTRA, GROUP, USER, patch
from tests.streams.ingest.test_scim_doors import ABROAD, TABLE, by_file, post

ODD: list[Any] = [
    *(None, 5, -1.5, True, "", "x", [], {}, [None], [[]], {"a": 1}, [{"value": None}], 10**30),
    *("urn:", "urn:a:b", "name.", "[", "a.b.c", "members[value eq 5]", "not (a eq 1)", f"{ENTRA}:"),
    *({"": 1}, {"urn:": 1}, {ENTRA: 5}, {ENTRA: {"proxyAddresses": [5]}}, "\x00", "é", "id"),
]


def mutated(value: Any, random: Random) -> Any:
    """The value with some of its parts, at any depth, replaced by odd ones."""
    if random.random() < 0.1:
        return random.choice(ODD)
    if isinstance(value, dict):
        return {
            (name if random.random() > 0.05 else str(random.choice(ODD))): mutated(one, random)
            for name, one in value.items()
        }
    return [mutated(one, random) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_request_holds_the_file_goes_on(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    requests = [
        *(row[2] for row in TABLE),
        post(ABROAD),
        post({"schemas": [GROUP], "displayName": "S", "members": [{"value": "u1"}]}, "Groups"),
        patch("/Groups/g", {"op": "replace", "value": {"displayName": "x", "members": []}}),
    ]
    odd = [mutated(one, random) for one in requests * 3]
    found = by_file(tmp_path, *odd, post({"schemas": [USER], "userName": "last@x.example"}))
    lines = [each for each in found if isinstance(each, FeedItem)]
    assert json.loads(lines[-1].value)["user"] == "last@x.example"
    assert len(told(found)) > len(requests)
