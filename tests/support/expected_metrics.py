"""The figures of the metrics, counted once more from what the topics say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Told:
    """Users by error (and with any), groups by status (and with errors), seats by product."""

    errors: Counter[str] = field(default_factory=Counter)
    with_errors: int = 0
    groups: Counter[str] = field(default_factory=Counter)
    groups_with_errors: int = 0
    seats: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)
    held: int = 0


def told(latest: Mapping[str, Iterable[Any]]) -> Told:
    """``latest``: topic without prefix -> the last value of each key, tombstones left out."""
    found = Told()
    users: dict[str, set[str]] = {}
    for error in latest["errors"]:
        users.setdefault(error["error"], set()).add(f"{error['tenant']}/{error['user']}")
    found.errors = Counter({kind: len(who) for kind, who in users.items()})
    found.with_errors = len(set().union(*users.values()))
    for group in latest["group-status"]:
        found.groups[group["licenseProcessingState"]] += 1
        found.groups_with_errors += group["membersWithErrors"] > 0
    for one in latest["product-seats"]:
        units = one["prepaidUnits"]["enabled"] + one["prepaidUnits"]["warning"]
        key = (one["tenant"], one["skuId"])
        found.seats[key] = (units, one["consumedUnits"], one["waitingUsers"])
    found.held = sum(len(user["assignedLicenses"]) for user in latest["user-licenses"])
    return found
