"""Compares the expectations of a scenario with the records that were published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from tests.scenarios.language import Json, Scenario


class Published:
    """All output records so far, by topic (without its prefix)."""

    def __init__(self) -> None:
        self.latest: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        self.log: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)

    def add(self, topic: str, key: str | None, value: Any) -> None:
        """Adds one record; ``value`` is decoded, None for a tombstone, bytes for a dead letter."""
        self.latest[topic][key or ""] = value
        self.log[topic].append((key or "", value))


def compare(scenario: Scenario, step: int, expected: Json, published: Published) -> None:
    """Appends a line to ``scenario.failures`` for every expectation that does not hold."""
    for kind, wanted in expected.items():
        actual = READERS[kind](scenario, published)
        if not isinstance(wanted, dict):
            if actual != wanted:
                scenario.failures.append(f"step {step} {kind}: expected {wanted}, got {actual}")
            continue
        for name, value in wanted.items():
            got = actual.get(name, EMPTY.get(kind))
            value, got = _comparable(kind, value, got)
            if got != value:
                scenario.failures.append(
                    f"step {step} {kind} {name}: expected {value!r}, got {got!r}"
                )


EMPTY: dict[str, Any] = {"users": {}, "errors": [], "results": [], "plans": {}}


def _comparable(kind: str, value: Any, got: Any) -> tuple[Any, Any]:
    """Cuts ``got`` to the members that ``value`` names, where a part may be given."""
    if kind in ("seats", "groups") and isinstance(got, dict) and isinstance(value, dict):
        return value, {member: got.get(member) for member in value}
    if kind == "plans":
        return {p: sorted(plans) for p, plans in value.items()}, {
            p: plans for p, plans in got.items() if p in value
        }
    return value, got


def _records(scenario: Scenario, published: Published, topic: str) -> Iterator[tuple[str, Any]]:
    """Yields the latest records of the scenario's tenant, with the key after the tenant."""
    for key, value in published.latest[topic].items():
        tenant, _, rest = key.partition("/")
        if tenant == scenario.tenant and value is not None:
            yield rest, value


def _users(scenario: Scenario, published: Published) -> Json:
    def path(state: Json) -> str:
        sku = state["skuId"]
        return f"{scenario.names.get(sku, sku)}/{state['assignedByGroup'] or 'direct'}"

    def outcome(state: Json) -> str:
        return f"{state['state']}/{state['error']}".removesuffix("/None")

    return {
        user: {path(state): outcome(state) for state in record["licenseAssignmentStates"]}
        for user, record in _records(scenario, published, "user-licenses")
    }


def _plans(scenario: Scenario, published: Published) -> Json:
    users: Json = {}
    for user, record in _records(scenario, published, "user-licenses"):
        users[user] = {}
        for licence in record["assignedLicenses"]:
            name = scenario.names.get(licence["skuId"], licence["skuId"])
            plans = scenario.catalog[name]["servicePlans"]
            names = {plan["servicePlanId"]: plan["servicePlanName"] for plan in plans}
            users[user][name] = sorted(names.get(p, p) for p in licence["disabledPlans"])
    return users


def _mail(scenario: Scenario, published: Published) -> Json:
    """Returns mail, nickname and the sorted proxy addresses in one list."""
    return {
        user: [record["mail"], record["mailNickname"], *sorted(record["proxyAddresses"])]
        for user, record in _records(scenario, published, "user-licenses")
    }


def _revisions(scenario: Scenario, published: Published) -> Json:
    records = _records(scenario, published, "user-licenses")
    return {user: record["revision"] for user, record in records}


def _errors(scenario: Scenario, published: Published) -> Json:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for key, record in _records(scenario, published, "errors"):
        user, group, sku = key.split("/", 2)
        users[user].append(f"{scenario.names.get(sku, sku)}/{group} {record['error']}")
    return {user: sorted(lines) for user, lines in users.items()}


def _seats(scenario: Scenario, published: Published) -> Json:
    return {
        scenario.names.get(sku, sku): {
            "consumed": record["consumedUnits"],
            "available": record["availableUnits"],
            "waiting": record["waitingUsers"],
        }
        for sku, record in _records(scenario, published, "product-seats")
    }


def _products(scenario: Scenario, published: Published) -> Json:
    return {
        scenario.names.get(sku, sku): record["capabilityStatus"]
        for sku, record in _records(scenario, published, "product-seats")
    }


def _groups(scenario: Scenario, published: Published) -> Json:
    return {
        group: {
            "state": record["licenseProcessingState"],
            "members": record["members"],
            "licensed": record["membersLicensed"],
            "errors": record["errors"],
            "deleted": record["deleted"],
        }
        for group, record in _records(scenario, published, "group-status")
    }


def _results(scenario: Scenario, published: Published) -> Json:
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    for key, record in published.log["results"]:
        tenant, _, subject = key.partition("/")
        if tenant == scenario.tenant:
            error = record.get("error")
            outcomes[subject].append(record["status"] + (f"/{error}" if error else ""))
    return outcomes


def _dead_letters(scenario: Scenario, published: Published) -> int:
    keys = (key.partition("/")[0] for key, _ in published.log["dead-letters"])
    return sum(tenant == scenario.tenant for tenant in keys)


READERS: dict[str, Callable[[Scenario, Published], Any]] = {
    "users": _users,
    "plans": _plans,
    "mail": _mail,
    "revision": _revisions,
    "errors": _errors,
    "seats": _seats,
    "products": _products,
    "groups": _groups,
    "results": _results,
    "dead_letters": _dead_letters,
}
