"""Entra's templates and exports as events."""

import csv
import time
import tracemalloc
from pathlib import Path

import pytest

from streams.ingest import FeedError, FeedItem, FeedProblem
from streams.ingest.entra_csv import events_from_csv
from streams.ingest.event_builder import user_id
from tests.streams.ingest.played import Played, events, told
from tests.support.timing import limit_seconds

CREATE = (
    "version:v1.0\r\n"
    "Name [displayName] Required,User name [userPrincipalName] Required,"
    "Initial password [passwordProfile] Required,Block sign in (Yes/No) [accountEnabled] Required,"
    "First name [givenName],Last name [surname],Usage location [usageLocation]\r\n"
    "Example: Chris Green,chris@contoso.com,myPassword1234,No,Chris,Green,US\r\n"
)
MEMBERS = "version:v1.0\nMember object ID or user principal name [memberObjectIdOrUpn] Required\n"


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_the_template_for_new_users(tmp_path: Path) -> None:
    rows = (
        "Ann Ä,Ann@Contoso.example,secret,No,Ann,,US\r\nBob,bob@contoso.example,secret,Yes,,,\r\n"
    )
    for encoding in ("utf-8", "utf-8-sig"):
        file = written(tmp_path / "users.csv", CREATE + rows, encoding)
        found = list(events_from_csv(file, "contoso"))
        assert events(found) == [
            {
                "type": "user.upserted",
                "user": "ann@contoso.example",
                "userPrincipalName": "Ann@Contoso.example",
                "displayName": "Ann Ä",
                "usageLocation": "US",
                "attributes": {"givenName": "Ann"},
            },
            {
                "type": "user.upserted",
                "user": "bob@contoso.example",
                "userPrincipalName": "bob@contoso.example",
                "displayName": "Bob",
            },
        ]
        assert b"secret" not in b"".join(item.value for item in found if type(item) is FeedItem)


def test_attributes_of_text_are_read_for_rules_and_reports(tmp_path: Path) -> None:
    file = written(
        tmp_path / "users.csv",
        "upn,Department,Job title,Office location [physicalDeliveryOfficeName],cost center,"
        "extensionAttribute7,extensionAttribute1,accountEnabled,division\n"
        "ann@x.example,Sales, Engineer ,2/07,CC-7,floor 1,x,No,\n",
    )
    (user,) = events(events_from_csv(file, "t"))
    assert user["attributes"] == {
        "department": "Sales",
        "jobTitle": "Engineer",
        "physicalDeliveryOfficeName": "2/07",
        "costCenter": "CC-7",
        "extensionAttribute7": "floor 1",
        "extensionAttribute1": "x",
    }


def test_the_templates_for_members_and_for_deletion(tmp_path: Path) -> None:
    file = written(tmp_path / "members.csv", MEMBERS + "ann@contoso.example\nu-2\n")
    joined = events(events_from_csv(file, "t", group="g"))
    assert joined == [
        {"type": "membership.added", "user": "ann@contoso.example", "group": "g"},
        {"type": "membership.added", "user": "u-2", "group": "g"},
    ]
    left = events(events_from_csv(file, "t", group="g", remove=True))
    assert [each["type"] for each in left] == ["membership.removed"] * 2
    deleted = written(
        tmp_path / "delete.csv",
        "version:v1.0\nUser name [userPrincipalName] Required\nann@contoso.example\n",
    )
    assert events(events_from_csv(deleted, "t", remove=True)) == [
        {"type": "user.deleted", "user": "ann@contoso.example"}
    ]
    preview = written(tmp_path / "preview.csv", "ObjectId\nu-2\n")
    assert events(events_from_csv(preview, "t", group="g"))[0]["user"] == "u-2"


