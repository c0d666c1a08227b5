"""Each fault point is in the code once, and some test kills a worker there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime.fault_injection import POINTS, _parse
from tests.support.fault_points import KILLS

ROOT = Path(__file__).resolve().parents[3]


def triggered() -> Iterator[str]:
    """Yields the points that the code passes, one for each call."""
    for path in sorted((ROOT / "streams").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "fault_injection.trigger":
                (point,) = node.args
                assert isinstance(point, ast.Constant), f"{path}:{node.lineno}: name the point"
                yield str(point.value)


def test_the_table_has_the_points_of_the_code() -> None:
    assert sorted(triggered()) == sorted(POINTS)


def test_every_point_is_one_at_which_a_test_kills_a_worker() -> None:
    assert {point for points in KILLS.values() for point in points} == set(POINTS)


@pytest.mark.parametrize("test", KILLS)
def test_the_tests_of_the_table_take_their_points_from_it(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    (found,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    text = ast.unparse(found)
    assert "KILLS[" in text
    assert "SEATFLOW_FAULT" in text
    assert "signal.SIGKILL" in text  # asserts that the worker died there


def test_an_unknown_point_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="must be one of after-fence"):
        _parse("nowhere:3")
    assert _parse("after-send:3") == ("after-send", 3)
    assert _parse("after-send") == ("after-send", 1)
