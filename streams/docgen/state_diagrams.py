"""State diagrams of the documentation, rendered from the transition tables in the code.

A page marks the place of a diagram with two comments::

    <!-- states: NAME -->
    <!-- /states -->

``make docs`` rewrites the text between them, and a test fails while a page differs from its tables.
The rendering is plain text, so that it reads the same on the forge, on the site and in an editor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

from engine.machines.user_phase import TRANSITIONS as USER_TRANSITIONS
from streams.worker import partition_state

Transition = tuple[Enum, str, Enum]
"""One row of a transition table: source state, trigger, target state."""

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
MARKED = re.compile(r"(<!-- states: (?P<name>[\w -]+) -->\n).*?(<!-- /states -->)", re.DOTALL)


def tables() -> Mapping[str, Iterable[Transition]]:
    """Returns the transition tables by the name that a page gives in its marker."""
    return {
        "user": [(source, trigger.value, target) for source, trigger, target in USER_TRANSITIONS],
        "partition": partition_state.transitions(),
    }


def render(transitions: Iterable[Transition]) -> str:
    """Returns a fenced text block: each state in order of appearance, then its transitions."""
    by_source: dict[Enum, list[tuple[str, Enum]]] = {}
    for source, trigger, target in transitions:
        by_source.setdefault(source, []).append((trigger, target))
        by_source.setdefault(target, [])
    width = max((len(t) for row in by_source.values() for t, _ in row), default=0)
    lines = ["```text"]
    for source, row in by_source.items():
        lines.append(_label(source))
        for number, (trigger, target) in enumerate(row, 1):
            branch = "└" if number == len(row) else "├"
            lines.append(
                f"  {branch}─ {trigger} {'─' * (width - len(trigger))}──▶ {_label(target)}"
            )
    return "\n".join([*lines, "```"])


def _label(state: Enum) -> str:
    return state.name.lower().replace("_", " ")


def with_diagrams(text: str, diagrams: Mapping[str, Iterable[Transition]]) -> str:
    """Returns a page's text with each marked diagram replaced.

    Raises:
        KeyError: if a marker names a table that does not exist.
    """

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}\n{render(diagrams[match['name']])}\n\n{match[3]}"

    return MARKED.sub(replaced, text)


def page() -> str:
    """Returns the architecture page with its diagrams up to date."""
    return with_diagrams(PAGE.read_text(encoding="utf-8"), tables())
