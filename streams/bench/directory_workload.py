"""A directory as organisations have it: many groups, few of them licensed, and long ids.

Users and groups have GUIDs, the sizes of groups follow Zipf's law, and users have two addresses and
ten attributes. Everything follows from the seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from streams.bench.workload import (
    LOCATIONS,
    PRODUCTS,
    TENANT,
    TIME,
    Record,
    group_products,
)
from streams.catalog import product

LICENSED_MEMBERSHIPS: Final = 2
MOVES_PER_MILLE, DEPARTURES_PER_MILLE = 10, 1
DEPARTMENTS: Final = ("Engineering", "Sales", "Finance", "People", "Legal", "Operations")


class DirectorySize(NamedTuple):
    """The sizes of a directory; ``memberships``: of each user, two of them in licensed groups."""

    users: int
    groups: int
    licensed: int
    memberships: int


class Directory:
    """The people of a tenant: user n is a member of the groups ``memberships[n]``, by number."""

    def __init__(self, size: DirectorySize, seed: int = 1) -> None:
        self.size = size
        random = self._random = Random(seed)
        self.users = [_guid(random) for _ in range(size.users)]
        self.groups = [_guid(random) for _ in range(size.groups)]
        step = size.groups // size.licensed
        self.licensed = list(range(0, size.licensed * step, step))  # of every size
        others = sorted({*range(size.groups)} - {*self.licensed})
        ordinary = size.memberships - LICENSED_MEMBERSHIPS
        self.products = dict(zip(self.licensed, group_products(size.licensed), strict=True))
        licensed_by_weight, others_by_weight = _by_zipf(self.licensed), _by_zipf(others)
        self.memberships = [
            (
                *_different(random, licensed_by_weight, LICENSED_MEMBERSHIPS),
                *_different(random, others_by_weight, ordinary),
            )
            for _ in range(size.users)
        ]

    @property
    def events(self) -> int:
        """The number of events of the users."""
        return self.size.users * (1 + self.size.memberships)

    def demand(self) -> Counter[str]:
        """Returns the number of users who want each product (by short name)."""
        wanted: Counter[str] = Counter()
        for groups in self.memberships:
            wanted.update({p for g in groups for p in self.products.get(g, ())})
        return wanted

    # -- records
    def configuration(self) -> Iterator[Record]:
        """Yields what precedes the users: catalog, seats for a tenth more than needed, licences."""
        skus = {name: product(name) for name in PRODUCTS}
        demand = self.demand()
        tenant = {"type": "tenant.updated", "tenant": TENANT, "usageLocation": "US"}
        yield _record("tenants", TENANT, "tenant", tenant)
        for name, definition in skus.items():
            sku = definition["skuId"]
            yield "catalog", sku.encode(), orjson.dumps(definition)
            bought = {
                "type": "subscription.updated",
                "tenant": TENANT,
                "skuId": sku,
                "prepaidUnits": {"enabled": demand[name] * 11 // 10 + 1},
            }
            yield _record("subscriptions", f"{TENANT}/{sku}", f"units-{name}", bought)
        for number, names in self.products.items():
            group = self.groups[number]
            change = {
                "type": "licenses.changed",
                "tenant": TENANT,
                "group": group,
                "addLicenses": [{"skuId": skus[name]["skuId"]} for name in names],
            }
            yield _record("group-changes", f"{TENANT}/{group}", f"license-{number}", change)

    def as_graph_lists_it(self) -> Iterator[Record]:
        """Yields the users, and then the members of one group after the other."""
        members: list[list[int]] = [[] for _ in self.groups]
        for n, groups in enumerate(self.memberships):
            yield self._user(n)
            for group in groups:
                members[group].append(n)
        for group, some in enumerate(members):
            for n in some:
                yield self._membership("added", n, group)

    def as_hr_sends_it(self) -> Iterator[Record]:
        """Yields one user with all memberships after the other."""
        for n, groups in enumerate(self.memberships):
            yield self._user(n)
            for group in groups:
                yield self._membership("added", n, group)

    def day_of_changes(self) -> list[Record]:
        """Returns the events of a day: users who move to another licensed group, and who leave."""
        users = self.size.users
        moving = max(1, users * MOVES_PER_MILLE // 1000)
        leaving = max(1, users * DEPARTURES_PER_MILLE // 1000)
        records = []
        chosen = self._random.sample(range(users), moving + leaving)
        for n in chosen[:moving]:
            first = self.memberships[n][0]
            new = next(g for g in self.licensed if g not in self.memberships[n])
            records.append(self._membership("removed", n, first))
            records.append(self._membership("added", n, new))
        for n in chosen[moving:]:
            body = {"type": "user.deleted", "tenant": TENANT, "user": self.users[n]}
            records.append(_record("user-changes", self._key(n), f"left-{n}", body))
        return records

    def _key(self, n: int) -> str:
        return f"{TENANT}/{self.users[n]}"

    def _user(self, n: int) -> Record:
        name = f"given{n}.family{n}"
        body = {
            "type": "user.upserted",
            "tenant": TENANT,
            "user": self.users[n],
            "userPrincipalName": f"{name}@bench.example",
            "usageLocation": LOCATIONS[n % len(LOCATIONS)],
            "mail": f"{name}@bench.example",
            "proxyAddresses": [f"SMTP:{name}@bench.example", f"smtp:alias{n}@bench.example"],
            "displayName": f"Given{n} Family{n}",
            "givenName": f"Given{n}",
            "surname": f"Family{n}",
            "jobTitle": "Engineer",
            "department": DEPARTMENTS[n % len(DEPARTMENTS)],
            "officeLocation": f"Building {n % 40}",
        }
        return _record("user-changes", self._key(n), f"user-{n}", body)

    def _membership(self, change: str, n: int, group: int) -> Record:
        body = {
            "type": f"membership.{change}",
            "tenant": TENANT,
            "user": self.users[n],
            "group": self.groups[group],
        }
        return _record("user-changes", self._key(n), f"{change}-{n}-{group}", body)


def _guid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128)))


Weighted = tuple[list[int], list[float]]


def _by_zipf(numbers: list[int]) -> Weighted:
    """Returns the numbers with cumulated weights: the k-th weighs one k-th of the first."""
    return numbers, list(accumulate(1 / k for k in range(1, len(numbers) + 1)))


def _different(random: Random, weighted: Weighted, count: int) -> Iterable[int]:
    """Returns so many different numbers, drawn by weight."""
    numbers, weights = weighted
    found: dict[int, None] = {}
    while len(found) < count:
        missing = count - len(found)
        found.update(dict.fromkeys(random.choices(numbers, cum_weights=weights, k=missing)))
    return found


def _record(topic: str, key: str, event_id: str, body: dict[str, Any]) -> Record:
    return topic, key.encode(), orjson.dumps({**body, "id": f"bench-{event_id}", "time": TIME})
