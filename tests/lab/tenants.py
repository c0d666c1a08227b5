"""The load: random tenants generated from a seed, one input record after the other.

The *calm* tenant has enough seats, and nothing in it depends on the order of two events of
different keys. Its end state is therefore determined: a fault-free replay of the same input must
agree with it. The *wild* tenants have too few seats and every kind of conflict; they are judged by
the checkers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

from tests.spec.contract import KEYS

Event = tuple[str, str | None, bytes | None]
"""Topic without prefix, key, value."""
Json = dict[str, Any]

CALM = "calm"
WILD = ("wild", "wilder")
ENOUGH = 100_000
HOT = "w-hot"
DOMAIN = "x"
"""The initial domain, where routing addresses and given addresses meet."""
CALM_USERS, WILD_USERS, GROUPS = 80, 150, 6
TIME = "2026-11-24T08:00:00Z"
AT = ("US", "US", "US", "CN", None)
KINDS = ("join", "leave", "assign", "drop", "gone", "bin", "snapshot", "upsert", "again")
WEIGHTS = (9, 6, 3, 2, 1, 2, 2, 4, 1)
LONG_AGO = ("2024-01-01T00:00:00Z", "2024-06-01T00:00:00Z", "2025-01-01T00:00:00Z", None)
STATES = ("Active", "Active", "Active", "ActiveWithError", "Error")


class Maker:
    """Makes input records, with ids in order."""

    def __init__(self) -> None:
        self.count = 0

    def event(self, topic: str, type: str, **body: Any) -> Event:
        self.count += 1
        value = {"type": type, "id": f"e{self.count}", "time": TIME, **body}
        key = "/".join(str(value[part]) for part in KEYS[topic])
        return topic, key, json.dumps(value).encode()

    def product(self, sku: str, *plans: Json) -> Event:
        body = {"skuId": sku, "skuPartNumber": sku.upper(), "servicePlans": list(plans)}
        return self.event("catalog", "product.defined", **body)

    def seats(self, tenant: str, sku: str, enabled: int, warning: int = 0) -> Event:
        units = {"enabled": enabled, "warning": warning}
        body = {"tenant": tenant, "skuId": sku, "prepaidUnits": units}
        return self.event("subscriptions", "subscription.updated", **body)

    def settings(self, tenant: str, location: str | None, domain: str, **policies: str) -> Event:
        body = {"tenant": tenant, "usageLocation": location, "policies": policies}
        return self.event("tenants", "tenant.updated", **body, initialDomain=domain)

    def group(self, type: str, tenant: str, group: str, **body: Any) -> Event:
        return self.event("group-changes", type, tenant=tenant, group=group, **body)

    def user(self, type: str, tenant: str, user: str, **body: Any) -> Event:
        return self.event("user-changes", type, tenant=tenant, user=user, **body)

    def recycle(self, tenant: str, user: str) -> Event:
        """Puts a user into the recycle bin (R22)."""
        return self.user("user.deleted", tenant, user, restorable=True)

    def snapshot(
        self, dice: Random, tenant: str, user: str, groups: Iterable[str], skus: Iterable[str],
        **facts: Any,
    ) -> Event:  # fmt: skip
        """Takes a user over (R25) with some of the groups and some licences, whatever the rules."""
        mine = dice.sample([*groups], dice.choice((0, 1, 1, 2)))
        paths = [None, *mine, *mine, dice.choice([*groups])]
        held = {
            (sku, dice.choice(paths)): None for sku in dice.sample([*skus], dice.choice((0, 1, 2)))
        }
        return self.user(
            "user.snapshot",
            tenant,
            user,
            **facts,
            memberships=[{"group": group, "since": dice.choice(LONG_AGO)} for group in mine],
            licenseAssignmentStates=[
                {
                    "skuId": sku,
                    "assignedByGroup": group,
                    "disabledPlans": [],
                    "state": dice.choice(STATES),
                    "since": dice.choice(LONG_AGO),
                }
                for sku, group in held
            ],
        )


def plan(name: str, **members: object) -> Json:
    return {"servicePlanId": name, "servicePlanName": name, **members}


def added(skus: Iterable[str], off: Iterable[str] = ()) -> list[Json]:
    return [{"skuId": sku, "disabledPlans": list(off)} for sku in skus]


class CalmTenant:
    """Its groups never change under load, there are seats enough, and no user is in another's way.

    What becomes of a user then follows from the order of that user's events alone, whatever the
    batches: conflicts, dependencies and direct licences included. Only nobody moves to where a
    product is prohibited, and nobody's principal name changes: by R23 that meets one who waits for
    its seat, or has it already.
    """

    groups = {  # noqa: RUF012
        "one": ("c-base",),
        "two": ("c-base", "c-addon"),
        "three": ("c-plus",),
        "left": ("c-left",),
        "right": ("c-right",),
    }

    def __init__(self, make: Maker, dice: Random) -> None:
        self.make, self.dice = make, dice

    def setup(self) -> Iterator[Event]:
        make = self.make
        yield make.settings(CALM, "US", "calm.on.example")
        company, mail = plan("c-company", appliesTo="Company"), plan("c-mail", mailEnabled=True)
        yield make.product("c-base", plan("c-b"), company, mail)
        yield make.product("c-addon", plan("c-a", requires=[["c-b"]]))
        yield make.product("c-plus", plan("c-p", prohibitedLocations=["CN"]), plan("c-q"))
        yield make.product("c-left", plan("c-l", exclusiveSets=["side"]))
        yield make.product("c-right", plan("c-r", exclusiveSets=["side"]))
        yield make.product("c-direct", plan("c-d"))
        for sku in ("c-base", "c-addon", "c-plus", "c-left", "c-right", "c-direct"):
            yield make.seats(CALM, sku, ENOUGH)
        for group, skus in self.groups.items():
            yield make.group("licenses.changed", CALM, group, addLicenses=added(skus))
        for n in range(CALM_USERS):
            yield make.user("user.upserted", CALM, f"u{n}", **self._facts(n))

    def next(self) -> Event:
        make, dice = self.make, self.dice
        n, group = dice.randrange(CALM_USERS), dice.choice(tuple(self.groups))
        user = f"u{n}"
        sku = dice.choice(("c-direct", "c-addon", "c-left"))
        match dice.choices(KINDS, WEIGHTS)[0]:
            case "join":
                return make.user("membership.added", CALM, user, group=group)
            case "leave":
                return make.user("membership.removed", CALM, user, group=group)
            case "assign":
                return make.user("licenses.changed", CALM, user, addLicenses=added([sku]))
            case "drop":
                return make.user("licenses.changed", CALM, user, removeLicenses=[sku])
            case "gone":
                return make.user("user.deleted", CALM, user)
            case "bin":
                return make.recycle(CALM, user)
            case "snapshot":
                skus = ("c-base", "c-plus", "c-left", "c-direct")
                return make.snapshot(dice, CALM, user, self.groups, skus, **self._facts(n))
            case "again":
                return make.user("user.reprocess", CALM, user)
        return make.user("user.upserted", CALM, user, **self._facts(n))

    def _facts(self, n: int) -> Json:
        name = f"u{n}@calm.example"
        return {"usageLocation": self._location(n), "userPrincipalName": name}

    def _location(self, n: int) -> str | None:
        return "CN" if n % 4 == 0 else self.dice.choice(("US", "US", None))


class WildTenant:
    """Too few seats, conflicts, dependencies, shared addresses, deletions, changing everything."""

    skus = ("w-suite", "w-rival", "w-addon", "w-extra", "w-late")
    off = ((), (), (), ("w-mail",), ("w-call",), ("w-mail2",))

    def __init__(self, make: Maker, dice: Random, name: str) -> None:
        self.make, self.dice, self.name = make, dice, name
        self.retry = "automatic" if name == WILD[0] else dice.choice(("automatic", "manual"))

    @staticmethod
    def catalogue(make: Maker) -> Iterator[Event]:
        mail = plan("w-mail", exclusiveSets=["exchange"], mailEnabled=True)
        billing = plan("w-billing", appliesTo="Company")
        yield make.product("w-suite", mail, plan("w-call"), billing)
        rival = plan("w-mail2", exclusiveSets=["exchange"], mailEnabled=True)
        yield make.product("w-rival", rival)
        audio = plan("w-audio", requires=[["w-call"]], prohibitedLocations=["CN"])
        yield make.product("w-addon", audio)
        yield make.product("w-extra", plan("w-more"))
        yield make.product(HOT, plan("w-heat"))

    def setup(self) -> Iterator[Event]:
        make, dice = self.make, self.dice
        yield make.settings(self.name, "US", DOMAIN, seatRetry=self.retry)
        for sku in self.skus:
            yield make.seats(self.name, sku, dice.randint(5, WILD_USERS // 3))
        yield make.seats(self.name, HOT, WILD_USERS // 4)
        for group in range(GROUPS):
            some = dice.sample(self.skus[:4], dice.choice((1, 1, 2)))
            yield self._license(f"g{group}", added(some))
        yield self._license("hot", added([HOT]))
        for n in range(WILD_USERS):
            facts = {"usageLocation": "US", "userPrincipalName": self._principal_name(f"u{n}")}
            yield make.user("user.upserted", self.name, f"u{n}", **facts)

    def _license(self, group: str, add: list[Json], remove: Iterable[str] = ()) -> Event:
        change = {"addLicenses": add, "removeLicenses": list(remove)}
        return self.make.group("licenses.changed", self.name, group, **change)

    def next(self) -> Event:
        make, dice, name = self.make, self.dice, self.name
        user = f"u{dice.randrange(WILD_USERS)}"
        group = f"g{dice.randrange(GROUPS)}"
        some = dice.sample(self.skus, dice.choice((1, 1, 2)))
        off = dice.choice(self.off)
        kinds: list[tuple[int, Callable[[], Event]]] = [
            (30, lambda: make.user("membership.added", name, user, group=group)),
            (16, lambda: make.user("membership.removed", name, user, group=group)),
            (4, lambda: make.user("user.upserted", name, user, usageLocation=dice.choice(AT))),
            (4, lambda: make.user("user.upserted", name, user, proxyAddresses=self._addresses())),
            (5, lambda: make.user("licenses.changed", name, user, addLicenses=added(some, off))),
            (4, lambda: make.user("licenses.changed", name, user, removeLicenses=some)),
            (3, lambda: self._swap(user, some)),
            (2, lambda: make.user("licenses.set", name, user, licenses=added(some, off))),
            (2, lambda: make.user("user.deleted", name, user)),
            (4, lambda: make.recycle(name, user)),
            (4, lambda: make.user("user.upserted", name, user, **self._mail(user))),
            (4, lambda: self._snapshot(user)),
            (2, lambda: make.user("user.reprocess", name, user)),
            (3, lambda: self._license(group, added(some, off))),
            (1, lambda: self._license(group, [], some)),
            (1, lambda: make.group("licenses.set", name, group, licenses=added(some, off))),
            (1, lambda: make.group("group.reprocess", name, group)),
            (1, lambda: make.group(dice.choice(LIFE), name, group)),
            (3, lambda: make.seats(name, some[0], dice.randint(0, WILD_USERS // 3))),
            (1, lambda: self._anything()),
        ]
        return dice.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]()

    def _swap(self, user: str, some: list[str]) -> Event:
        change = {"addLicenses": added(some[1:]), "removeLicenses": some[:1]}
        return self.make.user("licenses.changed", self.name, user, **change)

    def _snapshot(self, user: str) -> Event:
        groups = [*(f"g{n}" for n in range(GROUPS)), "hot"]
        facts = {"usageLocation": self.dice.choice(AT), **self._mail(user)}
        return self.make.snapshot(self.dice, self.name, user, groups, (*self.skus, HOT), **facts)

    def _mail(self, user: str) -> Json:
        """Some mail attributes, which many users share in one form or another (R18)."""
        dice, shared = self.dice, f"a{self.dice.randrange(20)}"
        facts: Json = {"userPrincipalName": self._principal_name(user)}
        if dice.random() < 0.2:
            facts["mail"] = dice.choice((None, f"{shared}@{DOMAIN}", f"{user}@mail"))
        if dice.random() < 0.3:
            facts["mailNickname"] = dice.choice((None, shared, user))
        return facts

    def _principal_name(self, user: str) -> str:
        """One of the user's own, or one that others have, as a name or as an address."""
        shared = f"a{self.dice.randrange(20)}@{DOMAIN}"
        return self.dice.choice((f"{user}@{DOMAIN}", f"{user}@{DOMAIN}", shared, shared.upper()))

    def _addresses(self) -> list[str]:
        shared = self.dice.randrange(20)
        return self.dice.choice(([], [f"SMTP:a{shared}@x"], [f"smtp:A{shared}@x", "SMTP:b@x"]))

    def _anything(self) -> Event:
        make, dice = self.make, self.dice
        extra = [plan("w-more")]
        if dice.random() < 0.5:
            extra.append(plan("w-mail3", exclusiveSets=["exchange"]))
        late = plan("w-new", requires=[["w-call", "w-more"]])
        deletion = dice.choice(("convert", "error"))
        return dice.choice(
            (
                make.product("w-extra", *extra),
                make.product("w-late", late),
                make.settings(
                    self.name,
                    dice.choice(("US", "US", None)),
                    dice.choice((DOMAIN, DOMAIN, "y")),
                    seatRetry=self.retry,
                    onGroupDeletion=deletion,
                ),
            )
        )

    def heat(self) -> Event:
        """Returns an event by which a user joins or leaves the group of the hot product."""
        user = f"u{self.dice.randrange(WILD_USERS)}"
        kind = self.dice.choice(("membership.added", "membership.added", "membership.removed"))
        return self.make.user(kind, self.name, user, group="hot")