def test_an_export_and_a_plain_table(tmp_path: Path) -> None:
    export = written(
        tmp_path / "export.csv",
        "userPrincipalName,displayName,surname,mail,objectId,userType,usageLocation\n"
        "ann@x.example,Ann,A,ann@x.example,0b1e,Member,DE\n",
    )
    assert events(events_from_csv(export, "t")) == [
        {
            "type": "user.upserted",
            "user": "0b1e",
            "userPrincipalName": "ann@x.example",
            "displayName": "Ann",
            "usageLocation": "DE",
            "mail": "ann@x.example",
            "attributes": {"surname": "A", "userType": "Member"},
        }
    ]
    plain = written(
        tmp_path / "plain.csv",
        "id;upn;alias;groups;proxyAddresses\n"
        'u1;ann@x.example;ann.a;"g1;g2";"SMTP:ann@x.example;smtp:a@x"\n',
    )
    [user, first, second] = events(events_from_csv(plain, "t"))
    assert user["proxyAddresses"] == ["SMTP:ann@x.example", "smtp:a@x"]
    assert user["mailNickname"] == "ann.a"
    assert [first["group"], second["group"]] == ["g1", "g2"]
    members = written(
        tmp_path / "m.csv", "id,displayName,objectType\nu1,Ann,User\ng9,Sales,Group\n"
    )
    feed = events_from_csv(members, "t", group="g")
    assert events(feed) == [{"type": "membership.added", "user": "u1", "group": "g"}]
    assert feed.skipped == {"Group in the table": 1}


def test_names_become_ids_by_an_export(tmp_path: Path) -> None:
    ids = written(tmp_path / "ids.csv", "id,userPrincipalName\n0b1e,Ann@x.example\n")
    file = written(tmp_path / "members.csv", MEMBERS + "ann@X.example\nbob@x.example\n")
    found = events(events_from_csv(file, "t", group="g", ids=ids))
    assert [each["user"] for each in found] == ["0b1e", "bob@x.example"]


def test_principal_names_with_other_characters_give_ids_of_their_own() -> None:
    guest = user_id("Ann_gmail.com#EXT#@contoso.example")
    assert guest == "ann_gmail.com:23:ext:23:@contoso.example"
    assert user_id("o'neill@x") != user_id("oneill@x")


