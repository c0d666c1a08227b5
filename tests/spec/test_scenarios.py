"""The second writing of the rules passes the shared scenarios: this is what makes it an oracle."""

from __future__ import annotations

import pathlib

import pytest

from tests.spec.contract import UnreadableError, read
from tests.spec.world import World
from tests.support.scenario_player import SCENARIOS, Published, play, play_all


class WorldTarget:
    """The oracle behind the same door as a real system."""

    def __init__(self) -> None:
        self.world = World()
        self.dead: list[Published] = []
        self.count = 0

    def publish(self, topic: str, key: str, value: bytes) -> None:
        self.count += 1
        try:
            event = read(topic, key, value, {})
        except UnreadableError:
            self.dead.append(("dead-letters", key, value))
        else:
            self.world.apply(topic, event, (self.count, 0))

    def settle(self) -> None:
        """A world is always settled."""

    def records(self) -> list[Published]:
        return [*self.world.log, *self.dead]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_oracle_passes_the_scenario(path: pathlib.Path) -> None:
    assert play(path, WorldTarget()) == []


def test_the_oracle_passes_all_scenarios_as_tenants_of_one_system() -> None:
    failures = play_all(SCENARIOS, WorldTarget())
    assert {name: some for name, some in failures.items() if some} == {}
