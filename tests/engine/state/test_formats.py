"""A release refuses rows and messages of a later release's format."""

from __future__ import annotations

import pytest

from engine.state.formats import (
    MESSAGE_FORMAT,
    ROW_FORMAT,
    NewerFormatError,
    check_message_format,
    check_row_format,
)


def test_formats_up_to_ones_own_are_read() -> None:
    for known in range(ROW_FORMAT + 1):
        check_row_format(known)
    for known in range(MESSAGE_FORMAT + 1):
        check_message_format(known, "internal.configuration")


def test_a_later_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(NewerFormatError, match=f"rows of format {ROW_FORMAT + 1}"):
        check_row_format(ROW_FORMAT + 1)
    with pytest.raises(NewerFormatError, match=r"internal\.x holds a message of format"):
        check_message_format(MESSAGE_FORMAT + 1, "internal.x")
