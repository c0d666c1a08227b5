"""Small histories for the tests of the checkers: played by the oracle, random or by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tests.checkers import Record
from tests.spec.contract import KEYS, UnreadableError, read
from tests.spec.world import World

Json = dict[str, Any]
TENANT = "t"


class Builder:
    """Publishes events, has the oracle answer each one immediately, and records both."""

    def __init__(self) -> None:
        self.world = World()
        self.records: list[Record] = []
        self.copied = 0

    def append(
        self,
        topic: str,
        key: str | None,
        value: bytes | Json | None,
        headers: dict[str, str] | None = None,
    ) -> Record:
        offset = sum(1 for r in self.records if r.topic == topic)
        record = Record(topic, 0, offset, key, value, headers or {})
        self.records.append(record)
        return record

    def publish(self, topic: str, key: str | None, value: bytes) -> None:
        record = self.append(topic, key, value)
        try:
            event = read(topic, key, value, {})
        except UnreadableError as error:
            origin = {"dlq.topic": f"licensing.{topic}", "dlq.partition": "0"}
            headers = origin | {"dlq.offset": str(record.offset), "dlq.reason": str(error)}
            self.append("dead-letters", key, value, headers)
            return
        self.world.apply(topic, event, (len(self.records), 0))
        for out in self.world.log[self.copied :]:
            self.append(*out)
        self.copied = len(self.world.log)

    def event(self, topic: str, type_: str, **members: object) -> None:
        members.setdefault("tenant", TENANT)
        event = {"type": type_, "id": f"e{len(self.records)}", "time": "", **members}
        key = "/".join(str(event[part]) for part in KEYS[topic])
        self.publish(topic, key, json.dumps(event).encode())

    def again(self, record: Record) -> None:
        assert isinstance(record.value, bytes)
        self.publish(record.topic, record.key, record.value)

    # ---- the events

    def tenant(self, location: str | None = "US", retry: str = "automatic", **more: str) -> None:
        policies = {"seatRetry": retry, **more}
        facts = {"usageLocation": location, "initialDomain": "t.on"}
        self.event("tenants", "tenant.updated", **facts, policies=policies)

    def product(self, sku: str, *plans: Json) -> None:
        self.event("catalog", "product.defined", skuId=sku, servicePlans=list(plans))

    def seats(self, sku: str, enabled: int) -> None:
        units = {"enabled": enabled}
        self.event("subscriptions", "subscription.updated", skuId=sku, prepaidUnits=units)

    def group(self, type_: str, group: str, **more: object) -> None:
        self.event("group-changes", type_, group=group, **more)

    def license(self, group: str, *skus: str, off: Iterable[str] = (), removed: Any = ()) -> None:
        self.group("licenses.changed", group, **licenses(skus, off, removed))

    def user(self, user: str, **members: object) -> None:
        self.event("user-changes", "user.upserted", user=user, **members)

    def join(self, user: str, group: str) -> None:
        self.event("user-changes", "membership.added", user=user, group=group)

    def leave(self, user: str, group: str) -> None:
        self.event("user-changes", "membership.removed", user=user, group=group)

    def assign(self, user: str, *skus: str, off: Iterable[str] = (), removed: Any = ()) -> None:
        change = licenses(skus, off, removed)
        self.event("user-changes", "licenses.changed", user=user, **change)

    def simply(self, type_: str, user: str, **members: object) -> None:
        self.event("user-changes", type_, user=user, **members)


def licenses(skus: Iterable[str], off: Iterable[str], removed: Iterable[str]) -> Json:
    return {"addLicenses": listed(skus, off), "removeLicenses": list(removed)}


def listed(skus: Iterable[str], off: Iterable[str]) -> list[Json]:
    return [{"skuId": sku, "disabledPlans": list(off)} for sku in skus]


def plan(name: str, **members: object) -> Json:
    return {"servicePlanId": name, "servicePlanName": name, **members}


def catalogue(b: Builder) -> None:
    mail = plan("mail", exclusiveSets=["exchange"], mailEnabled=True)
    b.product("suite", mail, plan("call"), plan("billing", appliesTo="Company"))
    b.product("rival", plan("mail2", exclusiveSets=["exchange"], mailEnabled=True))
    b.product("addon", plan("audio", requires=[["call"]], prohibitedLocations=["CN"]))
    b.product("extra", plan("more"))


def example() -> list[Record]:
    """Returns a history with one case of each kind: admitted, blocked, in conflict, deferred …"""
    b = Builder()
    b.tenant()
    catalogue(b)
    for sku, units in (("suite", 2), ("extra", 1), ("rival", 5), ("addon", 5)):
        b.seats(sku, units)
    b.license("g", "suite", "extra")
    b.license("h", "rival")
    for user in ("a", "b", "c", "d"):
        b.user(user, usageLocation="US")
    b.join("a", "g")  # suite and extra
    b.join("b", "g")  # extra: no seat, suite: other
    b.join("c", "h")  # rival
    b.join("c", "g")  # suite: conflict, extra: other
    b.license("s", "suite")
    b.join("d", "s")
    b.user("e", usageLocation="US", userPrincipalName="same@x")
    b.join("e", "h")  # rival, with two addresses
    b.user("f", usageLocation="US", proxyAddresses=["smtp:SAME@x"])
    b.join("f", "h")  # rival: the address is another user's
    b.assign("d", "addon")
    b.leave("d", "s")  # suite is kept: the add-on needs it
    b.assign("c", "suite")  # rejected
    b.assign("c", "ghost")  # deferred
    b.license("g", "ghost")  # deferred
    b.simply("user.reprocess", "a")
    b.group("group.reprocess", "g")
    b.publish("user-changes", "t/a", b"not json")
    b.publish(
        "group-changes", "t/wrong", b'{"type":"group.deleted","id":"x","tenant":"t","group":"g"}'
    )
    return b.records


# ---- random histories


def random_history(seed: int, steps: int = 60) -> Builder:
    dice = random.Random(seed)
    b = Builder()
    b.tenant(dice.choice(["US", None]), dice.choice(["automatic", "automatic", "manual"]))
    catalogue(b)
    for sku in ("suite", "rival", "addon", "extra"):
        b.seats(sku, dice.randint(0, 4))
    b.license("g", "suite")
    for user in "abc":
        b.user(user, usageLocation="US")
    for _ in range(steps):
        random_step(b, dice)
    return b


def random_step(b: Builder, dice: random.Random) -> None:
    user = dice.choice("aabbccde")
    group = dice.choice("ggghhij")
    skus = ["suite", "rival", "addon", "extra", "late"]
    some = dice.sample(skus, dice.choice([1, 1, 2]))
    off = dice.choice([[], [], ["mail"], ["call"], ["mail2"]])
    address = dice.choice([[], ["SMTP:one@x"], ["smtp:ONE@x", "SMTP:two@x"]])
    actions: list[tuple[int, Callable[[], None]]] = [
        (6, lambda: b.user(user, usageLocation=dice.choice(["US", "US", "CN", None]))),
        (3, lambda: b.user(user, proxyAddresses=address)),
        (4, lambda: b.user(user, userPrincipalName=dice.choice(["one@x", "Two@x", f"{user}@x"]))),
        (2, lambda: b.user(user, mail=dice.choice(["One@x", None, f"{user}@t.on"]))),
        (2, lambda: b.user(user, mailNickname=dice.choice(["nick", "nick", None, user]))),
        (4, lambda: random_snapshot(b, dice, user)),
        (14, lambda: b.join(user, group)),
        (7, lambda: b.leave(user, group)),
        (8, lambda: b.license(group, *some, off=off)),
        (2, lambda: b.license(group, removed=some)),
        (5, lambda: b.assign(user, some[0], off=off)),
        (5, lambda: b.assign(user, "addon")),
        (4, lambda: b.assign(user, removed=some[:1])),
        (3, lambda: b.assign(user, *some[1:], removed=some[:1])),
        (3, lambda: b.seats(some[0], dice.randint(0, 5))),
        (1, lambda: b.simply("user.deleted", user)),
        (2, lambda: b.simply("user.deleted", user, restorable=True)),
        (3, lambda: b.simply("licenses.set", user, licenses=listed(some, off))),
        (2, lambda: b.group("licenses.set", group, licenses=listed(some, off))),
        (2, lambda: b.simply("user.reprocess", user)),
        (2, lambda: b.group("group.reprocess", group)),
        (1, lambda: b.group("group.deleted", group)),
        (1, lambda: b.group("group.upserted", group)),
        (1, lambda: b.tenant(dice.choice(["US", "CN", None]), onGroupDeletion="error")),
        (1, lambda: b.product("late", plan("new", requires=[["call", "more"]]))),
        (1, lambda: b.product("extra", plan("more"), plan("mail3", exclusiveSets=["exchange"]))),
        (1, lambda: b.product("extra", plan("more"))),
        (3, lambda: b.again(dice.choice([r for r in b.records if r.topic in KEYS]))),
        (1, lambda: b.publish("user-changes", f"t/{user}", b'{"type":"user.upserted"}')),
    ]
    dice.choices([a for _, a in actions], [weight for weight, _ in actions])[0]()


def random_snapshot(b: Builder, dice: random.Random, user: str) -> None:
    """R25: any licences, through any groups."""
    groups = dice.sample("ghij", dice.randint(0, 2))
    skus = ["suite", "rival", "addon", "extra"]
    paths = {(dice.choice(skus), dice.choice([None, *groups, "g"])) for _ in range(3)}
    b.simply(
        "user.snapshot",
        user,
        usageLocation=dice.choice(["US", "CN", None]),
        userPrincipalName=dice.choice(["one@x", f"{user}@x", None]),
        mailNickname=dice.choice(["nick", None]),
        memberships=[{"group": group} for group in groups],
        licenseAssignmentStates=[
            {"skuId": sku, "assignedByGroup": group, "disabledPlans": [], "state": "Active"}
            for sku, group in sorted(paths, key=str)
        ],
    )


# ---- tampering


def latest(records: list[Record], topic: str, key: str) -> Record:
    return [r for r in records if (r.topic, r.key) == (topic, key)][-1]


def tampered(
    records: list[Record], topic: str, key: str, change: Callable[[Json], object]
) -> list[Record]:
    """Returns the history with the last record of a key changed in place."""
    record = latest(records, topic, key)
    document = json.loads(record.raw or b"null")
    change(document)
    new = replace(record, value=document)
    return [new if r is record else r for r in records]


def without(records: list[Record], topic: str, key: str | None = None) -> list[Record]:
    """Returns the history without the records of a topic, or of one of its keys."""
    return [r for r in records if r.topic != topic or key not in (None, r.key)]
