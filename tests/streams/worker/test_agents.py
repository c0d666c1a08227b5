"""The agents consume and keep what the machines of a partition handle and load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.partition_machine import PartitionMachine
from engine.state.formats import FORMAT_TABLE
from streams.contract.topics import CONSUMED
from streams.kafka.faust_adapter import create_app
from streams.runtime.settings import load_settings
from streams.worker import agents
from streams.worker.agents import AGENTS, FORWARDED, MachineAgent, define_agents


@pytest.fixture
def machine() -> Any:
    return PartitionMachine(0, 1)


def owner_of(machine: Any, function: Callable[..., Any]) -> str:
    """The attribute of the partition's machine behind a handler or loader.

    Configuration comes to the user machine first, which decides by it.
    """
    if code := getattr(function, "__code__", None):
        names = [name for name in code.co_names if name in vars(machine)]
        if names and function.__name__ == "<lambda>":
            return str(names[0])
    target = function.__self__  # type: ignore[attr-defined]
    if target in (machine, machine.configuration):
        return "users"
    for agent in AGENTS:
        part = getattr(machine, agent.machine)
        if target is part or target is getattr(part, "restore", None):
            return agent.machine
    raise AssertionError(f"no agent for {function}")


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.machine)
def test_an_agent_consumes_what_its_machine_handles(machine: Any, agent: MachineAgent) -> None:
    handled = {t for t, f in machine._handlers.items() if owner_of(machine, f) == agent.machine}
    assert set(agent.topics) == handled


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.machine)
def test_an_agent_names_the_tables_that_its_machine_keeps(
    machine: Any, agent: MachineAgent
) -> None:
    loaders = {table: load for table, load in machine._loaders.items() if table != FORMAT_TABLE}
    kept = {t for t, load in loaders.items() if owner_of(machine, load) == agent.machine}
    assert set(agent.tables) == kept


def test_each_topic_and_each_table_has_one_agent() -> None:
    topics = [topic for agent in AGENTS for topic in agent.topics]
    assert sorted([*topics, FORWARDED]) == sorted(CONSUMED)
    tables = [table for agent in AGENTS for table in agent.tables]
    assert len(set(tables)) == len(tables)


def test_faust_has_these_agents() -> None:
    host: Any = SimpleNamespace()
    app = create_app(load_settings(_env_file=None), host)
    define_agents(app, lambda batch: None)
    assert set(app.agents) == {"forwarded", *(agent.machine for agent in AGENTS)}
    assert set(app.agents["forwarded"].channel.topics) == {"licensing." + FORWARDED}
    for agent in AGENTS:
        channel = app.agents[agent.machine].channel
        assert set(channel.topics) == {"licensing." + topic for topic in agent.topics}


def test_the_agents_fit_on_a_screen_or_two() -> None:
    assert len(Path(agents.__file__).read_text().splitlines()) < 100
