"""The answers to representative what-if questions are, byte for byte, those that are kept.

A change of the rules may change an answer: look at the difference, then renew the files with
``SEATFLOW_RENEW_PINNED=1``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from streams.console.read_model.store import Store
from streams.console.whatif.answer import outcome
from tests.streams.console.local import World
from tests.streams.whatif.cases import NOW_MS, state, trials

PINNED = Path(__file__).parent / "pinned"
MOST_USERS = 100
CASES = sorted(trials())


def compare_with_pinned(name: str, answer: str) -> None:
    file = PINNED / name
    if os.environ.get("SEATFLOW_RENEW_PINNED"):
        file.write_text(answer)
    assert answer == file.read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tenant of the cases in a console's read model."""
    made = World(Store(tmp_path_factory.mktemp("whatif") / "console.sqlite3", ""))
    for events in state():
        made.publish(events)
    return made


@pytest.mark.parametrize("case", CASES)
def test_an_answer_of_the_console(world: World, case: str) -> None:
    """As JSON in the order in which the members are sent."""
    db = world.store.read_connection()
    answer = outcome(db, "contoso", trials()[case], MOST_USERS, NOW_MS)
    compare_with_pinned(f"console_{case}.json", json.dumps(answer, indent=1) + "\n")


@pytest.mark.parametrize("case", CASES)
def test_the_findings_of_simulate(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``seatflow simulate --json``, on the same state and events; no time passes."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    before.write_bytes(b"".join(value + b"\n" for step in state() for _, _, value in step))
    tried = [
        {"id": f"whatif-{n}", "tenant": "contoso", **body} for n, body in enumerate(trials()[case])
    ]
    after.write_text("".join(json.dumps(event) + "\n" for event in tried) + "nonsense\n")
    result = CliRunner().invoke(app, ["simulate", str(after), "--on", str(before), "--json"])
    assert result.exit_code == 1, result.output
    printed = result.stdout.replace(str(tmp_path), "")
    compare_with_pinned(f"simulate_{case}.jsonl", printed)
