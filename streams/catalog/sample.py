"""A sample catalog of real products, for the demo, the benchmarks and the tests.

Its facts are those of 2022, in which E1 and E3 exclude each other by their mail plans.
"""

from __future__ import annotations

import copy
from functools import cache

import orjson

from streams.catalog.plan_facts import Event, package_data, product_defined

EDITION = "2022"

SHORT_NAMES = {
    "E1": "STANDARDPACK",
    "E3": "ENTERPRISEPACK",
    "E5": "ENTERPRISEPREMIUM",
    "F3": "DESKLESSPACK",
    "M3": "SPE_E3",
    "M5": "SPE_E5",
    "EMS": "EMS",
    "WPA": "WORKPLACE_ANALYTICS",
    "AUDIO": "MCOMEETADV",
    "PHONE": "MCOEV",
    "PROJECT": "PROJECTPROFESSIONAL",
    "VISIO": "VISIOCLIENT",
    "EXO1": "EXCHANGESTANDARD",
    "EXO2": "EXCHANGEENTERPRISE",
    "ATP2": "THREAT_INTELLIGENCE",
    "PBI": "POWER_BI_PRO",
}


@cache
def _by_part_number() -> dict[str, Event]:
    events = {}
    for line in package_data("small.jsonl").splitlines():
        row = orjson.loads(line)
        part = row["skuPartNumber"]
        plans = [(plan_id, name) for plan_id, name in row["servicePlans"]]
        events[part] = product_defined(
            row["skuId"], part, row["displayName"], plans, edition=EDITION
        )
    return events


def sample_catalog() -> list[Event]:
    """Returns ``product.defined`` events of about 15 real products, as copies."""
    return copy.deepcopy(list(_by_part_number().values()))


def product(name: str) -> Event:
    """Returns the event of a product, by part number or short name. Raises: KeyError."""
    return copy.deepcopy(_by_part_number()[SHORT_NAMES.get(name, name)])
