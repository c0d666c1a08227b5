"""Contention: onboarding with seats for half of the users of each product.

Beside the speed, what the topics say is checked: at no position of the log more consumed than
bought, and at the end nobody refused while a seat is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from engine.domain.vocabulary import COUNT
from streams.bench.environment import BenchEnvironment, BenchError
from streams.bench.onboarding import (
    GROUPS,
    QUICK_USERS,
    USERS,
    beside_the_limit,
    figures,
    prepare,
)
from streams.bench.report import Result
from streams.bench.workload import PRODUCTS, bench_demand
from streams.catalog import product


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users = QUICK_USERS if env.quick else USERS
    units = {name: needed // 2 for name, needed in bench_demand(users, GROUPS).items()}
    await prepare(env, units, users)
    done, limits = await beside_the_limit(env, users)
    found = await _check(env, {product(name)["skuId"]: units[name] for name in PRODUCTS}, users)
    result = figures(env, done, limits, "0.40 of the limit; never oversold, no false refusal", 0.4)
    result.details |= found
    return result


async def _check(env: BenchEnvironment, units: Mapping[str, int], users: int) -> dict[str, object]:
    seats = [orjson.loads(record.value) async for record in env.read("product-seats")]
    states: dict[bytes, Any] = {}
    async for record in env.read("user-licenses"):
        states[record.key] = orjson.loads(record.value)
    if len(states) != users:
        raise BenchError(f"{len(states)} of {users} users are published")
    refused = judge(units, seats, states.values())
    return {"oversold": 0, "false_refusals": 0, "refused": refused}


def judge(
    units: Mapping[str, int], seats: Iterable[dict[str, Any]], states: Iterable[dict[str, Any]]
) -> int:
    """Returns the number of refused seats.

    ``seats`` has every record of ``product-seats``; ``states`` has the last record of each user.
    No seat is released in this bench, so the seats held at the end are the maximum.

    Raises:
        BenchError: a product was oversold, or a user was refused although a seat was free.
    """
    consumed: Counter[str] = Counter()
    for seat in seats:
        if seat["consumedUnits"] > units[seat["skuId"]]:
            raise BenchError(f"oversold: {seat}")
        consumed[seat["skuId"]] = seat["consumedUnits"]
    held: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for state in states:
        held.update(each["skuId"] for each in state["assignedLicenses"])
        each_state = state["licenseAssignmentStates"]
        refused.update({s["skuId"] for s in each_state if s["error"] == COUNT})
    for sku, bought in units.items():
        if held[sku] > bought or held[sku] != consumed[sku]:
            raise BenchError(
                f"{sku}: {held[sku]} hold it, {consumed[sku]} counted, {bought} bought"
            )
        if refused[sku] and held[sku] < bought:
            raise BenchError(f"{sku}: {refused[sku]} refused, and {bought - held[sku]} seats free")
    return refused.total()
