"""Keeps long-lived state out of the cyclic garbage collector.

Traversing millions of objects that stay finds nothing and takes time. During a backlog almost every
new object survives, so young objects are frozen (``gc.freeze``) before a collection reaches them.
At other times the collector works as usual. The cost: reference cycles alive at that moment are
never collected; the hot path creates none.
"""

from __future__ import annotations

import gc

THRESHOLD_OBJECTS = 200_000  # new objects, after which the collector runs
FREEZE_AFTER_OBJECTS = 50_000  # a slice of work creates fewer


def configure() -> None:
    """Sets the thresholds of the collector, for a worker's process."""
    gc.set_threshold(THRESHOLD_OBJECTS, 50, 1_000)


def freeze_young_objects() -> None:
    """Freezes the young objects if there are many; must be called often, and in a backlog only."""
    if gc.get_count()[0] > FREEZE_AFTER_OBJECTS:
        gc.freeze()
