"""The changes of one user or group that wait for a product (R21), and their limits."""

from __future__ import annotations

import json
from typing import Any

from engine.domain.limits import Limits
from engine.domain.messages import Rejection, limit_exceeded


def json_size(value: Any) -> int:
    """Returns the size of a value as JSON, by which what waits is limited."""
    return len(json.dumps(value))


def exceeds_limit(limits: Limits, waiting: list[list[Any]], change: list[Any]) -> Rejection | None:
    """Returns why the change cannot wait beside those that do, None if it can."""
    number = len(waiting) + 1
    if number > limits.deferred_changes:
        return limit_exceeded("changes that wait for a product", limits.deferred_changes, number)
    size = json_size([*waiting, change])
    if size > limits.deferred_bytes:
        return limit_exceeded(
            "bytes of changes that wait for a product", limits.deferred_bytes, size
        )
    return None
