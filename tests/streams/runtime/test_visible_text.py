"""Text of other people's acts on no terminal and hides nothing on a page."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from markupsafe import Markup

from streams.cli import errors, feed, feed_graph
from streams.ingest.items import FeedProblem
from streams.runtime.errors import SenderError
from streams.runtime.visible_text import visible_line, visible_name, visible_value

NASTY = "a\x1b]0;title\x07\x9b31m\u202eb\u200bc\td"


def test_a_line_has_no_escape_sequences() -> None:
    shown = visible_line(NASTY)
    assert shown == "a\\x1b]0;title\\x07\\x9b31m\\u202eb\\u200bc\td"
    assert visible_line("plain – ü") == "plain – ü"


def test_a_name_shows_what_hides_and_keeps_the_joiners() -> None:
    assert visible_name("a\u202eb") == "a⟨U+202E⟩b"
    assert visible_value("a\u202eb") == "a⟨U+202E⟩b"
    assert visible_value(Markup("a\u202eb")) == "a\u202eb"  # made of values, or sent again
    assert visible_name("\U0001f469\u200d\U0001f4bb") == "\U0001f469\u200d\U0001f4bb"


def test_the_messages_of_feeds_and_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    feed.report_notes(SimpleNamespace(skipped={NASTY: 1}, warnings=(NASTY,)))
    feed_graph._print_problem(FeedProblem("file", 1, NASTY))
    with pytest.raises(SystemExit):
        errors.fail(SenderError(NASTY))
    said = capsys.readouterr().err
    assert said.count("\\x1b") == 4
    for hidden in ("\x1b", "\x07", "\x9b", "\u202e", "\u200b"):
        assert hidden not in said
