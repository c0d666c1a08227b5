"""Attacks made from a grammar: valid inputs of each door, bent at random places. Seeded.

`Grammar.records` makes records for input and internal topics, `Grammar.request` requests for the
console or the receiver, `Grammar.file` a file for `seatflow feed`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from streams.contract.topics import INPUT_NAMES, INTERNAL_NAMES
from tests.lab.tenants import Maker, Tenants, WildTenant

ATTACKER = "attacker"
Json = Any
LONG = 200_000
SCALARS: Sequence[Any] = (
    None, True, False, 0, -1, 2**53, 2**63, 2**64, -(2**63) - 1, 1e308, 0.1, "", ".", "..",
    "direct", "/", "a/b", "%2e%2e", "\0", "\x1b[2J", "\u202e\u200b", "\u212a", "=1+1",
    "\ud800", "x" * 129, "2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z", "SMTP:", "smtp:a@",
    "smtp:" + "a" * 1000 + "@x",
)  # fmt: skip
FORMATS = ("jsonl", "csv", "graph", "scim", "catalog")


class Sent(NamedTuple):
    """A record with the options of its producer."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None


class Asked(NamedTuple):
    """A request to the console or the receiver."""

    door: str
    method: str
    path: str
    headers: dict[str, str]
    content: bytes


