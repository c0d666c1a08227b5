"""The rows of a CSV table, one by one, with the line on which each begins.

The csv module alone would read everything between a quote that is never closed and the next quote,
often the rest of the file, as one cell. Here such a row is reported, and reading continues on the
line after it. Cells of several lines are read as long as their lines do not look like rows.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO

# A row that is still open after this is taken for one with an open quote.
MAX_ROW_LINES = 500
MAX_ROW_CHARACTERS = 1 << 20

OPEN_QUOTE = (
    'not CSV: a quote (") is opened and not closed where its cell ends; write a quote that belongs'
    ' to the text twice ("")'
)
TOO_LONG = f"not CSV: the line has more than {MAX_ROW_CHARACTERS} characters"

Row = list[str]


def text_of(file: BinaryIO) -> TextIO:
    """Returns the text of a file in UTF-8.

    Bytes that are not UTF-8 become lone surrogates, which no event can hold: a bad row.
    """
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


class CsvRows:
    """The rows after the header.

    ``header``: the cells of the first line that is no preamble (``sep=;``, ``#TYPE``,
    ``version:v1.0``). ``looks_like_row``: set by the caller; tells, for the cells of a line that
    may be part of a cell, whether they are a row of their own.
    """

    def __init__(self, text: TextIO, delimiters: str = ",;\t") -> None:
        csv.field_size_limit(2 * MAX_ROW_CHARACTERS)
        self._text = text
        self._ahead: deque[str] = deque()
        self._line = 0
        self.looks_like_row: Callable[[Row], bool] = lambda _: False
        self._delimiter = ""
        first = self._preamble()
        if not self._delimiter:
            self._delimiter = max(delimiters, key=first.count)
        self.header: Row = next(csv.reader([first], delimiter=self._delimiter), [])

    def _preamble(self) -> str:
        """Skips the lines before the header; returns the header."""
        while line := self._next():
            bare = line.strip().strip('"').lower()
            if bare.startswith("sep=") and len(bare) <= len("sep=;"):
                self._delimiter = line.strip().strip('"')[4:] or "\t"
            elif bare and not bare.startswith(("version:", "#type ")):
                return line
        return ""

    def __iter__(self) -> Iterator[tuple[int, Row | str]]:
        """Yields each row, or the reason why it cannot be read, with its first line."""
        while line := self._next():
            number = self._line
            if len(line) > MAX_ROW_CHARACTERS:
                self._skip_line(line)
                yield number, TOO_LONG
            elif '"' in line:
                yield number, self._quoted(line)
            else:
                bare = line.rstrip("\r\n")
                yield number, bare.split(self._delimiter) if bare else []

    def _next(self) -> str:
        line = self._ahead.popleft() if self._ahead else self._text.readline(MAX_ROW_CHARACTERS + 1)
        self._line += 1
        return line

    def _skip_line(self, line: str) -> None:
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(MAX_ROW_CHARACTERS)

    def _quoted(self, first: str) -> Row | str:
        """Returns a row with quotes, which may go on over further lines."""
        lines, characters = [first], len(first)
        row = self._parsed(lines)
        while row is None:
            line = self._next()
            lines.append(line)
            characters += len(line)
            too_long = len(lines) > MAX_ROW_LINES or characters > MAX_ROW_CHARACTERS
            if not line or too_long or ('"' not in line and self._is_row(line)):
                return self._open_quote(lines)
            if '"' in line:  # no other line can close the quote
                row = self._parsed(lines)
        if isinstance(row, str) or (len(lines) > 1 and self._swallowed_rows(row)):
            return self._open_quote(lines)
        return row

    def _open_quote(self, lines: list[str]) -> str:
        """Puts back the lines after the first one; returns the reason."""
        self._ahead.extendleft(line for line in reversed(lines[1:]) if line)
        self._line -= len(lines) - 1
        return OPEN_QUOTE

    def _parsed(self, lines: list[str]) -> Row | str | None:
        """Returns the row, None if its last quote is still open, or a reason."""
        try:
            return next(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            return None if "unexpected end" in str(error) else str(error)

    def _is_row(self, line: str) -> bool:
        cells = next(csv.reader([line.rstrip("\r\n")], delimiter=self._delimiter), [])
        return len(cells) == len(self.header) and self.looks_like_row(cells)

    def _swallowed_rows(self, row: Row) -> bool:
        """Returns whether a row of several lines holds other rows in one of its cells."""
        if len(row) > len(self.header) or len(self.header) == 1:
            return True
        for at, cell in enumerate(row):
            _, *rest = cell.splitlines() or [""]
            for line in rest:
                cells = next(csv.reader([line], delimiter=self._delimiter), [])
                # The last line ends within a row; what follows there are the row's other cells.
                whole = [*cells, *row[at + 1 :]] if line is rest[-1] else cells
                if len(cells) > 1 and len(whole) >= len(self.header) and self.looks_like_row(cells):
                    return True
        return False
