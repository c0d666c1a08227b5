"""R2, R15 and guarantee 2: seats are never oversold, and the counters tell the truth."""

from __future__ import annotations

from collections import Counter

from tests.checkers.history import (
    History,
    Json,
    Record,
    Violation,
    after_tenant,
    held_products,
    is_entry,
    states,
    tenant_of,
)
from tests.spec.events import adopted_licenses
from tests.spec.facts import COUNT


def never_oversold(history: History) -> list[Violation]:
    """Checks that no user becomes a holder beyond the units that were purchased until then.

    Users whom a snapshot gives the product are not counted: they may be more than units (R25).

    Bought units may shrink at any time below what is consumed (R15), and the log does not tell how
    long before its publication a seat was granted; `counters_never_oversold` is sharper there.
    """
    found: list[Violation] = []
    most: dict[str, int] = {}  # tenant/skuId -> the most units ever bought
    holders: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}  # tenant/user -> products
    adopted: set[tuple[str, str]] = set()  # tenant/user, skuId that a snapshot names (R25)
    for record in readable(history):
        adopted |= named_by_snapshot(record)
        if record.topic == "subscriptions":
            bought = units(record.document or {})
            most[record.key or ""] = max(bought, most.get(record.key or "", 0))
        if record.topic != "user-licenses":
            continue
        user = record.key or ""
        before, after = held.get(user, set()), held_products(record.document)
        held[user] = after
        for sku in sorted(before ^ after):
            product = f"{tenant_of(user)}/{sku}"
            line = holders.setdefault(product, set())
            line.discard(user)
            if sku in after:
                line.add(user)
                others = sum((holder, sku) not in adopted for holder in line)
                if others > most.get(product, 0):
                    text = f"{user} is holder {others} of {product}: {most.get(product, 0)} units"
                    found.append(Violation("never oversold", text))
    return found


def counters_never_oversold(history: History) -> list[Violation]:
    """Checks that consumedUnits grows only within the units in force since the previous record.

    Beyond them it may grow by one for each time that a snapshot names the product (R25).
    """
    found: list[Violation] = []
    bought: dict[str, list[int]] = {}
    before: dict[str, Json] = {}
    position: dict[str, int] = {}  # the earliest purchase that the record before can have seen
    brought: Counter[str] = Counter()  # tenant/skuId -> holders that snapshots may have brought
    for record in readable(history):
        key = record.key or ""
        brought.update(f"{tenant_of(user)}/{sku}" for user, sku in named_by_snapshot(record))
        if record.topic == "subscriptions":
            bought.setdefault(key, [0]).append(units(record.document or {}))
        if record.topic != "product-seats" or record.document is None:
            continue
        purchases, start = bought.get(key, [0]), position.get(key, 0)
        consumed = record.document["consumedUnits"]
        limit = max(purchases[start:])
        beyond = consumed - max(before.get(key, {}).get("consumedUnits", 0), limit)
        if beyond > 0:
            brought[key] -= beyond
            if brought[key] < 0:
                text = f"{key} grew to {consumed} consumed units of {limit}"
                found.append(Violation("counters never oversold", text))
                brought[key] = 0
        now = units(record.document)
        position[key] = next(
            (i for i in range(start, len(purchases)) if purchases[i] == now), start
        )
        before[key] = record.document
    return found


def readable(history: History) -> list[Record]:
    """Returns the records without bad input."""
    bad = {id(record) for record in history.bad}
    return [record for record in history.records if id(record) not in bad]


def named_by_snapshot(record: Record) -> set[tuple[str, str]]:
    """Returns (tenant/user, skuId) of the licences that a snapshot says the user holds."""
    event = record.document if record.topic == "user-changes" else None
    if event is None or event.get("type") != "user.snapshot":
        return set()
    return {(record.key or "", sku) for sku, _ in adopted_licenses(event)}


def units(document: Json) -> int:
    prepaid = document.get("prepaidUnits", {})  # none after subscription.deleted
    return int(prepaid.get("enabled", 0) + prepaid.get("warning", 0))


def seats_agree(history: History) -> list[Violation]:
    """Checks that the final counters follow from the published users and the input."""
    wanted, counters = expected_counters(history), history.latest("product-seats")
    found = [
        Violation("seats agree", f"{key} has a counter, but neither subscription nor holder")
        for key, value in counters.items()
        if key not in wanted and (value["consumedUnits"] or value["waitingUsers"])
    ]
    for key, expected in wanted.items():
        published = counters.get(key)
        if published is None:
            found.append(Violation("seats agree", f"{key} has no counter"))
            continue
        for name, value in expected.items():
            if published[name] != value:
                text = f"{key} {name} is {published[name]}, the users make it {value}"
                found.append(Violation("seats agree", text))
    return found


def expected_counters(history: History) -> dict[str, dict[str, int]]:
    holders: dict[str, set[str]] = {}
    waiting: dict[str, set[str]] = {}
    for key, user in history.users.items():
        for sku in held_products(user):
            holders.setdefault(f"{tenant_of(key)}/{sku}", set()).add(key)
        for state in states(user):
            if state["error"] == COUNT:
                waiting.setdefault(f"{tenant_of(key)}/{state['skuId']}", set()).add(key)
    bought = {e["key"]: units(e) for e in history.events if e["topic"] == "subscriptions"}
    return {
        product: {
            "consumedUnits": len(holders.get(product, ())),
            "availableUnits": bought.get(product, 0) - len(holders.get(product, ())),
            "waitingUsers": len(waiting.get(product, ())),
        }
        for product in sorted(set(bought) | set(holders))
    }


def union_agrees(history: History) -> list[Violation]:
    """Checks R1 and R2: one licence per held product, less the plans that no entry enables."""
    found: list[Violation] = []
    for key, user in history.users.items():
        off: dict[str, set[str]] = {}
        for s in states(user):
            if is_entry(s):
                plans = set(s["disabledPlans"])
                off[s["skuId"]] = off.get(s["skuId"], plans) & plans
        published = [(a["skuId"], set(a["disabledPlans"])) for a in user["assignedLicenses"]]
        if published != sorted(off.items()):
            text = f"{key}: assignedLicenses {published} are not the union {sorted(off.items())}"
            found.append(Violation("union agrees", text))
        paths = [(s["skuId"], s["assignedByGroup"]) for s in states(user)]
        if len(paths) != len(set(paths)):
            found.append(Violation("union agrees", f"{key} has a path twice in {paths}"))
    return found


def no_false_refusal(history: History) -> list[Violation]:
    """Checks guarantee 3: with automatic retry no user lacks a seat while a unit is free."""
    automatic = {
        e["key"]: e.get("policies", {}).get("seatRetry", "automatic") == "automatic"
        for e in history.events
        if e["topic"] == "tenants"
    }
    counters = expected_counters(history)
    found: list[Violation] = []
    for key, user in history.users.items():
        for state in states(user):
            product = f"{tenant_of(key)}/{state['skuId']}"
            free = counters.get(product, {}).get("availableUnits", 0)
            if state["error"] == COUNT and free > 0 and automatic.get(tenant_of(key), True):
                text = f"{after_tenant(key)} lacks {product} while {free} units are free"
                found.append(Violation("no false refusal", text))
    return found