class Grammar:
    """Draws attacks. ``learned``: internal records of the running system, to be bent."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        tenants = Tenants(self.dice)
        self._wild = WildTenant(Maker(), self.dice, ATTACKER)
        self.setup = [*WildTenant.catalogue(tenants.make), *self._wild.setup()]
        self.learned: list[Sent] = []

    # ---- values

    def value(self, depth: int = 0) -> Json:
        """Draws any JSON value."""
        dice = self.dice
        if depth > 3 or dice.random() < 0.7:
            return dice.choice(SCALARS)
        size = dice.choice((0, 1, 2, 5))
        if dice.random() < 0.5:
            return [self.value(depth + 1) for _ in range(size)]
        return {str(dice.choice(SCALARS)): self.value(depth + 1) for _ in range(size)}

    def bent(self, value: Json) -> Json:
        """Returns the value with one change: a member replaced, removed, repeated or added."""
        dice = self.dice
        if isinstance(value, dict) and value:
            name = dice.choice(sorted(value))
            match dice.randrange(5):
                case 0:
                    return {**value, name: self.value()}
                case 1:
                    return {other: each for other, each in value.items() if other != name}
                case 2:
                    return {**value, str(dice.choice(SCALARS)): self.value()}
                case _:
                    return {**value, name: self.bent(value[name])}
        if isinstance(value, list) and value:
            place = dice.randrange(len(value))
            if dice.random() < 0.1:
                return value * dice.choice((2, 100, 2000))
            return [*value[:place], self.bent(value[place]), *value[place + 1 :]]
        if isinstance(value, str) and dice.random() < 0.05:
            return value * (1 + LONG // (len(value) + 1))
        return self.value()

    def encoded(self, value: Json) -> bytes:
        """Returns JSON, sometimes cut, prefixed, nested or followed by something."""
        raw, dice = json.dumps(value).encode(), self.dice
        if dice.random() < 0.8:
            return raw
        place = dice.randrange(len(raw) + 1)
        return dice.choice(
            (
                raw[:place],
                b"\0\0\0\0\1" + raw,
                raw + raw,
                raw[:place] + bytes([dice.randrange(256)]) + raw[place:],
                b"[" * 3000 + raw + b"]" * 3000,
                b"\xef\xbb\xbf" + raw,
            )
        )

    # ---- topics

    def records(self, count: int) -> list[Sent]:
        """Draws records for the input and the internal topics."""
        draw: list[Callable[[], Sent]] = [self._input, self._input, self._input, self._internal]
        return [self.dice.choice(draw)() for _ in range(count)]

    def _input(self) -> Sent:
        dice = self.dice
        topic, key, value = self._wild.next()
        assert value is not None
        if dice.random() < 0.4:
            return Sent(topic, key.encode() if key else None, value)
        event = json.loads(value)
        for _ in range(dice.choice((1, 1, 2, 4))):
            event = self.bent(event)
        raw_key = dice.choice((key.encode() if key else None, b"\xff", b"", b"a/b/c/d"))
        if raw_key is None and topic not in ("user-changes", "group-changes"):
            raw_key = b"x"
        headers = dice.choice(((), (), (("ce_type", b"\xff"),), (("x" * 5000, b""),)))
        at = dice.choice((None, None, None, 0, 1, 2**62))
        topic = dice.choice((topic, topic, topic, dice.choice(INPUT_NAMES)))
        return Sent(topic, raw_key, self.encoded(event), headers, at)

    def _internal(self) -> Sent:
        dice = self.dice
        if not self.learned:
            topic, value = dice.choice(INTERNAL_NAMES), self.value()
            return Sent(topic, b"attacker/w-suite", self.encoded(value))
        known = dice.choice(self.learned)
        try:
            value = json.loads(known.value or b"null")
        except ValueError:
            value = self.value()
        topic = dice.choice((known.topic, known.topic, dice.choice(INTERNAL_NAMES)))
        key = dice.choice((known.key, known.key, b"\xff", b"attacker", b"attacker/x"))
        bent = self.bent(value)
        if isinstance(bent, dict) and isinstance(value, dict):
            # A later format ends a worker on purpose, as docs/security.md says.
            bent.pop("format", None)
            bent |= {"format": value["format"]} if "format" in value else {}
        return Sent(topic, key, self.encoded(bent))

    # ---- HTTP

    def request(self) -> Asked:
        """Draws a request with the attacker's path, bent."""
        dice = self.dice
        door = dice.choice(("console", "receiver"))
        method, path, body = dice.choice(REQUESTS[door])
        parts = {name: str(dice.choice((name, "u1", "g1", dice.choice(SCALARS)))) for name in IDS}
        path = path.format(**{name: _quoted(part) for name, part in parts.items()})
        if dice.random() < 0.3:
            path += f"?{dice.choice(QUERIES)}={_quoted(str(dice.choice(SCALARS)))}"
        if body is not None:
            for _ in range(dice.choice((0, 1, 2))):
                body = self.bent(body)
        content = b"" if body is None else self.encoded(body)
        media = dice.choice(("application/json", "application/scim+json", "text/csv", ""))
        return Asked(door, method, path, {"Content-Type": media} if media else {}, content)

    # ---- files

    def file(self) -> tuple[str, bytes]:
        """Draws a format and a file of it, bent."""
        dice, format = self.dice, self.dice.choice(FORMATS)
        if format in ("csv", "catalog"):
            head = CSV if (format == "csv") != (dice.random() < 0.1) else CATALOG
            cells = [[str(dice.choice(SCALARS)) for _ in head] for _ in range(20)]
            lines = [head, *cells]
            text = "\n".join(",".join(line) for line in lines)
            return format, text.encode(errors="surrogatepass")
        if format == "jsonl":
            events = [
                self.encoded(self.bent(json.loads(self._wild.next()[2] or b""))) for _ in range(50)
            ]
            return format, b"\n".join(events)
        page = GRAPH if format == "graph" else SCIM
        return format, self.encoded(self.bent(self.bent(page)))


def _quoted(text: str) -> str:
    return "".join(
        c if c.isascii() and (c.isalnum() or c in ".-_:@") else f"%{ord(c) % 256:02x}"
        for c in text[:2000]
    )


