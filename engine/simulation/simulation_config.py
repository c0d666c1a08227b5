"""The parameters of one history of the simulator."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.simulation.workload import Input

FAULTS: Final = frozenset(
    ("crash", "abort", "pause", "move", "hold", "repeat message", "repeat event", "restart")
)


def small_limits(seed: int) -> Limits:
    """Returns limits that small tenants reach; those of bytes stay."""
    random = Random(f"limits/{seed}")
    return Limits(
        memberships=random.randint(1, 4),
        licensed_groups=random.randint(1, 3),
        assignments=random.randint(1, 4),
        products=random.randint(1, 3),
        deferred_changes=random.randint(1, 2),
        address_claims=random.randint(1, 3),
        waiting_events=random.randint(1, 4),
        group_completions=random.randint(1, 2),
    )


class SimulationConfig(NamedTuple):
    """The parameters that determine a history.

    ``poison``: ids of events at which the machine fails, when they and all before them are applied;
    ``stalls``: of events at which it never ends, so that the worker is ended. ``mixed``: producers
    use different partitioners, so that events are forwarded (R29).
    """

    seed: int
    partitions: int
    workers: int
    inputs: tuple[Input, ...]
    faults: frozenset[str] = FAULTS
    schedule: int = 0
    poison: frozenset[str] = frozenset()
    stalls: frozenset[str] = frozenset()
    limits: Limits = DEFAULT_LIMITS
    mixed: bool = False

    @property
    def refused(self) -> frozenset[str]:
        """The ids of the events that end as dead letters."""
        return self.poison | self.stalls
