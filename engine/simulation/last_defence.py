"""The last defence in the simulator: what ``streams/worker/replay.py`` does on a real worker.

A planted bug makes a machine fail at an event, after the event and everything before it is applied:
the worst moment. A planted stall there ends the worker, with all its partitions. Other exceptions
of the engine still end the simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.domain.events import Delivered
from engine.partition_machine import PartitionMachine
from engine.simulation import forwarding
from engine.simulation.forwarding import Forwarded, event_id, is_applied

DEAD_LETTERS = "dead-letters"


class PlantedBug(Exception):  # noqa: N818
    """The exception of a machine that meets a poisoned event."""


class PlantedStall(Exception):  # noqa: N818
    """Stands for a machine whose processing of an event never ends."""


@dataclass(slots=True)
class Suspects:
    """The records of failed slices (topic -> offset after them), and the culprits found in them.

    ``on_trial``: a worker ended here, so a child process applies them first.
    """

    until: dict[str, int] = field(default_factory=dict)
    culprits: set[tuple[str, int]] = field(default_factory=set)
    on_trial: bool = False

    def are_left(self, applied: Mapping[str, int]) -> bool:
        """Returns True while records are to be applied one by one."""
        return any(applied.get(topic, 0) < end for topic, end in self.until.items())

    def handle(
        self,
        machine: PartitionMachine,
        topic: str,
        batch: list[Delivered],
        poison: frozenset[str],
        stalls: frozenset[str],
    ) -> list[Forwarded] | None:
        """Gives a batch to the machine, or a culprit to the dead letters.

        Returns the events to be forwarded; None if the machine fails.

        Raises:
            PlantedStall: if it never ends.
        """
        alone = self.on_trial and len(batch) == 1
        if alone and is_applied(machine, topic, batch[0]) and event_id(topic, batch[0]) in stalls:
            self.culprits.add((topic, batch[0].offset))
        if (topic, batch[0].offset) in self.culprits:
            letter = {"id": event_id(topic, batch[0]), "offset": batch[0].offset}
            machine.effects.records.append((DEAD_LETTERS, None, topic, letter))
            return []
        try:
            return self._handle(machine, topic, batch, poison, stalls)
        except PlantedBug:
            return None

    @staticmethod
    def _handle(
        machine: PartitionMachine,
        topic: str,
        batch: list[Delivered],
        poison: frozenset[str],
        stalls: frozenset[str],
    ) -> list[Forwarded]:
        for count, delivered in enumerate(batch, 1):
            if not is_applied(machine, topic, delivered):
                continue
            id = event_id(topic, delivered)
            if id in poison | stalls:
                forwarding.handle(machine, topic, batch[:count])
                raise PlantedStall if id in stalls else PlantedBug
        return forwarding.handle(machine, topic, batch)

    def try_all(self, backlog: Mapping[str, int]) -> None:
        """The last worker ended where this one goes on; ``backlog``: the ends of the logs."""
        self.until |= backlog
        self.on_trial = True

    def note_failure(
        self, topic: str, end: int, applied: Mapping[str, int], committed: Mapping[str, int]
    ) -> None:
        """Notes that the batch of a topic up to ``end`` failed; alone, its record is a culprit."""
        if self.are_left(applied):
            self.culprits.add((topic, end - 1))
        for name, after in {**applied, topic: end}.items():
            if after > committed.get(name, 0):
                self.until[name] = max(after, self.until.get(name, 0))
