"""Microsoft's table of products as spreadsheets save it, and what is said of a bad row."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.ingest import FeedError, FeedItem, FeedProblem, events_from_catalog

HEADER = (
    "Product_Display_Name,String_Id,GUID,Service_Plan_Name,Service_Plan_Id,"
    "Service_Plans_Included_Friendly_Names"
)
E3 = "6fd2c87f-b296-42f0-b197-1e91e994b900"
E1 = "18181a46-0d4e-45cd-891e-60aabd171b4e"
EXCHANGE = "efb87545-963c-4e0d-99df-69c6916d9eb0"
SWAY = "a23b959c-7ce8-4e57-9140-b90eb88a9e97"
SMALL = "9aaf7827-d63c-4b61-89c3-182f06f82e5c"
OFFICE_E3 = f"Office 365 E3,ENTERPRISEPACK,{E3}"
ROWS = [
    f"{OFFICE_E3},EXCHANGE_S_ENTERPRISE,{EXCHANGE},Exchange",
    f"{OFFICE_E3},SWAY,{SWAY},Sway",
    f"Office 365 E1,STANDARDPACK,{E1},EXCHANGE_S_STANDARD,{SMALL},Exchange",
]


def table(path: Path, *rows: str, encoding: str = "utf-8", first: str = HEADER) -> Path:
    path.write_bytes("\r\n".join([first, *rows, ""]).encode(encoding))
    return path


def read(path: Path) -> tuple[dict[str, list[str]], list[tuple[int, str]]]:
    """The plans of each product, and the problems."""
    plans: dict[str, list[str]] = {}
    problems = []
    for item in events_from_catalog(path):
        if isinstance(item, FeedProblem):
            problems.append((item.line, item.reason))
        elif isinstance(item, FeedItem):
            body: dict[str, Any] = json.loads(item.value)
            plans[body["skuId"]] = [each["servicePlanId"] for each in body["servicePlans"]]
    return plans, problems


ALL = {E3: [EXCHANGE, SWAY], E1: [SMALL]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_encoding_of_a_spreadsheet(tmp_path: Path, encoding: str) -> None:
    assert read(table(tmp_path / "p.csv", *ROWS, encoding=encoding)) == (ALL, [])


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("named", [True, False])
def test_every_separator(tmp_path: Path, delimiter: str, named: bool) -> None:
    rows = [row.replace(",", delimiter) for row in (HEADER, *ROWS)]
    first = [f"sep={delimiter}"] if named else []
    assert read(table(tmp_path / "p.csv", *rows[1:], first="\r\n".join([*first, rows[0]]))) == (
        ALL,
        [],
    )


def test_an_open_quote_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    open_last = ROWS[0].removesuffix("Exchange") + '"Exchange'
    plans, [(line, reason)] = read(table(tmp_path / "p.csv", open_last, *ROWS[1:]))
    assert (line, plans) == (2, ALL)  # the cells before the quote are complete
    assert "quotation mark" in reason
    # An open quote in a cell that is needed: this row alone is lost.
    open_name = ROWS[1].replace("SWAY", '"SWAY')
    plans, [(line, _)] = read(table(tmp_path / "p.csv", ROWS[0], open_name, ROWS[2]))
    assert (line, plans) == (3, {E3: [EXCHANGE], E1: [SMALL]})
    # One that a later row closes spans no rows either.
    plans, problems = read(
        table(tmp_path / "p.csv", open_last, ROWS[1].replace("Sway", 'Sway"'), ROWS[2])
    )
    assert [line for line, _ in problems] == [2]
    assert plans == ALL


def test_quoted_cells_hold_separators_and_quotes(tmp_path: Path) -> None:
    row = f'"Windows, 8 GB ""Preview"" ",CPC,{E3},CPC_2,{SWAY},5" screen'
    assert read(table(tmp_path / "p.csv", row)) == ({E3: [SWAY]}, [])


def test_guids_that_count_up_are_accepted_with_a_warning(tmp_path: Path) -> None:
    rows = [f"{OFFICE_E3[:-1]}{n},PLAN{n},{SWAY[:-1]}{n},x" for n in range(3)]
    feed = events_from_catalog(table(tmp_path / "p.csv", *rows))
    assert len(list(feed)) == 3
    [warning] = feed.warnings
    assert "ENTERPRISEPACK" in warning
    assert "lines 2, 3, 4" in warning
    assert events_from_catalog(table(tmp_path / "p.csv", *ROWS)).warnings == []


def test_habits_of_the_published_table(tmp_path: Path) -> None:
    upper = f"Free Two,FREE,{E3.upper()} ,PLAN_B,{SWAY},x"
    rows = [
        f"Free,FREE,{E3},PLAN_A,{EXCHANGE},x",
        upper,
        f"Store,STORE\u00a0,{E1}\u00a0,S,{SMALL},x",
    ]
    file = table(tmp_path / "p.csv", *rows, encoding="cp1252", first="???" + HEADER)
    assert read(file) == (ALL, [])


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"a,b\n1,2\n", b"\xff\xfea\x00\n"):
        (tmp_path / "p.csv").write_bytes(content)
        with pytest.raises(FeedError):
            events_from_catalog(tmp_path / "p.csv")
