"""A deadline that several phases of a task share."""

from __future__ import annotations

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

    def extend(self) -> None:
        """Restarts the period: for deadlines that measure a lack of progress."""
        if self.seconds is not None:
            self._at = time.monotonic() + self.seconds
