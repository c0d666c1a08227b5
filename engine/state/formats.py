"""The format numbers of persisted rows and internal messages, and the refusal of newer ones.

Workers of two releases run side by side during a rolling upgrade, and a partition may move from
either to the other. A release reads every format up to its own and refuses later ones.
"""

from __future__ import annotations

from typing import Final

FIRST_FORMAT: Final = 1
"""The format of a changelog without a format row and of a message without a ``format`` member."""

# Before ROW_FORMAT or MESSAGE_FORMAT is raised:
#  1. The new layout is in one of the modules *_codecs.py, and the decoder
#     there still reads every earlier layout: the number of fields says which a row has, since
#     rows of earlier formats stay in the changelog until they are next written.
#  2. tests/golden/rows/vN holds rows of the format that is left behind (see the README there), and
#     tests/engine/state/test_golden_rows.py restores them.
#  3. docs/formats.md is renewed with `make docs`.
#  4. Messages keep the format of their layout, so that those which have not changed are read by
#     workers of the earlier release during a rolling upgrade. A new layout is sent to partitions
#     only that are known to read it, as address_message_codecs.py does, or the change log says
#     that the earlier workers have to be stopped first.
#  5. The change log says that workers of the earlier release cannot take back a partition or read
#     a message that this release has written: the upgrade then goes one way.
ROW_FORMAT: Final = 2
MESSAGE_FORMAT: Final = 2

FORMAT_TABLE: Final = "format"
FORMAT_KEY: Final = "rows"


class NewerFormatError(Exception):
    """State or a message was written by a later release, so this one must not go on."""


def check_row_format(found: int) -> None:
    """Raises NewerFormatError if the changelog holds rows of a later format than ROW_FORMAT."""
    if found > ROW_FORMAT:
        raise NewerFormatError(_refusal("the changelog holds rows", found, ROW_FORMAT))


def check_message_format(found: int, topic: str) -> None:
    """Raises NewerFormatError if a message has a later format than MESSAGE_FORMAT."""
    if found > MESSAGE_FORMAT:
        raise NewerFormatError(_refusal(f"{topic} holds a message", found, MESSAGE_FORMAT))


def _refusal(what: str, found: int, known: int) -> str:
    return (
        f"{what} of format {found}, and this release reads up to format {known}: a later release of"
        " Seatflow has written it; run that release or a later one"
    )
