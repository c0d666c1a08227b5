"""Named points at which a test may kill the worker, as a power cut would.

``SEATFLOW_FAULT=after-send:3`` kills the process (SIGKILL) when it reaches that point for the third
time. Without the variable a point costs a comparison.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "after-fence",  # the partition is owned, nothing is read yet
    "during-restore",  # some rows are read
    "before-send",  # computed, the transaction is not begun
    "after-send",  # the records are in the log, the transaction is open
    "after-commit",  # committed, the group's offsets are not committed
    "seats-asked",  # committed, with a request for seats that is not answered yet
)


def _parse(text: str) -> tuple[str, int]:
    """Parses ``name:count``; the count is 1 if absent.

    Raises:
        ValueError: no point has that name.
    """
    name, _, count = text.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"SEATFLOW_FAULT is {text!r}: must be one of {', '.join(POINTS)}")
    return name, int(count or 1)


_point, _left = _parse(os.environ.get("SEATFLOW_FAULT", ""))


def trigger(point: str) -> None:
    """Kills the process if SEATFLOW_FAULT names this point and its count is reached."""
    global _left
    if point == _point:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
