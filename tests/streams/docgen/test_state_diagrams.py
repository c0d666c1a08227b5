"""State diagrams are rendered from transition tables and put between a page's markers."""

from __future__ import annotations

from enum import Enum, auto

import pytest

from streams.docgen.state_diagrams import render, with_diagrams


class Door(Enum):
    """The states of a door."""

    CLOSED = auto()
    WIDE_OPEN = auto()


TRANSITIONS = (
    (Door.CLOSED, "push", Door.WIDE_OPEN),
    (Door.CLOSED, "lock", Door.CLOSED),
    (Door.WIDE_OPEN, "pull", Door.CLOSED),
)


def test_each_state_is_followed_by_its_transitions() -> None:
    assert render(TRANSITIONS) == (
        "```text\n"
        "closed\n"
        "  ├─ push ──▶ wide open\n"
        "  └─ lock ──▶ closed\n"
        "wide open\n"
        "  └─ pull ──▶ closed\n"
        "```"
    )


def test_a_marked_diagram_is_replaced_and_the_rest_of_the_page_stays() -> None:
    page = "before\n<!-- states: door -->\nold\n<!-- /states -->\nafter\n"
    text = with_diagrams(page, {"door": TRANSITIONS})
    assert "old" not in text
    assert text.startswith("before\n<!-- states: door -->\n\n```text\n")
    assert text.endswith("```\n\n<!-- /states -->\nafter\n")
    assert with_diagrams(text, {"door": TRANSITIONS}) == text


def test_a_marker_without_a_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="window"):
        with_diagrams("<!-- states: window -->\n<!-- /states -->\n", {})
