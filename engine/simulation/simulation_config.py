"""The parameters of one history of the simulator."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.simulation.workload import Input

FAULTS: Final = frozenset(
    ("crash", "abort", "pause", "move", "hold", "repeat message", "repeat event", "restart")
)


class SimulationConfig(NamedTuple):
    """The parameters that determine a history.

    ``poison``: ids of events at which the machine fails, when they and all before them are applied;
    ``stalls``: of events at which it never ends, so that the worker is ended.
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

    @property
    def refused(self) -> frozenset[str]:
        """The ids of the events that end as dead letters."""
        return self.poison | self.stalls
