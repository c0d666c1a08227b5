"""The work of the benchmarks: bulk onboarding, as fast to make as it should be to publish.

Fields stand for themselves in the bytes of an event, so an event is one formatting of a template.
Everything follows from the seed, so that two runs, or the demand and the events, are about the
same people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from random import Random

import orjson

from streams.catalog import product

Record = tuple[str, bytes, bytes]
"""Topic without its prefix, key, value."""
Body = dict[str, object]

TENANT = "bench"
TIME = "2026-11-24T08:00:00Z"
# None of these share an exclusive set with different plans, and each brings what its plans
# require: with seats enough every user gets everything, in any location below.
PRODUCTS = ("E3", "EMS", "E5")
GROUPS_WITH_TWO = 60
LOCATIONS = ("US", "DE", "GB", "FR", "JP", "IN", "BR", "SE")

# As from an HR system: the primary address comes with the mail plan (R19).
_USER = (
    '{"type":"user.upserted","id":"b%(n)d","time":"' + TIME + '","tenant":"' + TENANT + '",'
    '"user":"u%(n)07d","userPrincipalName":"u%(n)07d@bench.example","displayName":"User %(n)d",'
    '"usageLocation":"%(at)s"}'
)
_USER_WITH_ADDRESSES = _USER.replace(
    '"displayName"',
    '"proxyAddresses":["SMTP:u%(n)07d@bench.example","smtp:alias%(n)07d@bench.example"],"displayName"',
)
_MEMBER = (
    '{"type":"membership.added","id":"b%(n)d-%(i)d","time":"' + TIME + '",'
    '"tenant":"' + TENANT + '","user":"u%(n)07d","group":"g%(group)03d"}'
)


def group_products(groups: int) -> list[tuple[str, ...]]:
    """Returns the products of each group: one product, or two for some evenly spaced groups."""
    licensed: list[tuple[str, ...]] = []
    two = min(GROUPS_WITH_TWO, groups)
    for group in range(groups):
        first = group % len(PRODUCTS)
        # The group is one of `two` evenly spaced ones.
        if group * two // groups != (group + 1) * two // groups:
            licensed.append((PRODUCTS[first], PRODUCTS[(first + 1) % len(PRODUCTS)]))
        else:
            licensed.append((PRODUCTS[first],))
    return licensed


def _people(users: int, groups: int, seed: int) -> Iterator[tuple[int, int, str]]:
    """Yields two different groups and a location for each user."""
    if groups < 2:
        raise ValueError(f"groups is {groups}; each user is a member of two")
    random = Random(seed).random
    for _ in range(users):
        one = int(random() * groups)
        other = (one + 1 + int(random() * (groups - 1))) % groups
        yield one, other, LOCATIONS[int(random() * len(LOCATIONS))]


def bench_demand(users: int, groups: int = 500, seed: int = 1) -> Counter[str]:
    """Returns the number of users that want each product (by short name), i.e. the seats needed."""
    licensed = group_products(groups)
    demand: Counter[str] = Counter()
    for one, other, _ in _people(users, groups, seed):
        demand.update({*licensed[one], *licensed[other]})
    return demand


def bench_configuration(units: Mapping[str, int], groups: int = 500) -> Iterator[Record]:
    """Yields the records that precede the users; ``units`` are the purchased ones by short name."""
    tenant: Body = {"type": "tenant.updated", "tenant": TENANT, "usageLocation": "US"}
    yield _record("tenants", TENANT, tenant, "tenant")
    skus = {name: product(name) for name in PRODUCTS}
    for name, event in skus.items():
        yield "catalog", event["skuId"].encode(), orjson.dumps(event)
        sku = event["skuId"]
        bought: Body = {"type": "subscription.updated", "tenant": TENANT, "skuId": sku}
        bought["prepaidUnits"] = {"enabled": units[name]}
        yield _record("subscriptions", f"{TENANT}/{sku}", bought, f"units-{name}")
    for number, names in enumerate(group_products(groups)):
        group = f"g{number:03d}"
        change: Body = {"type": "licenses.changed", "tenant": TENANT, "group": group}
        change["addLicenses"] = [{"skuId": skus[name]["skuId"]} for name in names]
        yield _record("group-changes", f"{TENANT}/{group}", change, f"license-{group}")


def bench_onboarding(
    users: int, groups: int = 500, seed: int = 1, addresses: bool = False
) -> Iterator[Record]:
    """Yields each user's attributes and two memberships, one user after the other.

    ``addresses``: two of each user's are given, the principal name among them.
    """
    topic, upserted = "user-changes", _USER_WITH_ADDRESSES if addresses else _USER
    for n, (one, other, at) in enumerate(_people(users, groups, seed)):
        key = b"%s/u%07d" % (TENANT.encode(), n)
        yield topic, key, (upserted % {"n": n, "at": at}).encode()
        yield topic, key, (_MEMBER % {"n": n, "i": 1, "group": one}).encode()
        yield topic, key, (_MEMBER % {"n": n, "i": 2, "group": other}).encode()


def _record(topic: str, key: str, body: Body, event_id: str) -> Record:
    value = {**body, "id": f"bench-{event_id}", "time": TIME}
    return topic, key.encode(), orjson.dumps(value)
