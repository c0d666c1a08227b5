"""Attacks that once succeeded, by name. Each uses the rights of one tenant, producer or caller.

`size` is 1 for the full attack; a short run takes a fraction, but never less than what once hurt.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from streams.contract.topics import INPUT_NAMES, INTERNAL_NAMES, OUTPUT_NAMES
from tests.attack.target import ATTACKER, Target
from tests.support.raw_headers import produce_raw_header
from tests.support.system import Event

Run = Callable[[Target, float], None]


@dataclass(frozen=True)
class Attack:
    """One attack. ``still``: why it is known to succeed; empty if it must not.

    ``long``: takes many seconds, so that it comes after the others.
    """

    name: str
    door: str  # topics, internal topics, console, receiver
    says: str
    run: Run
    still: str = ""
    long: bool = False


ATTACKS: dict[str, Attack] = {}


def attack(name: str, door: str, still: str = "", *, long: bool = False) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        ATTACKS[name] = Attack(name, door, (run.__doc__ or "").splitlines()[0], run, still, long)
        return run

    return register


# ---- one tenant's rights: every event is valid


@attack("deferred", "topics", long=True)
def deferred(target: Target, size: float) -> None:
    """Changes of 0.9 MB that name undefined products, of one group and of one user."""
    make = target.events
    skus = [f"undefined-{'x' * 100}-{n}" for n in range(6500)]
    for kind in ("group", "user"):
        events = [
            (make.license if kind == "group" else make.assign)("hoarder", *skus) for _ in range(10)
        ]
        target.publish(events, max_request_size=1 << 20)


@attack("licensed-groups", "topics", long=True)
def licensed_groups(target: Target, size: float) -> None:
    """One user in a thousand licensed groups."""
    make, count = target.events, max(400, int(1000 * size))
    target.publish([make.product("a-base"), make.seats("a-base", 10), make.user("joiner")])
    target.publish([make.license(f"many{n}", "a-base") for n in range(count)])
    target.publish([make.join("joiner", f"many{n}") for n in range(count)])


@attack("all-products", "topics", long=True)
def all_products(target: Target, size: float) -> None:
    """A group with 350 products that exclude each other, and five members."""
    make, skus = target.events, [f"a-all{n}" for n in range(350)]
    plan = [{"servicePlanId": "a-same", "exclusiveSets": ["a-set"]}]
    defined = [
        make._event("catalog", sku, "product.defined", skuId=sku, servicePlans=plan) for sku in skus
    ]
    target.publish([*defined, *(make.seats(sku, 10) for sku in skus)])
    target.publish([make.license("everything", *skus)])
    users = [f"glutton{n}" for n in range(5)]
    target.publish([*(make.user(u) for u in users), *(make.join(u, "everything") for u in users)])


@attack("units-overflow", "topics", long=True)
def units_overflow(target: Target, size: float) -> None:
    """Units of a product flipped between 2^54 and 0 until their grants would pass 2^64."""
    make = target.events
    target.publish([make.product("a-flip"), make.user("flipper"), make.assign("flipper", "a-flip")])
    units = {"enabled": 2**53, "warning": 2**53}
    target.publish(
        [
            _units(target, "a-flip", units if n % 2 else {"enabled": 0, "warning": 0})
            for n in range(max(6000, int(12_000 * size)))
        ]
    )


def _units(target: Target, sku: str, units: dict[str, int]) -> Event:
    body = {"tenant": ATTACKER, "skuId": sku, "prepaidUnits": units}
    return target.events._event(
        "subscriptions", f"{ATTACKER}/{sku}", "subscription.updated", **body
    )


@attack("shared-address", "topics", long=True)
def shared_address(target: Target, size: float) -> None:
    """Users who all claim one proxy address, as an export with a shared mailbox does."""
    make, address = target.events, ["smtp:info@attacker.example"]
    count = max(3000, int(10_000 * size))
    target.publish([make.user(f"clone{n}", proxyAddresses=address) for n in range(count)])


@attack("direct-group", "topics")
def direct_group(target: Target, size: float) -> None:
    """A group called `direct`, and ids `.` and `..`, in every event that has one."""
    make = target.events
    target.publish([make.product("a-none"), make.seats("a-none", 0), make.user("odd")])
    for name in ("direct", ".", ".."):
        target.publish([make.license(name, "a-none"), make.join("odd", name), make.user(name)])
    target.publish([make.assign("odd", "a-none")])


# ---- one producer


@attack("timestamps", "topics")
def timestamps(target: Target, size: float) -> None:
    """Records with the timestamps of other ages."""
    key, value = _valid(target)
    for at in (-(10**15), -1, 0, 1, 2**62):
        target.produce([(topic, key, value) for topic in INPUT_NAMES], timestamp_ms=at)


@attack("headers", "topics")
def headers(target: Target, size: float) -> None:
    """Header names and values that are not UTF-8, or very long."""
    key, value = _valid(target)
    for name, content in (
        ("ce_type", b"\xff\xfe"),
        ("ce_id", b""),
        ("x" * 200_000, b"y"),
        ("dlq.reason", b"\xff" * 1000),
    ):
        target.produce([(topic, key, value) for topic in INPUT_NAMES], headers=[(name, content)])
    place = (target.system.bootstrap, target.system.prefix + "user-changes")
    for name_bytes in (b"\xff\xfe\xfd\xfc", b"ce_\xff"):
        asyncio.run(produce_raw_header(*place, 0, key, value, name_bytes))


@attack("packed", "topics")
def packed(target: Target, size: float) -> None:
    """A batch that unpacks to a hundred megabytes and more."""
    key, megabytes = f"{ATTACKER}/packer".encode(), int(max(64, 200 * size))
    record = ("user-changes", key, bytes(megabytes << 20))
    target.produce([record], compression_type="gzip", max_request_size=256 << 20)


@attack("bodies", "topics")
def bodies(target: Target, size: float) -> None:
    """Prefixed, cut and foreign bytes, and members of other types."""
    key, value = _valid(target)
    event = json.loads(value)
    odd: list[Any] = [["a"], {"a": 1}, 7, True, None, "x" * 100_000, "\u202e\u200b\x07"]
    values = [
        b"\0\0\0\0\1" + value,
        value[:-5],
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"1e999",
    ]
    values += [
        json.dumps({**event, member: content}).encode()
        for member in ("displayName", "id", "time", "usageLocation", "proxyAddresses", "mail")
        for content in odd
    ]
    target.produce([(topic, key, each) for topic in INPUT_NAMES for each in values])
    target.produce([("user-changes", None, value), ("user-changes", b"\xff/\xfe", value)])


def _valid(target: Target) -> tuple[bytes, bytes]:
    _, key, value = target.events.user("victim", displayName="Victim")
    return key.encode(), value


@attack("forged", "internal topics")
def forged(target: Target, size: float) -> None:
    """Internal records that no worker wrote, and output records of somebody else.

    None claims a later format: that ends a worker on purpose, as docs/security.md says.
    """
    values = [b"{}", b"[]", b"", b"null", b"\xff", b'{"type":"x"}', b'{"format":"99"}', b"{" * 5000]
    keys = (b"attacker/a-base", b"x", None, b"\xff", b"a/b/c/d/e")
    records = [(topic, key, value) for topic in INTERNAL_NAMES for key in keys for value in values]
    target.produce(records)
    outputs = [(topic, keys[0], value) for topic in OUTPUT_NAMES for value in values]
    target.produce(outputs)


# ---- one caller


CALLERS = 8
"""At a time: more would take the processor from the neighbour by their own work."""


def _many(count: int, work: Callable[[int], object]) -> None:
    def quietly(number: int) -> None:
        with contextlib.suppress(httpx2.HTTPError, OSError):
            work(number)

    with ThreadPoolExecutor(min(count, CALLERS)) as pool:
        list(pool.map(quietly, range(count)))


def _connect(target: Target, door: str) -> socket.socket:
    place = urlsplit(target.urls[door])
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=5)


@attack("bulk", "receiver")
def bulk(target: Target, size: float) -> None:
    """Bulk uploads of more than a megabyte, and filters of 35 kB."""
    operations = [
        {"method": "POST", "bulkId": f"b{n}", "path": "/Users", "data": {"userName": f"b{n}@a.x"}}
        for n in range(12_000)
    ]
    body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"]}
    text = json.dumps({**body, "Operations": operations})
    listing = " or ".join(f'userName eq "u{n}"' for n in range(1500))

    def send(number: int) -> None:
        with target.client("receiver") as client:
            if number == 0:
                client.post("/bulkUpload", content=text)
            else:
                client.get("/scim/v2/Users", params={"filter": listing})

    _many(4, send)


@attack("large-bodies", "receiver")
def large_bodies(target: Target, size: float) -> None:
    """Bodies of eight megabytes from callers without a token, plain and chunked."""
    body = bytes(8 << 20)

    def send(number: int) -> None:
        with target.client("receiver", None) as client:
            content = body if number % 2 else iter([body[: 1 << 20]] * 8)
            client.post(("/bulkUpload", "/events", "/scim/v2/Users")[number % 3], content=content)

    _many(max(12, int(40 * size)), send)


def _idle(target: Target, door: str, count: int) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(count):
            with contextlib.suppress(OSError):
                one = stack.enter_context(_connect(target, door))
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")
        time.sleep(1.5)


@attack("idle-console", "console")
def idle_console(target: Target, size: float) -> None:
    """Six hundred connections that say nothing, or begin a request."""
    _idle(target, "console", 600)


@attack("idle-receiver", "receiver")
def idle_receiver(target: Target, size: float) -> None:
    """Six hundred connections that say nothing, or begin a request."""
    _idle(target, "receiver", 600)


@attack("what-if", "console")
def what_if(target: Target, size: float) -> None:
    """What-if questions whose callers leave."""
    lines = [json.loads(value) for _, _, value in (target.events.user(f"w{n}") for n in range(200))]

    def ask(_: int) -> None:
        with target.client("console", timeout=0.3) as client:
            client.post(f"/v1/tenants/{ATTACKER}/whatif", json={"events": lines})

    _many(24, ask)


@attack("streams", "console")
def streams(target: Target, size: float) -> None:
    """Sixty streams and searches of one reader."""
    with contextlib.ExitStack() as stack:
        for number in range(60):
            with contextlib.suppress(OSError):
                one = stack.enter_context(_connect(target, "console"))
                path = "/stream" if number % 2 else f"/v1/tenants/{ATTACKER}/users?$search=a"
                head = "Authorization: Bearer attacker-token-0123456789\r\nHost: 127.0.0.1\r\n"
                one.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        time.sleep(1.5)


@attack("odd-requests", "console and receiver")
def odd_requests(target: Target, size: float) -> None:
    """Numbers beyond 64 bits, nesting, and lists where objects belong: no answer is 500."""
    deep = b"[" * 2000 + b"]" * 2000
    skip = base64.urlsafe_b64encode(b"[9223372036854775808]").decode()
    found = []
    with target.client("console") as console, target.client("receiver") as receiver:
        for token in (str(2**63), skip, "x", ""):
            path = f"/v1/tenants/{ATTACKER}/users"
            found.append(console.get(path, params={"$skiptoken": token, "$top": str(2**63)}))
        found.append(console.post(f"/v1/tenants/{ATTACKER}/whatif", content=deep))
        found.append(console.put(f"/v1/tenants/{ATTACKER}/users/u1", content=deep))
        for path in ("/events", "/bulkUpload", "/scim/v2/Users", "/graph/notifications"):
            found.append(receiver.post(path, content=deep))
            found.append(receiver.post(path, json={"value": [{"resourceData": []}], "data": [1]}))
            found.append(receiver.post(path, json=[1, {"a": [{}]}, None]))
    if wrong := [
        f"{one.request.url.path} {one.status_code}" for one in found if one.status_code >= 500
    ]:
        raise AssertionError(f"answered by 500: {', '.join(wrong)}")