IDS = ("tenant", "user", "group", "sku")
QUERIES = ("$top", "$skip", "$skiptoken", "$filter", "$search", "$orderby", "filter", "count", "x")
_LICENCES = {"addLicenses": [{"skuId": "w-suite", "disabledPlans": []}], "removeLicenses": []}
_USER = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "u1@attacker.example",
    "externalId": "u1",
    "active": True,
    "emails": [{"value": "u1@attacker.example", "primary": True}],
}
_PATCH = {
    "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
    "Operations": [{"op": "Add", "path": "members", "value": [{"value": "u1"}]}],
}
SCIM = {
    "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
    "Operations": [{"method": "POST", "bulkId": "b1", "path": "/Users", "data": _USER}],
}
GRAPH = {
    "@odata.context": "https://graph.microsoft.com/v1.0/$metadata#users/$delta",
    "value": [
        {"id": "u1", "displayName": "U", "usageLocation": "US", "proxyAddresses": ["SMTP:u1@x"]},
        {"id": "g1", "displayName": "G", "members@delta": [{"id": "u1"}]},
    ],
}
_NOTICE = {"value": [{"clientState": "x", "resourceData": {"id": "u1"}, "changeType": "deleted"}]}
_EVENT = {"type": "user.upserted", "id": "e1", "time": "2026-11-24T08:00:00Z", "tenant": ATTACKER}
_PREPAID = {"prepaidUnits": {"enabled": 5}}
CSV = ["userPrincipalName", "displayName", "usageLocation", "mail", "licenses"]
CATALOG = [
    "Product_Display_Name", "String_Id", "GUID", "Service_Plan_Name", "Service_Plan_Id",
    "Service_Plans_Included_Friendly_Names",
]  # fmt: skip
_TENANT = "/v1/tenants/attacker"
_GRAPH = "/attacker/v1.0"
_READ_BY_GRAPH = ("users", "users/{user}", "groups/{group}/members", "users/delta")
Requests = tuple[tuple[str, str, Json], ...]
REQUESTS: dict[str, Requests] = {
    "console": (
        *(("GET", f"{_TENANT}/{kind}", None) for kind in ("users", "groups", "errors", "audit")),
        ("GET", "/v1/tenants/{tenant}/users/{user}", None),
        ("GET", f"{_TENANT}/groups/{{group}}/members", None),
        ("POST", f"{_TENANT}/users/{{user}}/assignLicense", _LICENCES),
        ("POST", f"{_TENANT}/groups/{{group}}/assignLicense", _LICENCES),
        ("PUT", f"{_TENANT}/subscriptions/{{sku}}", _PREPAID),
        ("PUT", f"{_TENANT}/users/{{user}}", {"displayName": "U", "usageLocation": "US"}),
        ("PUT", f"{_TENANT}/groups/{{group}}/members/{{user}}", None),
        ("POST", f"{_TENANT}/whatif", {"events": [{**_EVENT, "user": "u1"}]}),
        *(("GET", f"{_GRAPH}/{path}", None) for path in _READ_BY_GRAPH),
        ("POST", f"{_GRAPH}/users/{{user}}/assignLicense", _LICENCES),
        ("PATCH", f"{_GRAPH}/users/{{user}}", {"displayName": "U", "usageLocation": "US"}),
        ("POST", f"{_GRAPH}/groups/{{group}}/members/$ref", {"@odata.id": "directoryObjects/u1"}),
        ("POST", f"{_GRAPH}/$batch", {"requests": [{"id": "1", "method": "GET", "url": "/users"}]}),
    ),
    "receiver": (
        ("GET", "/scim/v2/Users", None),
        ("POST", "/scim/v2/Users", _USER),
        ("PUT", "/scim/v2/Users/{user}", _USER),
        ("PATCH", "/scim/v2/Groups/{group}", _PATCH),
        ("DELETE", "/scim/v2/Users/{user}", None),
        ("POST", "/bulkUpload", SCIM),
        ("POST", "/events", {**_EVENT, "user": "u1"}),
        ("POST", "/graph/notifications", _NOTICE),
    ),
}
