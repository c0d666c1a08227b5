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
        """Whether the time is over."""
        return self._at is not None and time.monotonic() > self._at

    def extend(self) -> None:
        """Starts the time again: for deadlines that measure a lack of progress."""
        if self.seconds is not None:
            self._at = time.monotonic() + self.seconds