def test_bad_rows_are_told_with_line_and_reason_and_in_the_result_file(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(
        CREATE.encode()
        + b"Ann, ann@x.example,p,No,,,US\r\n"  # blanks
        + b"Bob,bob@x.example,p,No,,,us\r\n"
        + b'"two\r\nlines",c@x.example,p,No,,,US\r\n'
        + b"\xe4,d@x.example,p,No,,,US\r\n"  # not UTF-8
        + b",,,,,,\r\n\r\n"
        + b"E,e@x.example,p,No,,,US\r\n"
        + b"F,,p,No,,,US\r\n"
    )
    result = tmp_path / "result.csv"
    feed = events_from_csv(file, "t", result=result)
    found = list(feed)
    assert [line for line, _ in told(found)] == [4, 5, 6, 8, 12]
    reasons = " ".join(reason for _, reason in told(found))
    for words in ("trailing", "two capital letters", "control", "UTF-8", "does not identify"):
        assert words in reasons
    assert not result.exists()
    feed.finish(published=True)
    rows = list(csv.reader(result.open()))
    assert rows[0] == ["line", "user", "status", "reason"]
    assert [row[:3] for row in rows[1:-1]] == [
        ["4", "ann@x.example", "Failure"],
        ["5", "bob@x.example", "Failure"],
        ["6", "c@x.example", "Failure"],
        ["8", "d@x.example", "Failure"],
        ["11", "e@x.example", "Success"],
        ["12", "", "Failure"],
    ]
    assert rows[-1] == ["# Success 1, # Failure 5, Total Requests 6"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f.csv is empty"),
        ("name,age\nAnn,7\n", "does not identify"),
        (MEMBERS + "u1\n", "--group"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        list(events_from_csv(written(tmp_path / "f.csv", text), "t"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read(tmp_path: Path, encoding: str) -> None:
    text = "id,displayName\r\nu1,Zoë\r\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""  # with and without a byte order mark
    found = events(events_from_csv(written(tmp_path / "f.csv", mark + text, encoding), "t"))
    assert found == [{"type": "user.upserted", "user": "u1", "displayName": "Zoë"}]


def test_what_only_looks_like_utf_16_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(b"\xff\xfei\x00\n")
    with pytest.raises(FeedError, match="UTF-16"):
        list(events_from_csv(file, "t"))


def test_feeding_a_file_twice_changes_nothing_and_on_purpose_it_does(tmp_path: Path) -> None:
    file = written(tmp_path / "m.csv", MEMBERS + "ann@x.example\n")
    users = written(tmp_path / "u.csv", CREATE + "Ann,ann@x.example,p,No,,,US\n")
    played = Played()
    played.feed(events_from_csv(users, "t"))
    played.feed(events_from_csv(file, "t", group="g"))
    again = played.feed(events_from_csv(file, "t", group="g"))
    again += played.feed(events_from_csv(users, "t"))
    assert again == []
    # The same file for another group is another set of events, and so is another run.
    assert played.feed(events_from_csv(file, "t", group="h"))
    played.feed(events_from_csv(file, "t", group="g", remove=True))
    members = lambda: played.latest("group-status")["t/g"]["members"]  # noqa: E731
    played.feed(events_from_csv(file, "t", group="g"))
    assert members() == 0
    played.feed(events_from_csv(file, "t", group="g", run="again"))
    assert members() == 1


def test_a_large_file_is_read_fast_and_in_constant_memory(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    rows = 60_000
    with file.open("w") as out:
        out.write(CREATE)
        out.writelines(f"User {n},user{n}@contoso.example,pw,No,A,B,US\n" for n in range(rows))
    began = time.process_time()
    feed = events_from_csv(file, "contoso")
    count = sum(type(item) is FeedItem for item in feed)
    spent = time.process_time() - began
    assert count == rows
    assert feed.done_bytes == feed.total_bytes
    assert spent < limit_seconds(rows / 20_000)
    tracemalloc.start()
    for _ in events_from_csv(file, "contoso"):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 << 20


HEADER = "userPrincipalName,displayName,usageLocation\n"
OPEN_IN_AN_UNREAD_COLUMN = (
    'userPrincipalName,usageLocation,department\na@x.example,US,"Sales 24\n'
    "b@x.example,US,IT\nc@x.example,US,HR\n"
)
B_AND_C = "b@x.example,Ben,US\nc@x.example,Cat,US\n"


@pytest.mark.parametrize(
    ("text", "read", "bad"),
    [
        (HEADER + 'a@x.example,"Amy "The Ace" Hall,US\n' + B_AND_C, "bc", [2]),
        (HEADER + 'a@x.example,"Amy,US\n' + B_AND_C, "bc", [2]),
        (OPEN_IN_AN_UNREAD_COLUMN, "bc", [2]),
        # Closed later: before a character, at the end of a cell of the same or another column.
        (HEADER + 'a@x.example,"Amy,US\nb@x.example,Ben,US\nc@x.example,"Cat",US\n', "bc", [2]),
        (HEADER + 'a@x.example,"Amy,US\nb@x.example,Ben",US\nc@x.example,Cat,US\n', "bc", [2]),
        (HEADER + 'a@x.example,"Amy,US\nb@x.example,Ben,US"\nc@x.example,Cat,US\n', "bc", [2]),
        (HEADER + B_AND_C + 'a@x.example,"Amy,US', "bc", [4]),
        (HEADER + 'a@x.example,"Amy,US\nd@x.example,"Dan,US\n' + B_AND_C, "bc", [2, 3]),
        (MEMBERS + '"a@x.example\nb@x.example\nc@x.example"\n', "b", [3, 5]),
        # Not open: quotes inside a cell, and cells of several lines.
        (HEADER + 'b@x.example,"Ben ""The Ace"" Hall",US\nc@x.example,5" Cat,US\n', "bc", []),
        (
            'userPrincipalName,usageLocation,streetAddress\nb@x.example,US,"1-2\n3-4, Lyon\n"\n'
            'c@x.example,USA,"1\n2"\n',
            "b",
            [5],
        ),
    ],
)
def test_an_open_quote_costs_one_row(tmp_path: Path, text: str, read: str, bad: list[int]) -> None:
    result = tmp_path / "result.csv"
    feed = events_from_csv(written(tmp_path / "f.csv", text), "t", group="g", result=result)
    if bad == [5] and "streetAddress" in text:  # a bad row after a cell of several lines
        feed = events_from_csv(tmp_path / "f.csv", "t", result=result)
    found = list(feed)
    assert [line for line, _ in told(found)] == bad
    good = events(each for each in found if isinstance(each, FeedItem))
    assert "".join(each["user"][0] for each in good) == read
    feed.finish(published=True)
    assert f"# Success {len(read)}, # Failure {len(bad)}" in result.read_text()


def test_an_open_quote_does_not_swallow_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    with file.open("w") as out:
        out.write('id,displayName\nu0,"open\n')
        out.writelines(f"u{n},User\n" for n in range(300_000))
    found = list(events_from_csv(file, "t"))
    assert [each.line for each in found if type(each) is FeedProblem] == [2]
    assert len(found) == 300_001
    # Rows that cannot be told from lines of a cell are read again after the open quote, too.
    with file.open("w") as out:
        out.write('name,id\n"open,u0\n')
        out.writelines(f"User {n}, {n}\n" for n in range(1_999))
    found = list(events_from_csv(file, "t"))
    assert [line for line, _ in told(found)] == list(range(2, 2_002))


def test_a_line_without_end_is_a_bad_row(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("id,displayName\nu1," + "x" * (3 << 20) + "\nu2,User\n")
    tracemalloc.start()
    found = list(events_from_csv(file, "t"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line for line, _ in told(found)] == [2]
    assert events(found[1:])[0]["user"] == "u2"
    assert peak < 20 << 20


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nid;displayName\r\nu1;A, B\r\n",
        '"sep=;"\r\nid;displayName\r\nu1;A, B\r\n',
        "sep=\t\nid\tdisplayName\nu1\tA, B\n",
        '#TYPE Microsoft.Open.AzureAD.Model.User\r\n"id","displayName"\r\n"u1","A, B"\r\n',
        "id;displayName\nu1;A, B\n",
        'version:v1.0;\n"id";"displayName"\n"u1";"A, B"\n',
    ],
)
def test_habits_of_excel_and_powershell_are_read(tmp_path: Path, text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found = events(events_from_csv(written(tmp_path / "f.csv", text, encoding), "t"))
        assert found == [{"type": "user.upserted", "user": "u1", "displayName": "A, B"}]


GUID = "9832AAD8-E4FE-496B-A604-95C6EF01AE78"


def test_object_ids_are_the_same_in_capitals_and_small_letters(tmp_path: Path) -> None:
    users = written(tmp_path / "u.csv", f"id,userPrincipalName\n{GUID},pia@x.example\n")
    members = written(tmp_path / "m.csv", MEMBERS + f"{GUID}\n{GUID.lower()}\npia@x.example\n")
    made = events(events_from_csv(users, "t"))
    made += events(events_from_csv(members, "t", group=GUID, ids=users))
    assert {each["user"] for each in made} == {GUID.lower()}
    assert {each["group"] for each in made[1:]} == {GUID.lower()}
    mixed = written(tmp_path / "mixed.csv", "id\nKim-A\n")  # other ids keep their capitals
    assert events(events_from_csv(mixed, "t"))[0]["user"] == "Kim-A"


def test_a_name_of_a_group_is_encoded_like_a_principal_name(tmp_path: Path) -> None:
    file = written(tmp_path / "f.csv", "id,groups\nu1,Sales Asia; EMEA;R&D\n")
    made = events(events_from_csv(file, "t"))
    assert [each["group"] for each in made[1:]] == ["sales:20:asia", "EMEA", "r:26:d"]
    members = written(tmp_path / "m.csv", "id\nu1\n")
    [joined] = events(events_from_csv(members, "t", group="Sales Asia"))
    assert joined["group"] == "sales:20:asia" == user_id("Sales Asia")


@pytest.mark.parametrize("column", ["id", "userPrincipalName"])
@pytest.mark.parametrize("cell", ["=1+1", "-1+1@x", "@sum@x", "+1", ";=1", "＝1", "\t=1"])
def test_no_cell_of_the_result_file_is_a_formula(tmp_path: Path, column: str, cell: str) -> None:
    result = tmp_path / "result.csv"
    text = f'{column},usageLocation\n"{cell}",US\n"{cell}",us\n'
    feed = events_from_csv(written(tmp_path / "f.csv", text), "t", result=result)
    list(feed)
    feed.finish(published=True)
    rows = list(csv.reader(result.open(encoding="utf-8")))[1:-1]
    assert len(rows) == 2
    assert not {cell.strip()[:1] for row in rows for cell in row} & set("=+-@;|＝＋－＠；｜")
