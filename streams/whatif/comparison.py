"""The state before and after events: users in pairs, and the seats of each product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.domain.vocabulary import DISABLED, CapabilityStatus
from engine.rules.outcome import EMPTY_OUTCOME, AssignmentState, Outcome
from engine.state.tenant_state import User
from streams.whatif.simulation import Simulation


class SeatFigures(NamedTuple):
    """The seats of one product. ``waiting``: users without a seat; ``status``: capabilityStatus."""

    units: int = 0
    used: int = 0
    waiting: int = 0
    status: str = CapabilityStatus.ENABLED.value


class UserState(NamedTuple):
    """A user's outcome, and the groups that its paths stand for."""

    outcome: Outcome
    paths: tuple[str, ...]

    def by_path(self) -> dict[tuple[str, str], AssignmentState]:
        """Returns the states by (skuId, group); the group is "" for a direct licence."""
        return {
            (s.sku, self.paths[s.path_index - 1] if s.path_index else ""): s
            for s in self.outcome.states
        }

    @property
    def disabled(self) -> frozenset[str]:
        """The products that the user has while they are off (R15)."""
        return frozenset(p.sku for p in self.outcome.problems if p.state == DISABLED)


NO_STATE = UserState(EMPTY_OUTCOME, ())


class UserChange(NamedTuple):
    """One user before and after; ``NO_STATE`` while it does not exist."""

    tenant: str
    user: str
    before: UserState
    after: UserState
    exists: bool

    @property
    def gained(self) -> frozenset[str]:
        """The products that the user has only after the events."""
        return self.after.outcome.held - self.before.outcome.held

    @property
    def lost(self) -> frozenset[str]:
        """The products that the user has only before the events."""
        return self.before.outcome.held - self.after.outcome.held

    @property
    def disabled(self) -> frozenset[str]:
        """The products that are disabled only after the events (R15)."""
        return self.after.disabled - self.before.disabled

    @property
    def enabled(self) -> frozenset[str]:
        """The products that the user has, disabled only before the events (R15)."""
        return (self.before.disabled - self.after.disabled) & self.after.outcome.held


@dataclass(slots=True)
class Baseline:
    """The state before the events.

    ``users`` by (tenant, user), ``seats`` by (tenant, skuId), ``groups``: the published status by
    tenant/group. ``events``, ``results``: how many there were.
    """

    users: dict[tuple[str, str], UserState]
    groups: dict[str, dict[str, Any]]
    seats: dict[tuple[str, str], SeatFigures]
    events: int
    results: int


def take_baseline(simulation: Simulation) -> Baseline:
    """Returns the present state, to compare with later."""
    groups = simulation.machine.groups.groups
    return Baseline(
        # Outcomes are never changed, only replaced.
        {(user.tenant.id, user.id): state_of(user) for user in known(simulation)},
        {key: state.published or {} for key, state in groups.items()},
        seat_figures(simulation),
        simulation.events,
        len(simulation.results),
    )


def known(simulation: Simulation) -> Iterator[User]:
    """Yields the users of all tenants who were created, not only named by a membership."""
    for tenant in simulation.machine.configuration.tenants.values():
        for user in tenant.users.values():
            if user.known:
                yield user


def state_of(user: User) -> UserState:
    """Returns the user's present state."""
    return UserState(user.outcome, user.paths)


def user_changes(before: Baseline, simulation: Simulation) -> Iterator[UserChange]:
    """Yields all users, changed or not: first those who exist, then those who do no more."""
    remaining = set(before.users)
    for user in known(simulation):
        key = user.tenant.id, user.id
        remaining.discard(key)
        yield UserChange(*key, before.users.get(key, NO_STATE), state_of(user), True)
    for key in (key for key in before.users if key in remaining):
        yield UserChange(*key, before.users[key], NO_STATE, False)


def seat_figures(simulation: Simulation) -> dict[tuple[str, str], SeatFigures]:
    """Returns the seats of every product that was bought or asked for, by (tenant, skuId)."""
    machine, found = simulation.machine, {}
    for seats in machine.products.budgets.values():
        lease = machine.configuration.tenant(seats.tenant).lease(seats.sku)
        found[seats.tenant, seats.sku] = SeatFigures(
            seats.capacity, lease.used, lease.waiting, seats.capability_status
        )
    return found


def part_number(simulation: Simulation, sku: str) -> str:
    """Returns the part number of a product, its id if it is not defined."""
    product = simulation.machine.configuration.products.get(sku)
    return product.part_number if product else sku


def plan_names(simulation: Simulation) -> dict[str, str]:
    """Returns the names of all service plans by id."""
    return {
        plan.id: plan.name
        for product in simulation.machine.configuration.products.values()
        for plan in product.plans.values()
    }
