"""A counter of objects by the states that they are in."""

from __future__ import annotations

from collections import Counter


class StateCounter(Counter[str]):
    """The number of objects in each state now."""

    def move(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Takes one object out of the states ``old`` and puts it into the states ``new``."""
        if old != new:
            self.subtract(old)
            self.update(new)
