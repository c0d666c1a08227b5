"""Named points at which a test may let the worker die, as by a power cut.

``SEATFLOW_FAULT=after-send:3`` kills the process (SIGKILL) the third time it comes by that point.
Without the variable a point costs a comparison.
"""

from __future__ import annotations

import os
import signal

POINTS = (
    "after-fence",  # the partition is ours, nothing read yet
    "during-restore",  # some rows are read
    "before-send",  # computed, the transaction is not begun
    "after-send",  # the records are in the log, the transaction is open
    "after-commit",  # committed, group offsets not noted
    "seats-asked",  # committed, with a request for seats that nobody has answered yet
)


def _parse(text: str) -> tuple[str, int]:
    """``name:count``; a name alone counts once. Raises ValueError for a name that is no point."""
    name, _, count = text.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"SEATFLOW_FAULT is {text!r}: must be one of {', '.join(POINTS)}")
    return name, int(count or 1)


_point, _left = _parse(os.environ.get("SEATFLOW_FAULT", ""))


def hit(point: str) -> None:
    global _left
    if point == _point:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
