"""The verdict on each attack, and the table of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.table import Table

LIMIT_SECONDS = 2.0
GROWTH_MIB = 300.0
RECORD_BYTES = 1 << 20
"""Of the greatest record that is not input: an output, a row, an internal message."""


@dataclass
class Row:
    """One attack and what the neighbour noticed. ``limit``: seconds that it may wait."""

    attack: str
    door: str
    limit: float = LIMIT_SECONDS
    waited: float = 0.0
    console: float = 0.0
    receiver: float = 0.0
    refused: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    growth_mib: float = 0.0
    still: str = ""
    problems: list[str] = field(default_factory=list)

    def reasons(self) -> list[str]:
        """Returns why the attack succeeded; nothing if it was held."""
        found = [
            f"the neighbour waited {waited:.1f} s for {what}"
            for what, waited in (
                ("a change", self.waited),
                ("the console", self.console),
                ("the receiver", self.receiver),
            )
            if waited > self.limit
        ]
        found += [f"{name} ended with {code}" for name, code in self.ended.items()]
        if self.refused:
            found.append(f"{self.refused} requests of the neighbour were refused")
        if self.growth_mib > GROWTH_MIB:
            found.append(f"a process grew by {self.growth_mib:.0f} MiB")
        return found + self.problems

    @property
    def held(self) -> bool:
        return not self.reasons()

    @property
    def word(self) -> str:
        if self.still:
            return (
                "held, so remove its `still`" if self.held else f"known to succeed ({self.still})"
            )
        return "held" if self.held else "SUCCEEDED"

    @property
    def good(self) -> bool:
        """True if the attack was held, or is known to succeed."""
        return self.held or bool(self.still)


def table(rows: list[Row], seed: int) -> Table:
    made = Table(title=f"seed {seed}", title_justify="left")
    for head in ("attack", "door", "change s", "console s", "receiver s", "+MiB", "verdict"):
        made.add_column(head, justify="right" if head.endswith((" s", "B")) else "left")
    for row in rows:
        times = (f"{each:.2f}" for each in (row.waited, row.console, row.receiver))
        verdict = "; ".join([row.word, *row.reasons()])
        made.add_row(row.attack, row.door, *times, f"{row.growth_mib:.0f}", verdict)
    return made
