"""Makes a failing history shorter: fewer faults, fewer events, while it goes wrong alike."""

from __future__ import annotations

from collections.abc import Callable

from engine.simulation.invariants import Violation
from engine.simulation.scheduler import Setting

SCHEDULES = 6
"""Fewer events make another interleaving; a few of them are tried."""


def shrunk(how: Setting, failure: Callable[[Setting], BaseException | None]) -> Setting:
    wanted = kind(failure(how))
    assert wanted is not None

    def fails(candidate: Setting) -> Setting | None:
        for schedule in (how.schedule, *range(1, SCHEDULES)):
            tried = candidate._replace(schedule=schedule)
            if kind(failure(tried)) == wanted:
                return tried
        return None

    for fault in sorted(how.faults):
        how = fails(how._replace(faults=how.faults - {fault})) or how
    for partitions in range(1, how.partitions):
        smaller = fails(how._replace(partitions=partitions))
        if smaller:
            how = smaller
            break
    size = max(1, len(how.inputs) // 2)
    while size:
        at = 0
        while at < len(how.inputs):
            left = how.inputs[:at] + how.inputs[at + size :]
            smaller = fails(how._replace(inputs=left))
            if smaller:
                how = smaller
            else:
                at += size
        size //= 2
    return how


def kind(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return error.check if isinstance(error, Violation) else type(error).__name__
