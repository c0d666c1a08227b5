"""Files of another format and misspelt events: `seatflow feed` names them, with what to do."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from streams.runtime.errors import CONFIGURATION
from tests.streams.cli.test_cli import Run, line, seatflow, user

__all__ = ["seatflow"]

# --- files ---------------------------------------------------------------------------------------

EVENT = json.dumps(user("ann"))


def workbook() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("events.jsonl", EVENT)
    return file.getvalue()


JSONL, CSV, CATALOG = ["jsonl"], ["csv", "--tenant", "t"], ["catalog"]
GRAPH, SCIM = ["graph", "--tenant", "t"], ["scim", "--tenant", "t"]
TABLE = b"userPrincipalName,usageLocation\nann@x.example,US\nbob@x.example,US\n"
PRODUCTS = b"Product_Display_Name,String_Id,GUID,Service_Plan_Name,Service_Plan_Id\nE3,E,1,a,2\n"
PAGE = b'{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#users","value":[]}'
BULK = b'{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[]}'


@pytest.mark.parametrize(
    ("command", "content", "words"),
    [
        (JSONL, workbook(), "an Excel workbook: save it as"),
        (CSV, workbook(), "an Excel workbook: save it as"),
        (CATALOG, workbook(), "an Excel workbook: save it as"),
        (CSV, b"\xd0\xcf\x11\xe0" + bytes(600), "an Excel workbook: save it as"),
        (JSONL, archive(), "a ZIP archive: unpack it first"),
        (JSONL, gzip.compress(EVENT.encode()), "gunzip -c FILE | seatflow feed jsonl"),
        (CSV, gzip.compress(TABLE), "compressed with gzip"),
        (GRAPH, gzip.compress(PAGE), "compressed with gzip"),
        (JSONL, b"\x28\xb5\x2f\xfd\x00", "compressed with zstd"),
        (JSONL, b"%PDF-1.7", "a PDF"),
        (JSONL, b"PAR1\x15", "a Parquet file"),
        (JSONL, b"\x89PNG\r\n\x1a\n\x00\x00", "a binary file"),
        (JSONL, f"[{EVENT}]".encode(), "one JSON array; this command reads JSON Lines"),
        (JSONL, json.dumps(user("ann"), indent=2).encode(), "goes on over several lines"),
        (JSONL, TABLE, "a CSV table: use `seatflow feed csv FILE --tenant ID`"),
        (JSONL, TABLE.replace(b",", b";"), "a CSV table: use `seatflow feed csv"),
        (JSONL, PRODUCTS, "seatflow feed catalog FILE"),
        (CSV, PRODUCTS, "seatflow feed catalog FILE"),
        (JSONL, PAGE, "a response of Microsoft Graph: use `seatflow feed graph"),
        (JSONL, BULK, "SCIM: use `seatflow feed scim"),
        (JSONL, b'{"op":"c","after":{"id":1}}', "use `seatflow feed debezium"),
        (CSV, EVENT.encode(), "JSON Lines of events: use `seatflow feed jsonl FILE`"),
        (CATALOG, EVENT.encode(), "JSON Lines of events: use `seatflow feed jsonl FILE`"),
        (CSV, PAGE, "use `seatflow feed graph"),
        (CSV, b"[1, 2]", "JSON, not a CSV table"),
        (GRAPH, TABLE, "a CSV table: use `seatflow feed csv"),
        (SCIM, TABLE, "a CSV table: use `seatflow feed csv"),
        (JSONL, b"<!DOCTYPE html><html>", "an HTML page, perhaps the login page"),
        (CSV, b"<?xml version='1.0'?><users/>", "XML; export it as JSON or CSV"),
        (CSV, b"", "is empty"),
        (CSV, b"\xef\xbb\xbf\r\n", "is empty"),
        (CATALOG, b"\n", "is empty"),
    ],
    # Without the bytes of the file: those of an archive hold the time of day.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_format_is_recognized(
    seatflow: Run, command: list[str], content: bytes, words: str
) -> None:
    Path("file").write_bytes(content)
    kind, *options = command
    ended = seatflow("feed", kind, "file", *options, "--dry-run")
    assert ended.code == CONFIGURATION, ended
    assert line(ended).startswith("seatflow: file is ")
    assert words in line(ended)
    assert ended.out == ""


@pytest.mark.parametrize(
    ("command", "content", "published", "words"),
    [
        (JSONL, b"", 0, "file is empty"),
        (CSV, b"userPrincipalName,usageLocation\n", 0, "file has a header and no rows"),
        (CSV, TABLE.replace(b",", b";"), 2, ""),
        (CSV, TABLE.decode().encode("utf-16"), 2, ""),
        (JSONL, EVENT.encode("utf-16"), 1, ""),
        (JSONL, b"\xef\xbb\xbf" + EVENT.encode(), 1, ""),
        (CSV, TABLE.replace(b"usageLocation", b"usageLocaton"), 2,
         "the column 'usageLocaton' is ignored: did you mean usageLocation?"),
    ],
)  # fmt: skip
def test_a_file_that_is_read_with_a_warning_or_none(
    seatflow: Run, command: list[str], content: bytes, published: int, words: str
) -> None:
    Path("file").write_bytes(content)
    kind, *options = command
    ended = seatflow("feed", kind, "file", *options, "--dry-run")
    assert ended.code == 0, ended
    assert f"{published:,} events would be published" in ended.err
    assert words in ended.err
    assert ("warning" in ended.err) == bool(words)


def test_a_file_of_nothing_but_errors_stops_after_the_first_hundred(seatflow: Run) -> None:
    Path("file").write_bytes(b"\n".join(b"{line %d" % n for n in range(100_000)))
    ended = seatflow("feed", "jsonl", "file", "--dry-run")
    assert ended.code == 1
    *problems, last = ended.err.splitlines()
    assert len(problems) == 100
    assert "Stopped: not one of the first 100 rows can be read" in last


def test_errors_after_a_good_row_stop_nothing(seatflow: Run) -> None:
    Path("file").write_text("\n".join([EVENT, *["{"] * 300, EVENT]))
    ended = seatflow("feed", "jsonl", "file", "--dry-run")
    assert ended.code == 1
    assert "2 events would be published" in ended.err
    assert "300 bad rows" in ended.err


def test_a_table_of_products_is_read_whole_whatever_its_errors(seatflow: Run) -> None:
    """Its problems come first, so they say nothing about the rest."""
    Path("file").write_bytes(PRODUCTS + b"cut\n" * 150)
    ended = seatflow("feed", "catalog", "file", "--dry-run")
    assert "1 events would be published" in ended.err
    assert "150 bad rows" in ended.err


def test_text_that_is_not_utf_8_says_how_to_save_it(seatflow: Run) -> None:
    Path("file").write_bytes("userPrincipalName,displayName\nann@x.example,Zoë\n".encode("latin-1"))
    ended = seatflow("feed", "csv", "file", "--tenant", "t", "--dry-run")
    assert ended.code == 1
    assert "file:2: the text is not valid UTF-8: save the file as UTF-8 (in Excel: CSV" in ended.err


# --- events --------------------------------------------------------------------------------------


def feed_events(seatflow: Run, *events: object) -> tuple[int, str]:
    Path("file").write_text("\n".join(map(json.dumps, events)))
    ended = seatflow("feed", "jsonl", "file", "--dry-run")
    return ended.code, ended.err


def test_unknown_members_are_allowed_and_reported_once(seatflow: Run) -> None:
    events = [user(f"u{n}", usagelocation="US", costCentre="7") for n in range(3)]
    code, told = feed_events(seatflow, user("ann"), *events)
    assert code == 0
    assert "4 events would be published" in told
    lines = [each for each in told.splitlines() if each.startswith("warning")]
    assert sorted(lines) == [
        "warning: file:2: user.upserted has a member that is not known and is ignored:"
        " costCentre, in 3 events",
        "warning: file:2: user.upserted has a member that is not known and is ignored:"
        " usagelocation (did you mean usageLocation?), in 3 events",
    ]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"type": "subscription.updated", "tenant": "t", "skuId": "e3",
          "prepaidUnits": {"enable": 5}}, "prepaidUnits.enable (did you mean enabled?)"),
        ({"type": "licenses.changed", "tenant": "t", "user": "ann",
          "addLicenses": [{"skuId": "e3", "disabledPlan": ["a"]}]},
         "addLicenses.disabledPlan (did you mean disabledPlans?)"),
        ({"type": "product.defined", "skuId": "e3",
          "servicePlans": [{"servicePlanId": "a", "mailenabled": True}]},
         "servicePlans.mailenabled (did you mean mailEnabled?)"),
        ({"type": "tenant.updated", "tenant": "t", "policies": {"seat_retry": "manual"}},
         "policies.seat_retry (did you mean seatRetry?)"),
        ({"specversion": "1.0", "type": "user.upserted", "source": "/hr", "myextension": "x",
          "data": {"tenant": "t", "user": "ann", "displayname": "Ann"}},
         "displayname (did you mean displayName?)"),
    ],
)  # fmt: skip
def test_members_of_nested_objects_too(seatflow: Run, event: dict[str, object], words: str) -> None:
    code, told = feed_events(seatflow, {"id": "1", **event})
    assert code == 0, told
    (warning,) = [each for each in told.splitlines() if each.startswith("warning")]
    assert words in warning


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (user("ann") | {"usageLocation": "UK"}, "ISO 3166-1: did you mean GB?"),
        ({"type": "user.upsertd", "id": "1"}, "did you mean user.upserted?"),
        ({"type": "membership.added", "id": "1", "tenant": "t", "user": "a", "grp": "g"},
         "group is missing"),
        ({"type": "membership.added", "id": "1", "tenant": "t", "user": "a", "Group": "g"},
         "unknown: Group (did you mean group?)"),
        ({"type": "licenses.changed", "id": "1", "tenant": "t", "user": "a",
          "addLicenses": [{"skuID": "e3"}]}, "addLicenses.skuID (did you mean skuId?)"),
    ],
)  # fmt: skip
def test_a_refused_event_says_what_was_probably_meant(
    seatflow: Run, event: dict[str, object], words: str
) -> None:
    code, told = feed_events(seatflow, event)
    assert code == 1
    assert words in told
