"""Contention: onboarding with seats for half of the users of each product.

Beside the speed, what the topics say is checked: at no position of the log more consumed than
bought, and at the end nobody refused while a seat is free.
"""

from __future__ import annotations

from collections import Counter

import orjson

from streams.bench.onboarding import (
    GROUPS,
    QUICK_USERS,
    USERS,
    beside_the_limit,
    figures,
    prepare,
)
from streams.bench.report import Result
from streams.bench.stand import BenchError, Stand
from streams.catalogue import product
from streams.workload import PRODUCTS, bench_demand


async def run(stand: Stand) -> Result:
    users = QUICK_USERS if stand.quick else USERS
    units = {name: needed // 2 for name, needed in bench_demand(users, GROUPS).items()}
    await prepare(stand, units, users)
    done, limits = await beside_the_limit(stand, users)
    found = await _check(stand, {product(name)["skuId"]: units[name] for name in PRODUCTS}, users)
    result = figures(
        stand, done, limits, "0.40 of the limit; never oversold, no false refusal", 0.4
    )
    result.details |= found
    return result


async def _check(stand: Stand, units: dict[str, int], users: int) -> dict[str, object]:
    """Raises BenchError for a seat too many, a false refusal or a lost user."""
    consumed: Counter[str] = Counter()
    async for record in stand.read("product-seats"):
        body = orjson.loads(record.value)
        if body["consumedUnits"] > units[body["skuId"]]:
            raise BenchError(f"oversold: {body}")
        consumed[body["skuId"]] = body["consumedUnits"]
    latest: dict[bytes, bytes] = {}
    async for record in stand.read("user-licenses"):
        latest[record.key] = record.value
    held: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for value in latest.values():
        body = orjson.loads(value)
        held.update(each["skuId"] for each in body["assignedLicenses"])
        states = body["licenseAssignmentStates"]
        refused.update({s["skuId"] for s in states if s["error"] == "CountViolation"})
    for sku, bought in units.items():
        # Nobody gives a seat back here: what is held at the end is the most that ever was.
        if held[sku] > bought or held[sku] != consumed[sku]:
            raise BenchError(f"{sku}: {held[sku]} hold it, {consumed[sku]} counted of {bought}")
        if refused[sku] and held[sku] < bought:
            raise BenchError(f"{sku}: {refused[sku]} refused, and {bought - held[sku]} seats free")
    if len(latest) != users:
        raise BenchError(f"{len(latest)} of {users} users are published")
    return {"oversold": 0, "false_refusals": 0, "refused": sum(refused.values())}
