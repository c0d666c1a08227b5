"""The project's habits, enforced: sizes, references, words, and the places where things belong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from streams.runtime import log_events

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("engine", "streams", "tests", "examples")
MAX_LINES = 400

OPENINGS = {
    "What": "a free relative hides what the thing is: begin with a noun or a verb",
    "How": "name the thing: 'The order of …', 'Computes …'",
    "Whether": "say what a True means: 'Returns True if …'",
    "Why": "name the thing: 'The reason for …'",
    "Where": "name the thing: 'The place of …'",
    "Who": "name the role: 'The owner of …'",
    "Whoever": "name the role",
    "Whatever": "name the thing",
}
WORDS = {
    r"anew": "recreated, again",
    r"at once": "immediately, or at the same time",
    r"(?:is|are|was|were) told": "name the message: 'receives', 'is reported'",
    r"own accord": "automatically",
    r"(?:to|by|for|of) who (?!\w+ )": "to the user who",
}
RULE = re.compile(r"\bR(\d{1,2})(?:\.(\d))?\b")
SECTION = re.compile(r"\b(rules|contract|architecture)(?:'s)?,? \(?section (\d+)")
ANY_SECTION = re.compile(r"\bsections? \d")
PATH = re.compile(
    r"(?<![\w./…*-])((?:engine|streams|tests|docs|deploy|examples)/[\w./-]*[\w-]"
    r"\.(?:pyx?|md|ya?ml|toml|jsonl?|html|csv))\b"
)
LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]*)(#[\w.-]+)?\)")
SECTIONED = {
    "rules": "docs/spec/rules.md",
    "contract": "docs/spec/contract.md",
    "architecture": "docs/architecture.md",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def code() -> tuple[Path, ...]:
    """All source files of the product and its tests."""
    found = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py*")]
    return tuple(sorted(path for path in found if path.suffix in (".py", ".pyx")))


@cache
def pages() -> tuple[Path, ...]:
    """All Markdown pages that are not generated."""
    found = [*ROOT.glob("*.md")]
    for folder in ("docs", "tests", "deploy", "examples", ".github"):
        found += (ROOT / folder).rglob("*.md")
    return tuple(sorted(p for p in found if not {"reference", "_build"} & set(p.parts)))


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


def prose(path: Path) -> str:
    """The text of a page without code blocks; of a module, its docstrings and comments."""
    if path.suffix == ".md":
        return re.sub(r"^```.*?^```", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    if path.suffix == ".pyx":
        return "\n".join(re.findall(r'#.*|""".*?"""', text_of(path), re.DOTALL))
    with path.open("rb") as source:
        tokens = tokenize.tokenize(source.readline)
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join([*(text for _, text in docstrings(path)), *comments])


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node)
            if found:
                yield getattr(node, "lineno", 1), found


def check(found: list[tuple[str, str]]) -> None:
    """Fails if there is a violation: pairs of file and violation."""
    assert not found, "\n".join(f"{path}: {what}" for path, what in found)


def test_files_stay_below_400_lines() -> None:
    sizes = {relative(path): len(text_of(path).splitlines()) for path in code()}
    check([(p, f"{n} lines") for p, n in sizes.items() if n >= MAX_LINES])


def test_docstrings_do_not_begin_with_a_question_word() -> None:
    check(
        [
            (relative(path), f"line {line}: {text.splitlines()[0]!r}: {OPENINGS[first]}")
            for path in code()
            if path.suffix == ".py"
            for line, text in docstrings(path)
            for first in [text.split(maxsplit=1)[0].rstrip(",:")]
            if first in OPENINGS
        ],
    )


def test_prose_uses_no_banned_word() -> None:
    found = []
    for path in (*code(), *pages()):
        if path == Path(__file__) or path.name == "prose.md":
            continue
        text = prose(path)
        for word, better in WORDS.items():
            pattern = rf"\b{word}" if word.endswith(")") else rf"\b{word}\b"
            found += [(relative(path), f"{h[0]!r}: {better}") for h in re.finditer(pattern, text)]
    check(found)


def sections(name: str) -> set[str]:
    return set(re.findall(r"^## (\d+)\. ", text_of(ROOT / SECTIONED[name]), re.MULTILINE))


def test_references_to_rules_and_sections_resolve() -> None:
    rules = text_of(ROOT / SECTIONED["rules"])
    numbers = set(re.findall(r"^### R(\d+)$", rules, re.MULTILINE))
    planned = set(re.findall(r"^- R(\d+):", rules, re.MULTILINE))
    known = {name: sections(name) for name in SECTIONED}
    found = []
    for path in (*code(), *pages()):
        text = prose(path)
        for hit in RULE.finditer(text):
            allowed = numbers | planned if path.parent.name == "spec" else numbers
            if hit[1] not in allowed or (hit[2] and not (hit[1] == "7" and hit[2] in "12345")):
                found.append((relative(path), f"there is no rule {hit[0]}"))
        named = SECTION.findall(text)
        found += [
            (relative(path), f"there is no section {number} of {name}")
            for name, number in named
            if number not in known[name]
        ]
        own = path.parent == ROOT / "docs" / "spec"  # a page may name a section of its own
        if len(ANY_SECTION.findall(text)) > len(named) and not own:
            found.append((relative(path), "a section without the name of its page"))
    check(found)


def test_paths_named_in_prose_exist() -> None:
    check(
        [
            (relative(path), f"there is no {name}")
            for path in (*code(), *pages())
            for name in PATH.findall(prose(path))
            if not (ROOT / name).exists()
        ],
    )


def test_links_between_pages_lead_somewhere() -> None:
    found = []
    for path in pages():
        for target, anchor in LINK.findall(text_of(path)):
            page = path if not target else (path.parent / target)
            if not page.exists():
                found.append((relative(path), f"there is no {target}"))
            elif anchor and page.suffix == ".md" and anchor[1:] not in anchors(page):
                found.append((relative(path), f"there is no {target}{anchor}"))
    check(found)


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page get on the forge and on the site."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_the_engine_imports_the_standard_library_alone() -> None:
    """But for RE2. Layers and circles are checked by import-linter (``make lint``)."""
    allowed = {*sys.stdlib_module_names, "engine", "mypy_extensions", "re2"}
    for path in code():
        if path.is_relative_to(ROOT / "engine") and path.suffix == ".py":
            foreign = {name for name in imports(path) if name.split(".")[0] not in allowed}
            assert not foreign, f"{relative(path)}: {foreign}"


LIBRARIES = ("faust", "mode", "aiokafka", "starlette", "fastapi", "scim2_server", "email_validator")
GUARDED = "streams/kafka/faust_adapter"


def test_private_names_of_libraries_are_in_the_guarded_module_alone() -> None:
    """Also those that a getattr would hide."""
    found = []
    for path in code():
        name = relative(path)
        if path.suffix != ".py" or not name.startswith("streams/") or name.startswith(GUARDED):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
                text = ast.unparse(node.args[1])
                if text.startswith("'_") and not text.startswith("'__"):
                    found.append((name, f"getattr of {text}"))
            if isinstance(node, ast.ImportFrom) and node.module:
                privates = [a.name for a in node.names if a.name.startswith("_")]
                if privates and node.module.split(".")[0] in (*LIBRARIES, "engine", "streams"):
                    found.append((name, f"{privates} of {node.module}"))
    check(found)


LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def test_every_event_that_is_logged_is_in_the_table() -> None:
    names = {event.name for event in log_events.EVENTS}
    found = []
    for path in code():
        if path.suffix != ".py" or not path.is_relative_to(ROOT / "streams"):
            continue
        for node in ast.walk(tree(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) == "log" and node.func.attr in LEVELS:
                event = node.args[0]
                given = ast.unparse(event).removeprefix("log_events.")
                name = ast.literal_eval(event) if isinstance(event, ast.Constant) else None
                if (name or getattr(log_events, given, None)) not in names:
                    found.append((relative(path), f"line {node.lineno}: {given}"))
    check(found)


@pytest.mark.parametrize("reason", [*OPENINGS.values(), *WORDS.values()])
def test_every_banned_word_has_its_reason(reason: str) -> None:
    assert reason


def test_git_has_no_symbolic_links() -> None:
    """One that leads out of the checkout is broken in every other one."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line for line in listed.stdout.splitlines() if line.startswith("120000")] == []
