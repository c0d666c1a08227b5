"""Rows of CSV tables: what is well-formed is read as the csv module reads it."""

import csv
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.csv_rows import OPEN_QUOTE, CsvRows

cells = st.text(alphabet="ab \",;\t\n'", max_size=12)


@given(
    st.lists(st.tuples(cells, cells, cells), max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_well_formed_rows_are_read_as_they_were_written(
    rows: list[tuple[str, str, str]], delimiter: str, end: str, quoting: Any
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["id", "name", "address"])
    writer.writerows(rows)
    text.seek(0)
    read = list(CsvRows(text))
    assert [row for _, row in read] == [list(row) for row in rows]
    line = 2
    for (number, _), row in zip(read, rows, strict=True):
        assert number == line
        line += 1 + sum(cell.count("\n") for cell in row)


@given(
    st.lists(st.sampled_from(['u1,a,"b', 'u2,"a",b', "u3,a,b", '"u4,a,b"', 'u5,a"b,"']), max_size=9)
)
def test_every_line_gives_a_row_or_a_reason(lines: list[str]) -> None:
    rows = CsvRows(io.StringIO("id,name,address\n" + "\n".join(lines), newline=""))
    rows.looks_like_row = lambda cells: cells[0].startswith("u")
    read = list(rows)
    assert [number for number, _ in read] == list(range(2, 2 + len(lines)))
    for (_, row), line in zip(read, lines, strict=True):
        if line in ("u3,a,b", 'u2,"a",b'):
            assert row == line.replace('"', "").split(",")
        elif line == 'u1,a,"b':
            assert row == OPEN_QUOTE
