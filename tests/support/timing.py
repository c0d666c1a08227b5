"""Limits of time in tests."""

import sys

SLOWDOWN = 6
"""What measuring with coverage costs at most (measured: 5)."""


def limit_seconds(seconds: float) -> float:
    """Returns the limit for this run: longer where each line is measured with coverage."""
    return seconds * SLOWDOWN if sys.gettrace() is not None else seconds
