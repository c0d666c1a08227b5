"""Deadlines in monotonic time: of one wait, or of a task whose phases share it."""

from __future__ import annotations

import math
import time


class Deadline:
    """A point in monotonic time, ``seconds`` from its creation; None means never."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    @property
    def has_passed(self) -> bool:
        """True if the deadline has passed."""
        return self._at is not None and time.monotonic() > self._at

    @property
    def remaining_seconds(self) -> float:
        """The time left, 0 if none is; infinity without a deadline."""
        return math.inf if self._at is None else max(0.0, self._at - time.monotonic())

    def extend(self) -> None:
        """Restarts the period: for deadlines that measure a lack of progress."""
        if self.seconds is not None:
            self._at = time.monotonic() + self.seconds
