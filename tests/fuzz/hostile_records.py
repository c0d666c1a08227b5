"""Hostile records: valid ones, mutated, and bytes without any sense, from one seed."""

from __future__ import annotations

import json
import os
from random import Random
from types import SimpleNamespace
from typing import Any

from engine.state.message_codecs import MEMBERS
from streams.contract.topics import FORWARDED_EVENTS, INPUT_NAMES
from streams.kafka.forwarding import ORIGIN
from tests.support import contract_samples as samples

SEED = int(os.environ.get("SEATFLOW_FUZZ_SEED", "14"))
RECORDS = int(os.environ.get("SEATFLOW_FUZZ_RECORDS", "1500"))
TENANT = "evil"

INPUTS: dict[str, list[dict[str, Any]]] = {}
for _topic, _event in samples.EVENTS:
    _body = {**_event, "tenant": TENANT} if _topic != "catalog" else {**_event, "skuId": "EVIL"}
    INPUTS.setdefault(_topic, []).append(_body)
TIMES = (
    -1, 0, -(10**15), 10**15, 1 << 62, -(1 << 62), -62_135_596_800_000, -62_135_596_800_001,
    253_402_300_799_999, 253_402_300_800_000, 1_764_000_000_000, 1_764_000_000_000_000,
)  # fmt: skip
HEADERS = (
    "ce_id", "ce_type", "ce_time", "ce_source", "ce_specversion", "content-type", "traceparent", "",
    "\\xff\\xfe", "CE_TYPE", "ce_datacontenttype", "\x00",
)  # fmt: skip
TEXTS = (
    "", " ", ".", "..", "direct", "a" * 129, "b" * 70_000, "\x00", "\u202e", "\u200b", "é", "😀",
    "2026-13-45T99:99:99Z", "9999999999999-01-01T00:00:00Z", "0000-00-00", "NaN", "K", "u1/g1",
    "SMTP:", "smtp:a@b", "null", "\ud7ff", "-1", "<script>", "'; DROP TABLE users; --",
)  # fmt: skip
NUMBERS = (0, 1, -1, 1 << 31, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 70, -(1 << 70), 1.5, 1e308)


class Hostile:
    """A stream of hostile records; the same for the same seed."""

    def __init__(self, seed: int = SEED) -> None:
        self.random = Random(seed)

    def value(self, depth: int = 0) -> Any:
        """Returns any JSON value."""
        r = self.random
        kind = r.randrange(9 if depth < 3 else 5)
        if kind == 0:
            return r.choice((None, True, False))
        if kind in (1, 2):
            return r.choice(TEXTS)
        if kind in (3, 4):
            return r.choice(NUMBERS)
        if kind == 5:
            nested: Any = []
            for _ in range(r.choice((1, 10, 400))):
                nested = [nested]
            return nested
        if kind == 6:
            return {r.choice(TEXTS): self.value(depth + 1) for _ in range(r.randrange(4))}
        return [self.value(depth + 1) for _ in range(r.randrange(5))]

    def mutated(self, body: Any) -> Any:
        """Returns the body with a few of its members, at any depth, lost or of another value."""
        r = self.random
        if isinstance(body, dict):
            found = {}
            for name, value in body.items():
                chance = r.random()
                if name == "tenant" or value == "EVIL":
                    found[name] = value  # never that of another
                elif chance < 0.04:
                    continue
                elif chance < 0.12:
                    found[name] = self.value()
                else:
                    found[name] = self.mutated(value)
            if r.random() < 0.05:
                found[r.choice(TEXTS)] = self.value()
            return found
        if isinstance(body, list):
            return [self.mutated(each) for each in body] * r.choice((1, 1, 1, 0, 2, 50))
        return self.value() if r.random() < 0.05 else body

    def bytes_of(self, body: Any) -> bytes | None:
        """Returns the body as a record's value: mostly as JSON, sometimes broken."""
        r = self.random
        text = json.dumps(body).encode()
        match r.randrange(16):
            case 0:
                return None
            case 1:
                return r.randbytes(r.choice((0, 1, 5, 100)))
            case 2:
                return text[: r.randrange(len(text) + 1)]
            case 3:
                return bytes([0]) + r.randbytes(4) + text
            case 4:
                at = r.randrange(len(text))
                return text[:at] + r.randbytes(1) + text[at + 1 :]
            case _:
                return text

    def record(self, topic: str, key: str, body: Any, offset: int) -> Any:
        """Returns a record with a hostile key, value, headers and timestamp."""
        r = self.random
        keys = (key.encode(), key.encode(), key.encode(), None, b"", b"\xff\xfe", b"evil/x")
        headers = [
            (r.choice(HEADERS), r.choice((None, b"", b"\xff", b"1.0", b"user.deleted", b"x" * 300)))
            for _ in range(r.choice((0, 0, 0, 1, 3, 40)))
        ]
        timestamp = r.choice((1_764_000_000_000, r.choice(TIMES)))
        return SimpleNamespace(
            topic=topic,
            partition=0,
            offset=offset,
            key=r.choice(keys),
            value=self.bytes_of(self.mutated(body)),
            headers=headers,
            timestamp=timestamp,
            timestamp_type=0,
        )

    def input(self, topic: str, offset: int) -> Any:
        """Returns a hostile record of an input topic."""
        body = dict(self.random.choice(INPUTS[topic]))
        if self.random.random() < 0.7:
            body["id"] = f"e{self.random.randrange(1 << 40)}"
        for name, others in (("user", "u"), ("group", "g")):
            if name in body:
                body[name] = f"{others}{self.random.randrange(6)}"
        return self.record(topic, _key(body), body, offset)

    def message(self, topic: str, offset: int) -> Any:
        """Returns a hostile message of an internal topic, mostly of members of the right type."""
        r = self.random
        if topic == FORWARDED_EVENTS:
            return self._forwarded(offset)
        body: dict[str, Any] = {name: r.randrange(5) for name in MEMBERS[topic]}
        texts = ("skuId", "group", "address", "user", "owner", "causedBy", "kind")
        body |= {name: r.choice(("E3", "g1", "group", "")) for name in texts if name in body}
        body |= {
            name: r.random() < 0.5 for name in ("scarce", "low", "off", "derived") if name in body
        }
        body |= {
            name: v for name, v in (("heads", []), ("errors", {}), ("row", [])) if name in body
        }
        if r.random() < 0.5:
            body |= {"partition": 0} if "partition" in body else {}
        return self.record(topic, f"{TENANT}/x", body | {"tenant": TENANT}, offset)

    def _forwarded(self, offset: int) -> Any:
        """Returns a hostile record of an input, as if a worker had forwarded it."""
        r = self.random
        topic = r.choice(INPUT_NAMES)
        made = self.input(topic, offset)
        origin: list[Any] = [
            r.choice((1, 1, 1, 0, "1")),
            topic,
            r.choice((0, 3, -1)),
            offset,
            1_764_000_000_000,
        ]
        if r.random() < 0.2:
            origin[r.randrange(5)] = r.choice((None, "", -1, 1 << 70, []))
        headers = [*(made.headers or ()), (ORIGIN, json.dumps(origin).encode())]
        made.headers = headers[: r.choice((1, 9, 9))]
        return made


def _key(body: dict[str, Any]) -> str:
    named = body.get("user") or body.get("group") or body.get("skuId")
    if body["type"] == "product.defined":
        return str(body["skuId"])
    return TENANT if body["type"] == "tenant.updated" else f"{TENANT}/{named}"
