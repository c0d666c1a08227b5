"""The documentation: its examples are true, its commands exist, and it builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from tests.docs.examples import Story, examples

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLES = [
    (path.stem, title, lines)
    for path in sorted(DOCS.rglob("*.md"))
    for title, lines in examples(path)
]


@pytest.mark.parametrize(
    ("page", "title", "lines"), EXAMPLES, ids=[f"{page}: {title}" for page, title, _ in EXAMPLES]
)
def test_a_worked_example(page: str, title: str, lines: list[str]) -> None:
    story = Story()
    for line in lines:
        story.tell(line)


def test_there_are_examples_on_every_page_of_concepts() -> None:
    pages = {page for page, _, _ in EXAMPLES}
    assert {path.stem for path in (DOCS / "concepts").glob("*.md")} - {"index"} <= pages


def test_an_example_that_is_wrong_fails() -> None:
    story = Story()
    story.tell("ann arrives")
    with pytest.raises(AssertionError, match="it is: nothing"):
        story.tell("-> ann: e3 direct Active")
    with pytest.raises(ValueError, match="no such event"):
        story.tell("ann sings")


def test_the_links_between_the_pages_lead_somewhere() -> None:
    ours = [path for folder in ("start", "concepts", "spec", "feeding", "guides") for path in
            (DOCS / folder).glob("*.md")]  # fmt: skip
    for path in [DOCS / "index.md", *ours]:
        for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path}: {link}"


def commands_in(text: str) -> set[tuple[str, ...]]:
    """The ``seatflow …`` commands of code blocks: their words up to the first that is a value."""
    found = set()
    for block in re.findall(r"^```(?:bash|console|sh|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in re.findall(r"(?:^|\$ |bin/|&& )seatflow ([^\n|&]*)", block, re.MULTILINE):
            words = line.split()
            nested = words[0] in ("feed", "topics", "plan", "dead-letters")
            found.add((*words[: 2 if nested else 1], *(w for w in words if w.startswith("--"))))
    return found


def test_the_commands_in_the_pages_exist() -> None:
    runner = CliRunner()
    for path in DOCS.rglob("*.md"):
        for command in commands_in(path.read_text(encoding="utf-8")):
            words = [word for word in command if not word.startswith("--")]
            result = runner.invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
            assert result.exit_code == 0, f"{path}: seatflow {' '.join(words)}"
            for flag in set(command) - set(words):
                assert flag.partition("=")[0] in result.output, f"{path}: {command}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html",
         "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr[-4000:]
    assert (tmp_path / "html" / "concepts" / "admission.html").exists()
