"""Minimizes a failing history: fewer faults and events, while the same check fails."""

from __future__ import annotations

from collections.abc import Callable

from engine.simulation.invariants import Violation
from engine.simulation.simulation_config import SimulationConfig

SCHEDULES = 6
"""Schedules tried per candidate, since fewer events make another interleaving."""


def minimized(
    config: SimulationConfig, failure: Callable[[SimulationConfig], BaseException | None]
) -> SimulationConfig:
    """Returns the smallest configuration found that still fails the same check."""
    expected_kind = kind(failure(config))
    assert expected_kind is not None

    def fails(candidate: SimulationConfig) -> SimulationConfig | None:
        for schedule in (config.schedule, *range(1, SCHEDULES)):
            tried = candidate._replace(schedule=schedule)
            if kind(failure(tried)) == expected_kind:
                return tried
        return None

    for fault in sorted(config.faults):
        config = fails(config._replace(faults=config.faults - {fault})) or config
    for partitions in range(1, config.partitions):
        smaller = fails(config._replace(partitions=partitions))
        if smaller:
            config = smaller
            break
    size = max(1, len(config.inputs) // 2)
    while size:
        start = 0
        while start < len(config.inputs):
            left = config.inputs[:start] + config.inputs[start + size :]
            smaller = fails(config._replace(inputs=left))
            if smaller:
                config = smaller
            else:
                start += size
        size //= 2
    return config


def kind(error: BaseException | None) -> str | None:
    """Returns the name of the failed check, or of the exception's class."""
    if error is None:
        return None
    return error.check if isinstance(error, Violation) else type(error).__name__
