"""Migration plans: events in an order in which no user loses service.

Direct to group: users with a direct licence join a group that has the product. The direct licence
is removed only if, in the simulation, the group's is active and no service plan is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from engine.domain.vocabulary import NONE
from engine.rules.checks import enabled_plans
from engine.rules.outcome import Outcome
from engine.state.tenant_state import TenantState, User
from streams.contract.event_reader import Event, event_of
from streams.ingest.items import FeedError
from streams.ingest.jsonl import events_from_jsonl
from streams.simulate.comparison import compare
from streams.simulate.feed import run_feed
from streams.whatif import Simulation, take_baseline
from streams.whatif.comparison import plan_names

TIME = "2026-01-01T00:00:00Z"


@dataclass(slots=True)
class DirectToGroupPlan:
    """The plan: ``joins``, then ``releases`` when all has settled. Users by id, plans by name."""

    tenant: str
    group: str
    products: list[str]
    both: list[str] = field(default_factory=list)
    only_direct: list[str] = field(default_factory=list)
    would_lose: dict[str, list[str]] = field(default_factory=dict)
    not_licensed: dict[str, str] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    lost: int = 0  # users who lose plans if everything is applied; 0 unless accepted
    joins: list[dict[str, Any]] = field(default_factory=list)
    releases: list[dict[str, Any]] = field(default_factory=list)


def direct_to_group(
    snapshot: Path, group: str, product: str | None = None, accept_loss: bool = False
) -> DirectToGroupPlan:
    """Returns the plan for a tenant's snapshot (`seatflow export`).

    ``product``: only this one (id or part number); the group gets it if it does not have it.
    ``accept_loss``: also release users who lose service plans.
    Raises: FeedError, if the file is no snapshot or lacks the product.
    """
    simulation = Simulation()
    problems = run_feed(simulation, events_from_jsonl(snapshot).events())
    if problems:
        raise FeedError(f"{snapshot} is not a snapshot: {problems[0]}")
    return DirectToGroupPlanner(simulation, snapshot, group).plan(product, accept_loss)


class DirectToGroupPlanner:
    """Builds a plan by simulating each step of it on a snapshot."""

    def __init__(self, simulation: Simulation, snapshot: Path, group: str) -> None:
        self._simulation = simulation
        tenants = [b for b in simulation.machine.configuration.tenants.values() if b.users]
        if len(tenants) != 1:
            raise FeedError(f"{snapshot} has {len(tenants)} tenants; a snapshot is of one")
        self._tenant: TenantState = tenants[0]
        self._group = group
        digest = hashlib.blake2b(group.encode(), digest_size=8)
        with snapshot.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
        self._fingerprint = f"plan:{digest.hexdigest()}"
        self._event_count = 0

    def plan(self, product: str | None, accept_loss: bool) -> DirectToGroupPlan:
        """Returns the plan; see ``direct_to_group``. Raises: FeedError."""
        products = self._products(product)
        plan = DirectToGroupPlan(self._tenant.id, self._group, products)
        before = take_baseline(self._simulation)
        users = {u: held for u in self._users() if (held := _direct(u) & set(products))}
        self._join(plan, users)
        for user, held in users.items():
            self._release(plan, user, held, accept_loss)
        self._run(plan.releases)
        plan.lost = compare(before, self._simulation).loss.users
        if plan.lost and not accept_loss:
            raise FeedError(
                f"{plan.lost} users would lose service plans although each step was checked; a"
                " licence of theirs depends on another. Nothing was written"
            )
        return plan

    def _products(self, product: str | None) -> list[str]:
        known = self._simulation.machine.configuration.products
        found = self._tenant.groups.get(self._group)
        offered = list(found.licenses) if found else []
        if product is None:
            if not offered:
                raise FeedError(
                    f"the group {self._group} has no licences: name a product with --product"
                )
            return sorted(offered)
        for sku, each in known.items():
            if product in (sku, each.part_number):
                return [sku]
        raise FeedError(f"no product {product} is defined in the snapshot")

    def _users(self) -> list[User]:
        return sorted((u for u in self._tenant.users.values() if u.known), key=lambda u: u.id)

    def _join(self, plan: DirectToGroupPlan, users: dict[User, frozenset[str]]) -> None:
        found = self._tenant.groups.get(self._group)
        if missing := [p for p in plan.products if not found or p not in found.licenses]:
            added = [{"skuId": sku, "disabledPlans": []} for sku in missing]
            change = {"addLicenses": added, "removeLicenses": []}
            plan.joins.append(self._event("licenses.changed", group=self._group, **change))
        for user, held in users.items():
            if held <= _by_groups(user):
                plan.both.append(user.id)
                continue
            plan.only_direct.append(user.id)
            if self._group not in user.groups:
                plan.joins.append(self._event("membership.added", user=user.id, group=self._group))
        self._run(plan.joins)

    def _release(
        self, plan: DirectToGroupPlan, user: User, held: frozenset[str], accept_loss: bool
    ) -> None:
        if not held <= _by_groups(user):
            plan.not_licensed[user.id] = _reason(user, held)
            return
        without = _enabled(user.outcome, frozenset())
        lost = without - _enabled(user.outcome, held)
        if lost:
            plan.would_lose[user.id] = self._names(lost)
            if not accept_loss:
                return
        plan.released.append(user.id)
        change = {"addLicenses": [], "removeLicenses": sorted(held)}
        plan.releases.append(self._event("licenses.changed", user=user.id, **change))

    def _names(self, plans: Iterable[str]) -> list[str]:
        names = plan_names(self._simulation)
        return sorted(names.get(plan, plan) for plan in plans)

    def _event(self, kind: str, **members: Any) -> dict[str, Any]:
        self._event_count += 1
        id = f"{self._fingerprint}:{self._event_count}"
        return {"type": kind, "id": id, "time": TIME, "tenant": self._tenant.id, **members}

    def _run(self, events: list[dict[str, Any]]) -> None:
        found: list[Any] = [event_of(orjson.dumps(event)) for event in events]
        assert all(isinstance(event, Event) for event in found)
        self._simulation.run(found)


def _direct(user: User) -> frozenset[str]:
    return frozenset(e.plans.sku for e in user.outcome.entries if e.path_index == 0)


def _by_groups(user: User) -> frozenset[str]:
    """Returns the products that are active through a group that the user is in."""
    return frozenset(
        s.sku
        for s in user.outcome.states
        if s.path_index and s.reason.error == NONE and user.path(s.path_index) in user.groups
    )


def _enabled(outcome: Outcome, without_direct: frozenset[str]) -> set[str]:
    kept = (e for e in outcome.entries if e.path_index or e.plans.sku not in without_direct)
    return enabled_plans(e.plans for e in kept)


def _reason(user: User, held: frozenset[str]) -> str:
    for state in user.outcome.states:
        if state.path_index and state.sku in held and state.reason.error != NONE:
            return f"{state.reason.error}: {state.reason.message}"
    return "no group assigns it"


def write(events: list[dict[str, Any]], path: Path) -> None:
    """Writes events as JSON Lines. Raises: FeedError."""
    try:
        path.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events))
    except OSError as error:
        raise FeedError(f"{path} cannot be written: {error.strerror}") from None
