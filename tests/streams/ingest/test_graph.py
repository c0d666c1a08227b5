"""Pages of Microsoft Graph as events, and what becomes of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.catalog import product
from streams.ingest import FeedError
from streams.ingest.graph import events_from_graph
from tests.streams.ingest.played import Played, events, told

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "data" / "samples"
ROOT = "https://graph.microsoft.com/v1.0/$metadata#"
E3 = product("E3")["skuId"]
EMS = product("EMS")["skuId"]


def page(path: Path, kind: str, *value: Any, **members: Any) -> Path:
    path.write_text(json.dumps({"@odata.context": ROOT + kind, "value": value, **members}))
    return path


def user(id: str, **members: Any) -> dict[str, Any]:
    return {"id": id, "userPrincipalName": f"{id}@x.example", "usageLocation": "US", **members}


def member(id: str, kind: str = "user", removed: str = "") -> dict[str, Any]:
    gone = {"@removed": {"reason": removed}} if removed else {}
    return {"@odata.type": f"#microsoft.graph.{kind}", "id": id, **gone}


def subscription(name: str, units: int) -> dict[str, Any]:
    defined = product(name)
    return {
        "skuId": defined["skuId"],
        "skuPartNumber": defined["skuPartNumber"],
        "appliesTo": "User",
        "prepaidUnits": {"enabled": units, "warning": 0, "suspended": 0, "lockedOut": 0},
        "servicePlans": [
            {
                "servicePlanId": plan["servicePlanId"],
                "servicePlanName": plan["servicePlanName"],
                "appliesTo": "User",
                "provisioningStatus": "Success",
            }
            for plan in defined["servicePlans"]
        ],
    }


def test_users_with_partial_members_and_both_reasons_of_removal(tmp_path: Path) -> None:
    file = page(
        tmp_path / "users.json",
        "users(displayName)/$delta",
        {"id": "u1", "displayName": "Ann", "surname": "A", "usageLocation": None},
        {"id": "u2", "@removed": {"reason": "changed"}},
        {"id": "u3", "@removed": {"reason": "deleted"}},
    )
    assert events(events_from_graph(file, "t")) == [
        {
            "type": "user.upserted",
            "user": "u1",
            "displayName": "Ann",
            "usageLocation": None,
            "attributes": {"displayName": "Ann", "surname": "A"},
        },
        {"type": "user.deleted", "user": "u2", "restorable": True},
        {"type": "user.deleted", "user": "u3"},
    ]


def test_groups_with_members_over_pages_and_members_of_other_kinds(tmp_path: Path) -> None:
    first = {
        "id": "g",
        "displayName": "Sales",
        "members@delta": [member("u1"), member("g2", "group")],
    }
    second = {"id": "g", "members@delta": [member("u2"), member("u1", removed="deleted")]}
    page(tmp_path / "groups-2.json", "groups", first)
    page(tmp_path / "groups-10.json", "groups/$delta", second)
    page(tmp_path / "groups-11.json", "groups", {"id": "h", "@removed": {"reason": "changed"}})
    feed = events_from_graph(tmp_path, "t")
    assert events(feed) == [
        {"type": "group.upserted", "group": "g", "displayName": "Sales"},
        {"type": "membership.added", "user": "u1", "group": "g"},
        {"type": "group.upserted", "group": "g"},
        {"type": "membership.added", "user": "u2", "group": "g"},
        {"type": "membership.removed", "user": "u1", "group": "g"},
        {"type": "group.deleted", "group": "h"},
    ]
    assert feed.skipped == {"group as a member": 1}


def test_a_list_of_members_needs_its_group(tmp_path: Path) -> None:
    file = page(tmp_path / "m.json", "directoryObjects", member("u1"), member("d", "device"))
    found = events(events_from_graph(file, "t", group="g"))
    assert found == [{"type": "membership.added", "user": "u1", "group": "g"}]
    # Without the group the list says nothing; the users in it are not taken for a list of users.
    [(line, reason)] = told(events_from_graph(file, "t"))
    assert line == 1
    assert "--group" in reason


def test_a_first_load_gives_everybody_what_the_directory_says(tmp_path: Path) -> None:
    states = [
        {"skuId": EMS, "assignedByGroup": None, "disabledPlans": [], "state": "Active"},
        {"skuId": E3, "assignedByGroup": "g", "disabledPlans": [], "state": "Active"},
    ]
    page(tmp_path / "a-users.json", "users", user("u1", licenseAssignmentStates=states), user("u2"))
    off = product("E3")["servicePlans"][0]["servicePlanId"]
    page(
        tmp_path / "b-groups.json",
        "groups",
        {
            "id": "g",
            "displayName": "All",
            "assignedLicenses": [{"skuId": E3, "disabledPlans": [off]}],
            "members@delta": [member("u1"), member("u2")],
        },
    )
    page(tmp_path / "z-skus.json", "subscribedSkus", subscription("E3", 5), subscription("EMS", 5))
    played = Played()
    # Subscriptions are first, whatever their file is called.
    assert events(events_from_graph(tmp_path, "t"))[0]["type"] == "product.defined"
    played.feed(events_from_graph(tmp_path / "z-skus.json", "t"))
    played.feed(events_from_graph(tmp_path, "t"))
    assert played.states("t/u1") == {
        (E3, "g"): "Active/None",
        (EMS, None): "Active/None",
    }
    assert played.states("t/u2") == {(E3, "g"): "Active/None"}
    assert played.latest("product-seats")[f"t/{E3}"]["consumedUnits"] == 2
    assert played.feed(events_from_graph(tmp_path, "t")) == []

    # A group's licences arrive as a complete list: those that are missing from it are removed.
    page(tmp_path / "b-groups.json", "groups", {"id": "g", "assignedLicenses": []})
    (tmp_path / "a-users.json").unlink()
    (tmp_path / "z-skus.json").unlink()
    played.feed(events_from_graph(tmp_path, "t"))
    assert played.states("t/u2") == {}
    assert played.states("t/u1") == {(EMS, None): "Active/None"}


def test_a_user_in_the_recycle_bin_has_everything_again_when_restored(tmp_path: Path) -> None:
    """Graph does not repeat the memberships of a user who was deleted for a while."""
    listed = "users(id,usageLocation)/$delta"
    played = Played()
    page(tmp_path / "s.json", "subscribedSkus", subscription("E3", 5))
    bought = {"skuId": E3, "disabledPlans": []}
    group = {"id": "g", "assignedLicenses": [bought], "members@delta": [member("u1")]}
    played.feed(events_from_graph(tmp_path / "s.json", "t"))
    first = [
        page(tmp_path / "u.json", listed, user("u1")),
        page(tmp_path / "g.json", "groups", group),
    ]
    played.feed(events_from_graph(first, "t"))
    assert played.states("t/u1") == {(E3, "g"): "Active/None"}

    gone = {"id": "u1", "@removed": {"reason": "changed"}}
    played.feed(events_from_graph(page(tmp_path / "u2.json", listed, gone), "t"))
    assert played.states("t/u1") == {}
    assert played.latest("product-seats")[f"t/{E3}"]["consumedUnits"] == 0

    link = {"@odata.deltaLink": "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=3"}
    again = page(tmp_path / "u3.json", listed, user("u1"), **link)
    played.feed(events_from_graph([again, page(tmp_path / "g3.json", "groups")], "t"))
    assert played.states("t/u1") == {(E3, "g"): "Active/None"}

    gone = {"id": "u1", "@removed": {"reason": "deleted"}}
    played.feed(events_from_graph(page(tmp_path / "u4.json", listed, gone), "t"))
    played.feed(events_from_graph(again, "t", run="again"))
    assert played.states("t/u1") == {}


def test_a_licence_taken_from_a_group_goes_without_the_subscriptions(tmp_path: Path) -> None:
    def group(*names: str) -> Path:
        listed = [{"skuId": product(name)["skuId"], "disabledPlans": []} for name in names]
        return page(tmp_path / "g.json", "groups", {"id": "g", "assignedLicenses": listed})

    e1 = product("E1")["skuId"]
    played = Played()
    skus = page(tmp_path / "s.json", "subscribedSkus", subscription("E3", 5), subscription("E1", 5))
    played.feed(events_from_graph(skus, "t"))
    held = {"id": "g", "members": [member("u1")]}
    played.feed(events_from_graph(page(tmp_path / "m.json", "groups", held), "t"))
    played.feed(events_from_graph(page(tmp_path / "u.json", "users", user("u1")), "t"))
    played.feed(events_from_graph(group("E3"), "t"))
    assert played.states("t/u1") == {(E3, "g"): "Active/None"}
    # A swap on a delta page has no conflict: one goes and the other comes in one change.
    played.feed(events_from_graph(group("E1"), "t"))
    assert played.states("t/u1") == {(e1, "g"): "Active/None"}
    # A product that is no longer bought is not among the subscriptions of a later run.
    page(tmp_path / "s.json", "subscribedSkus", subscription("E3", 5))
    played.feed(events_from_graph([tmp_path / "s.json", group()], "t"))
    assert played.states("t/u1") == {}


def test_licences_of_users_that_may_come_from_groups_are_left_out(tmp_path: Path) -> None:
    file = page(tmp_path / "u.json", "users", user("u1", assignedLicenses=[{"skuId": E3}]))
    feed = events_from_graph(file, "t")
    assert [each["type"] for each in events(feed)] == ["user.upserted"]
    assert sum(feed.skipped.values()) == 1


def test_company_plans_and_subscriptions_not_for_users(tmp_path: Path) -> None:
    bought = subscription("EMS", 1)
    bought["servicePlans"][0]["appliesTo"] = "Company"
    other = subscription("E3", 1) | {"appliesTo": "Company"}
    file = page(tmp_path / "s.json", "subscribedSkus", bought, other)
    feed = events_from_graph(file, "t")
    [defined, _] = events(feed)
    assert defined["servicePlans"][0]["appliesTo"] == "Company"
    assert feed.skipped == {"subscription that is not for users": 1}
    assert len(events(events_from_graph(file, "t", products=False))) == 1


def test_json_lines_of_pages_and_single_objects(tmp_path: Path) -> None:
    lines = tmp_path / "pages.jsonl"
    first = {"@odata.context": ROOT + "users", "value": [{"id": "u1"}]}
    second = {"@odata.context": ROOT + "users/$entity", "id": "u2"}
    lines.write_text("\n" + json.dumps(first) + "\n{\n\n" + json.dumps(second) + "\n")
    found = list(events_from_graph(lines, "t"))
    assert [line for line, _ in told(found)] == [3]
    assert [each["user"] for each in events(i for i in found if hasattr(i, "key"))] == ["u1", "u2"]


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(
        json.dumps(
            {
                "@odata.context": ROOT + "users",
                "value": [
                    7,
                    {"displayName": "no id"},
                    {"id": "u1", "usageLocation": "us"},
                    {"id": "u2"},
                ],
            },
            indent=1,
        )
    )
    found = list(events_from_graph(file, "t"))
    assert [reason.split(":")[0] for _, reason in told(found)] == [
        "value[0]",
        "value[1]",
        "value[2]",
    ]
    unknown = tmp_path / "q.json"
    unknown.write_text(json.dumps({"value": [{"id": "x"}]}))
    [(_, reason)] = told(events_from_graph(unknown, "t"))
    assert "@odata.context" in reason
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeedError, match="no file"):
        events_from_graph(tmp_path / "empty", "t")
    with pytest.raises(FeedError, match="cannot be read"):
        events_from_graph(tmp_path / "absent.json", "t")


@pytest.mark.skipif(not SAMPLES.exists(), reason="no shared samples beside the checkout")
@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("users_delta", ["user.upserted", "user.deleted", "user.upserted"]),
        ("groups_delta", ["group.upserted", "membership.removed", "membership.added"]),
        ("subscribedSkus", ["product.defined", "subscription.updated"] * 2),
        ("user_licenseAssignmentStates", ["user.upserted", "licenses.set"]),
    ],
)
def test_the_samples_of_the_documentation(name: str, types: list[str]) -> None:
    found = events(events_from_graph(SAMPLES / f"{name}.json", "t"))
    assert [each["type"] for each in found] == types
