"""The CSV for finance: a row for each user and product, with names, streamed."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator

from streams.console.read_model import licence_report
from streams.console.read_model.pagination import csv_parts
from streams.console.read_model.store import transaction
from tests.streams.console.conftest import Console
from tests.streams.console.local import demo
from tests.support.system import Events


def rows(console: Console, query: str = "") -> list[dict[str, str]]:
    answer = console.client.get(f"/v1/tenants/contoso/licences{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_a_row_for_each_user_and_product(console: Console) -> None:
    """By two groups and directly it is one row, and one seat."""
    make = Events()
    console.world.publish([make.product("e3"), make.product("e5"), make.seats("e3", 1)])
    console.world.publish([make.license("sales", "e3", "e5"), make.license("staff", "e3")])
    for group, title in (("sales", "Sales Europe"), ("staff", "All Staff")):
        body = {"tenant": "contoso", "group": group, "displayName": title}
        key = f"contoso/{group}"
        console.world.publish([make._event("group-changes", key, "group.upserted", **body)])
    names = {"displayName": "Ann Lee", "userPrincipalName": "ann@x.example"}
    console.world.publish([make.user("ann", **names), make.assign("ann", "e3")])
    console.world.publish([make.join("ann", "staff"), make.join("ann", "sales")])
    found = rows(console)
    assert [(row["user"], row["product"]) for row in found] == [("ann", "e3"), ("ann", "e5")]
    seat, waits = found
    assert seat["displayName"] == "Ann Lee"
    assert seat["through"] == "directly; Sales Europe; All Staff"
    assert seat["groups"] == "sales; staff"
    assert (seat["state"], seat["usesSeat"]) == ("Active", "true")
    assert (waits["state"], waits["usesSeat"]) == ("Error", "false")
    assert waits["error"] == "CountViolation"


def test_cost_centres_come_from_attributes(console: Console) -> None:
    """Of snapshots and patches, by names in any case; null clears, and a deletion forgets."""
    make = Events()
    console.world.publish([make.product("e3"), make.seats("e3", 9), make.license("g", "e3")])
    given = {"costCenter": "CC-7", "department": "Sales", "floor": 3}
    joined = {"memberships": [{"group": "g"}]}
    console.world.publish([make._of_user("ann", "user.snapshot", attributes=given, **joined)])
    console.world.publish([make._of_user("bob", "user.snapshot", **joined)])
    ann, bob = rows(console)
    assert (ann["costCentre"], ann["department"]) == ("CC-7", "Sales")
    assert (bob["costCentre"], bob["department"]) == ("", "")
    console.world.publish([make.user("ann", attributes={"COSTCENTER": 12, "department": None})])
    console.world.publish([make.user("bob", attributes={"costCentre": "CC-8"})])
    ann, bob = rows(console)
    assert (ann["costCentre"], ann["department"], bob["costCentre"]) == ("12", "", "CC-8")
    console.world.publish([make.user("bob", attributes=None)])
    console.world.publish([make._of_user("ann", "user.deleted"), make.user("ann")])
    db = console.service.store.read_connection()
    assert db.execute("SELECT count(*) FROM attributes").fetchone()[0] == 0


def test_the_seats_agree_with_what_is_published(console: Console) -> None:
    """For each product of the demo, the rows that use a seat are the consumed units."""
    demo(console.world)
    found = rows(console)
    skus = console.client.get("/v1/tenants/contoso/subscribedSkus").json()["value"]
    for sku in skus:
        used = sum(r["usesSeat"] == "true" and r["skuId"] == sku["skuId"] for r in found)
        assert used == sku["consumedUnits"]
    one = rows(console, f"?skuId={skus[0]['skuId']}")
    assert one == [row for row in found if row["skuId"] == skus[0]["skuId"]]
    assert console.client.get("/v1/tenants/contoso/licences?hasLicenseErrors=x").status_code == 400


def test_a_long_list_is_never_in_memory_as_a_whole(console: Console) -> None:
    """The peak of memory is that of a page, not of the list."""
    make = Events()
    console.world.publish([make.product("e3"), make.seats("e3", 9), make.license("g", "e3")])
    console.world.publish([make.user("u"), make.join("u", "g")])
    store = console.service.store
    with transaction(store.writer) as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)"
            " INSERT INTO users(tenant, user, find, shape, revision, published)"
            " SELECT tenant, user || i, find, shape, revision, published FROM users, n"
        )

    def parts() -> Iterator[str]:
        return csv_parts(
            licence_report.COLUMNS, licence_report.report(store.read_connection, "contoso", {})
        )

    tracemalloc.start()
    lines = sum(part.count("\n") for part in parts())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == 40_002
    assert peak < 16 << 20  # the rows of one page; all of them take 32 MiB