LIFE = ("group.upserted", "group.upserted", "group.deleted")


class Tenants:
    """All tenants of the load; ``next`` returns its next record."""

    def __init__(self, dice: Random, bad: float = 0.002, again: float = 0.002, hot: float = 0.1):
        self.dice, self.bad, self.again, self.hot = dice, bad, again, hot
        self.make = Maker()
        self.calm = CalmTenant(self.make, dice)
        self.wild = [WildTenant(self.make, dice, name) for name in WILD]
        self._recent: list[Event] = []

    def setup(self) -> list[list[Event]]:
        """Returns two parts; the first must have settled before the second is published."""
        catalogue = WildTenant.catalogue(self.make)
        events = [*catalogue, *self.calm.setup(), *(e for w in self.wild for e in w.setup())]
        users = [event for event in events if event[0] == "user-changes"]
        return [[event for event in events if event[0] != "user-changes"], users]

    def next(self) -> Event:
        dice = self.dice
        chance = dice.random()
        if chance < self.bad:
            return self._bad()
        if chance < self.bad + self.again and self._recent:
            return dice.choice(self._recent)
        if dice.random() < self.hot:
            event = dice.choice(self.wild).heat()
        elif dice.random() < 1 / 3:
            event = self.calm.next()
        else:
            event = dice.choice(self.wild).next()
        self._recent = [*self._recent[-199:], event]
        return event

    def _bad(self) -> Event:
        """Returns a poison record: invalid JSON, or no event of the contract."""
        dice, key = self.dice, f"{WILD[0]}/u{self.dice.randrange(WILD_USERS)}"
        topic, right, value = self.wild[0].next()
        assert value is not None
        wrong = dice.choice(
            (
                b"",
                b"\xff\x00 not json",
                b"[1,2,3]",
                b"null",
                value[: len(value) // 2],
                value.replace(b'"type"', b'"kind"'),
                value.replace(b'"id": "', b'"id": "\\u00e9 '),
                value.replace(b'"tenant": "', b'"tenant": 1, "other": "'),
                value + b"{}",
            )
        )
        return dice.choice(
            (
                (topic, right, wrong),
                (topic, right, None),
                # A compacted topic refuses a record with no key.
                (
                    topic if topic in ("user-changes", "group-changes") else "user-changes",
                    None,
                    value,
                ),
                (topic, "somebody/else", value),
                ("user-changes", key, b"x" * dice.choice((10, 1000, 1_100_000))),
            )
        )
