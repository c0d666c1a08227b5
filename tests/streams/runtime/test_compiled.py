"""The compiled modules: used where they are of these sources, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.runtime import compiled

LATE = "import engine.domain.events; "
ASK = (
    "import streams; from engine.machines import user_machine as m;"
    " print(streams.COMPILED, m.__file__)"
)


def imported(before: str = "", **env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", before + ASK],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_they_are_used_where_they_are_up_to_date() -> None:
    if not compiled.up_to_date():
        pytest.skip("not compiled, or of other sources: make compile")
    used, file = imported(SEATFLOW_PURE="")
    assert used == "True"
    assert Path(file).is_relative_to(compiled.BUILD)


def test_the_plain_ones_can_be_had_all_the_same() -> None:
    used, file = imported(SEATFLOW_PURE="1")
    assert used == "False"
    assert file.endswith("engine/machines/user_machine.py")


def test_plain_and_compiled_modules_are_never_mixed() -> None:
    used, file = imported(before=LATE, SEATFLOW_PURE="")
    assert used == "False"
    assert file.endswith("engine/machines/user_machine.py")


def test_a_build_of_other_sources_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEATFLOW_PURE", raising=False)
    monkeypatch.setattr(compiled, "BUILD", tmp_path)
    (tmp_path / compiled.STAMP).write_text(compiled.fingerprint())
    assert compiled.up_to_date()
    changed = tmp_path / "users.py"
    changed.write_text("# another line\n")
    monkeypatch.setattr(compiled, "sources", lambda: [changed])
    assert not compiled.up_to_date()
    assert not compiled.use()


def test_every_hot_module_is_there() -> None:
    assert all(path.is_file() for path in compiled.sources())
