"""The read model: what rows come of records, in any batches, and that it can be made again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.console.read_model import queries, tenants
from streams.console.read_model.forecast import Point, forecast
from streams.console.read_model.input_projections import FOLLOWED, apply
from streams.console.read_model.output_projections import ProjectionWriter
from streams.console.read_model.pagination import (
    BadRequestError,
    Listing,
    conditions,
    csv_lines,
    every,
    page,
)
from streams.console.read_model.store import FORMAT, Store, transaction
from streams.contract.topics import INPUTS, OUTPUTS
from streams.runtime.errors import CONFIGURATION, WorkerError
from tests.streams.console.conftest import Console
from tests.streams.console.local import Rec, World, demo
from tests.support.system import Event, Events

TABLES = (
    "users", "members", "addresses", "groups", "errors", "seats", "catalog",
    "subscriptions", "tenants",
)  # fmt: skip


def rec(event: Event, at: int = 1) -> Rec:
    _, key, value = event
    return Rec(key.encode(), value, at, at)


def put(store: Store, topic: str, *records: Rec) -> None:
    with transaction(store.writer):
        apply(ProjectionWriter(store.writer), topic, records)


def content(store: Store) -> dict[str, list[Any]]:
    """Everything, with the shapes by what is in them instead of their numbers."""
    db = store.read_connection()
    found = {}
    for table in TABLES:
        rows = [dict(row) for row in db.execute(f"SELECT * FROM {table}")]
        for row in rows:
            if row.get("shape") and table == "users":
                sql = "SELECT body FROM shapes WHERE shape = ?"
                row["shape"] = db.execute(sql, (row["shape"],)).fetchone()[0]
        found[table] = sorted(rows, key=str)
    return found


def test_every_published_topic_and_input_is_followed() -> None:
    """A topic that is added to the contract is thought of here, too."""
    assert {topic.name for topic in (*INPUTS, *OUTPUTS)} == set(FOLLOWED)


def test_batches_do_not_matter(tmp_path: Path) -> None:
    """The demo's records give the same rows one by one and in one batch per topic."""
    whole = Store(tmp_path / "whole.sqlite3", "p.")
    demo(World(whole), until="Seats")
    single = Store(tmp_path / "single.sqlite3", "p.")
    world = World(Store(tmp_path / "other.sqlite3", "p."))
    told: list[tuple[str, list[Rec]]] = []

    def keep(_to: ProjectionWriter, topic: str, records: Any) -> None:
        told.append((topic, list(records)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.streams.console.local.apply", keep)
        demo(world, until="Seats")
    applier = ProjectionWriter(single.writer)
    with transaction(single.writer):
        for topic, records in told:
            for record in records:
                apply(applier, topic, [record])
    assert content(whole) == content(single)
    assert len(content(whole)["users"]) > 1900


def test_the_file_is_made_again(tmp_path: Path) -> None:
    """The file is recreated for other topics or another cluster, and kept for the same ones."""
    path = tmp_path / "console.sqlite3"
    make = Events()
    first = Store(path, "a.")
    assert first.bind_cluster("kafka-1") is False
    put(first, "user-changes", rec(make.user("ann")))
    first.close()
    again = Store(path, "a.")
    assert again.bind_cluster("kafka-1") is False
    assert queries.user(again.read_connection(), "contoso", "ann") is not None
    assert again.bind_cluster("kafka-2") is True
    assert queries.user(again.read_connection(), "contoso", "ann") is None
    put(again, "user-changes", rec(make.user("bob")))
    again.close()
    other = Store(path, "b.")
    assert queries.user(other.read_connection(), "contoso", "bob") is None
    other.close()
    path.write_bytes(b"not a database")
    Store(path, "b.").close()


@pytest.mark.parametrize("format", ["0", "", "older", None])
def test_an_older_or_unknown_format_is_rebuilt(tmp_path: Path, format: str | None) -> None:
    """From the topics: the file is empty again, and its offsets with it."""
    path = _file_of_format(tmp_path, format)
    again = Store(path, "a.")
    assert tenants.tenants(again.read_connection()) == []
    assert again.offsets() == {}
    found = again.writer.execute("SELECT value FROM meta WHERE name='version'").fetchone()
    assert found == (str(FORMAT),)
    again.close()


def test_a_newer_format_is_refused_in_one_line(tmp_path: Path) -> None:
    """And the file stays as it is, whatever the topic prefix."""
    path = _file_of_format(tmp_path, str(FORMAT + 1))
    before = path.read_bytes()
    for prefix in ("a.", "b."):
        with pytest.raises(WorkerError, match="newer release") as refused:
            Store(path, prefix)
        assert "\n" not in str(refused.value)
        assert refused.value.exit_code == CONFIGURATION
    assert path.read_bytes() == before


def _file_of_format(tmp_path: Path, format: str | None) -> Path:
    path = tmp_path / "console.sqlite3"
    first = Store(path, "a.")
    put(first, "user-changes", rec(Events().user("ann")))
    with transaction(first.writer) as db:
        db.execute("INSERT INTO offsets VALUES('user-changes', 0, 1)")
        db.execute("DELETE FROM meta WHERE name='version'")
        if format is not None:
            db.execute("INSERT INTO meta VALUES('version', ?)", (format,))
    first.close()
    return path


def test_a_patch_keeps_what_it_does_not_name(store: Store) -> None:
    """Within a batch and across batches; null clears."""
    make = Events()
    put(store, "user-changes", rec(make.user("ann", displayName="Ann", mail="a@x.example")))
    put(
        store,
        "user-changes",
        rec(make.user("ann", userPrincipalName="ann@x.example")),
        rec(make.user("ann", mail=None)),
    )
    found = queries.user(store.read_connection(), "contoso", "ann")
    assert found is not None
    names = ("displayName", "userPrincipalName", "mail", "usageLocation")
    assert tuple(found[name] for name in names) == ("Ann", "ann@x.example", None, "US")
    hits = page(store.read_connection(), queries.USERS, ("contoso",), {"search": "ANN@X"}, 5).rows
    assert [row["id"] for row in hits] == ["ann"]
    gone = page(store.read_connection(), queries.USERS, ("contoso",), {"search": "a@x"}, 5).rows
    assert gone == []


def test_a_deleted_user_is_gone(store: Store) -> None:
    """With its memberships and claims; a new one of the same id starts afresh."""
    make = Events()
    deleted = make._of_user("ann", "user.deleted")
    put(store, "user-changes", rec(make.user("ann", proxyAddresses=["SMTP:a@x.example"])))
    put(store, "user-changes", rec(make.join("ann", "g")), rec(deleted))
    assert queries.user(store.read_connection(), "contoso", "ann") is None
    assert queries.memberships(store.read_connection(), "contoso", "ann") == []
    assert store.writer.execute("SELECT count(*) FROM addresses").fetchone()[0] == 0
    put(store, "user-changes", rec(deleted), rec(make.user("ann")), rec(make.join("ann", "h")))
    assert [m["id"] for m in queries.memberships(store.read_connection(), "contoso", "ann")] == [
        "h"
    ]


@pytest.mark.parametrize("together", [True, False])
def test_a_snapshot_replaces_what_is_known(store: Store, together: bool) -> None:
    make = Events()
    snapshot = make._of_user(
        "ann",
        "user.snapshot",
        displayName="Ann",
        proxyAddresses=["SMTP:b@x.example"],
        memberships=[{"group": "h", "since": "1970-01-01T00:00:00.001Z"}, {"group": "g"}],
    )
    records = [
        rec(make.user("ann", mail="m@x.example", proxyAddresses=["SMTP:a@x.example"]), 1),
        rec(make.join("ann", "f"), 2),
        rec(make.join("ann", "g"), 3),
        rec(snapshot, 4),
        rec(make.join("ann", "i"), 5),
    ]
    for batch in [records] if together else [[record] for record in records]:
        put(store, "user-changes", *batch)
    db = store.read_connection()
    found = queries.user(db, "contoso", "ann")
    assert found is not None
    assert (found["displayName"], found["mail"], found["usageLocation"]) == ("Ann", None, None)
    memberships = {m["id"]: m["since"] for m in queries.memberships(db, "contoso", "ann")}
    assert memberships == {"g": 3, "h": 1, "i": 5}
    addresses = [row["address"] for row in db.execute("SELECT address FROM addresses")]
    assert addresses == ["smtp:b@x.example"]


def test_a_membership_keeps_its_since(store: Store) -> None:
    """Joining again changes nothing; leaving and joining again does (R8)."""
    make = Events()
    put(store, "user-changes", rec(make.join("ann", "g"), 5))
    put(store, "user-changes", rec(make.join("ann", "g"), 7))
    assert [m["since"] for m in queries.memberships(store.read_connection(), "contoso", "ann")] == [
        5
    ]
    put(store, "user-changes", rec(make.leave("ann", "g"), 8), rec(make.join("ann", "g"), 9))
    assert [m["since"] for m in queries.memberships(store.read_connection(), "contoso", "ann")] == [
        9
    ]


def test_what_workers_refuse_is_not_shown(store: Store) -> None:
    """A record that becomes a dead letter leaves no trace here."""
    key = b"contoso/ann"
    for value in (b"{", b'{"type":"user.upserted"}', None):
        put(store, "user-changes", Rec(key, value, 1, 1))
    assert tenants.tenants(store.read_connection()) == []


def test_users_alike_share_one_shape(console: Console) -> None:
    """Two thousand users have far fewer shapes; holders are counted by them."""
    demo(console.world)
    db = console.service.store.read_connection()
    users, shapes = (
        db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("users", "shapes")
    )
    assert users > 1900
    assert shapes < users / 4
    for row in every(console.service.store.read_connection, queries.SKUS, ("contoso",), {}):
        held = {
            user["id"]
            for user in every(
                console.service.store.read_connection,
                queries.USERS,
                ("contoso",),
                {"skuId": row["skuId"], "state": "Active"},
            )
            if any(x["skuId"] == row["skuId"] for x in user["assignedLicenses"])
        }
        assert len(held) <= row["consumedUnits"]
        paths = queries.holders(db, "contoso", row["skuId"])
        assert sum(p["users"] for p in paths if p["state"] != "Error") >= row["consumedUnits"]


def test_the_read_model_is_what_was_published(console: Console) -> None:
    """Users, groups, seats and errors, compared with the engine's last outputs."""
    demo(console.world)
    db = console.service.store.read_connection()
    latest = {(o.topic, o.key): o.value for o in console.world.cluster.outputs}
    for (topic, key), value in latest.items():
        if topic == "user-licenses" and value is not None:
            found = queries.user(db, *key.split("/"))
            assert found is not None
            for state in found["licenseAssignmentStates"]:
                del state["lastUpdatedDateTime"]
            shared = value.keys() & found.keys()
            assert len(shared) >= 7
            assert {n: value[n] for n in shared} == {n: found[n] for n in shared}
    errors = {key: v for (topic, key), v in latest.items() if topic == "errors" and v}
    stored = {
        "/".join(row[:4]): orjson.loads(row[4])
        for row in db.execute("SELECT tenant, user, grp, sku, body FROM errors")
    }
    assert errors == stored


# --- lists ---------------------------------------------------------------------------------------


def test_pages_join_to_the_whole(console: Console) -> None:
    """In every order, up and down, each row once; rows that come meanwhile do no harm."""
    demo(console.world)
    db = console.service.store.read_connection()
    for listing in (queries.USERS, queries.GROUPS, queries.ERRORS, queries.SKUS):
        for sort in listing.sorts:
            for direction in ("asc", "desc"):
                order = f"{sort} {direction}"
                whole = list(
                    every(console.service.store.read_connection, listing, ("contoso",), {}, order)
                )
                cursor, found = None, []
                while True:
                    part = page(db, listing, ("contoso",), {}, 211, cursor, order)
                    found += part.rows
                    cursor = part.next
                    if cursor is None:
                        break
                assert whole == found
                assert len(whole) == len({orjson.dumps(row) for row in whole})


@pytest.mark.parametrize("listing", [queries.USERS, queries.MEMBERS, queries.MEMBERS_IN_ERROR])
def test_filters_of_users_look_their_shapes_up_once(store: Store, listing: Listing) -> None:
    """Not for each user: of a million users, every filter by state would take half a minute."""
    fixed = ("contoso", "g")[: listing.query.count("?")]
    for name in ("error", "state", "skuId", "hasLicenseErrors"):
        if name in listing.filters:
            value = "true" if name == "hasLicenseErrors" else "x"
            where, arguments = conditions(listing, {name: value})
            sql = f"EXPLAIN QUERY PLAN SELECT {listing.query}{where}"
            plan = store.read_connection().execute(sql, (*fixed, *arguments)).fetchall()
            assert not any("CORRELATED" in row["detail"] for row in plan)


def test_a_forged_cursor_is_refused(console: Console) -> None:
    """Another list's, another order's, or nonsense."""
    make = Events()
    console.world.publish([make.user(f"u{n}") for n in range(3)])
    db = console.service.store.read_connection()
    cursor = page(db, queries.USERS, ("contoso",), {}, 1).next
    assert cursor is not None
    for wrong in ("x", "e30", "W10", cursor[:-3], "\N{SNOWMAN}", "WzEsMiwzXQ"):
        with pytest.raises(BadRequestError):
            page(db, queries.USERS, ("contoso",), {}, 1, wrong)
    with pytest.raises(BadRequestError):
        page(db, queries.USERS, ("contoso",), {}, 1, cursor, "displayName")


def test_csv_quotes_what_a_spreadsheet_would_run(store: Store) -> None:
    """Formulas in names are text; commas, quotes and line ends are quoted."""
    make = Events()
    names = ["=1+1", "@SUM(A1)", "-2", "+3", 'a "b", c', "plain"]
    for n, name in enumerate(names):
        put(store, "user-changes", rec(make.user(f"u{n}", displayName=name)))
    rows = every(store.read_connection, queries.USERS, ("contoso",), {})
    lines = list(csv_lines(queries.USERS.columns, rows))
    assert lines[0].startswith("id,displayName,")
    shown = [line.split(",", 1)[1] for line in lines[1:]]
    for got, start in zip(
        shown, ["'=1+1,", "'@SUM(A1),", "'-2,", "'+3,", '"a ""b"", c",', "plain,"], strict=True
    ):
        assert got.startswith(start)


# --- forecast ------------------------------------------------------------------------------------


def _at(minute: int) -> Any:
    return datetime.fromtimestamp(minute * 60, UTC)


def test_a_steady_growth_is_foretold() -> None:
    """Ten seats a day, 50 free: about five days."""
    points = tuple(Point(day * 1440, 100 + 10 * day, 200) for day in range(11))
    found = forecast(points, 50, _at(10 * 1440))
    assert found.days is not None
    assert 4.0 <= found.days <= 6.0
    assert "seats a day" in found.text


@pytest.mark.parametrize(
    ("points", "available", "says"),
    [
        ((), 5, "No trend yet"),
        ((Point(0, 1, 9),), 0, "No seat is free"),
        ((Point(0, 12, 9),), -3, "3 seats more"),
        ((Point(0, 5, 9), Point(700, 5, 9)), 4, "not going to run out"),
        ((Point(0, 9, 19), Point(700, 5, 19)), 14, "not going to run out"),
    ],
)
def test_other_forecasts_say_what_they_know(
    points: tuple[Point, ...], available: int, says: str
) -> None:
    """Too little history, none free, oversold by R15, steady, falling."""
    assert says in forecast(points, available, _at(1440 if points else 0)).text
