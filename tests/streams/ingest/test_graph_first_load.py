"""A first load of an export of Graph, and the comparison with what Graph says of each user."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from streams.cli.feed_graph import simulation_states
from streams.cli.main import app
from streams.contract.event_reader import event_of
from streams.ingest import FeedItem
from streams.ingest.graph import events_from_graph
from streams.ingest.graph_comparison import Difference, compare, states_of
from streams.whatif import Simulation
from tests.streams.ingest.played import told
from tests.support.graph_export import RULES, group_id, people, sku, user_id, write_export

USERS = 3_000


def loaded(folder: Path) -> tuple[Any, list[Difference]]:
    feed = events_from_graph(folder, "contoso", compare=True)
    simulation = Simulation()
    items = list(feed)
    assert [item for item in items if not isinstance(item, FeedItem)] == []
    simulation.run(event_of(item.value) for item in items if isinstance(item, FeedItem))  # type: ignore[misc]
    return feed, compare(feed.expected, simulation_states(simulation, "contoso"), feed.survey)


def test_a_whole_directory_comes_out_as_graph_says(tmp_path: Path) -> None:
    write_export(tmp_path, USERS)
    feed, differences = loaded(tmp_path)
    assert [str(each) for each in differences if not each.explained] == []
    reasons = Counter(each.reason for each in differences)
    each_kind = USERS // 20
    assert reasons["the export does not have the group"] <= each_kind
    assert reasons["nothing stands against it any more: Entra tries again only when asked"] == (
        each_kind
    )
    assert reasons["the group's rule does not match the user, whom its members name"] == (
        USERS // 400 + 1
    )
    assert len(feed.expected) == sum(not person.deleted for person in people(USERS))


def test_the_order_is_that_of_the_content(tmp_path: Path) -> None:
    write_export(tmp_path, 60)
    feed = events_from_graph(tmp_path, "contoso")
    before, held, wished, rules = feed.parts()
    topics = [item.topic for item in before if isinstance(item, FeedItem)]
    assert [*dict.fromkeys(topics)] == ["catalog", "subscriptions", "tenants", "group-changes"]
    for users in (held, wished):
        assert {item.topic for item in users if isinstance(item, FeedItem)} == {"user-changes"}
    (rule,) = [json.loads(item.value) for item in rules if isinstance(item, FeedItem)]
    assert rule["group"] == group_id("sales")
    assert rule["membershipRule"] == RULES["sales"]
    # Whatever the files are called, and whether they are named one by one.
    paths = sorted(tmp_path.iterdir(), reverse=True)
    again = [json.loads(item.value)["type"] for item in events_from_graph(paths, "contoso")]  # type: ignore[union-attr]
    assert again[0] == "product.defined"
    assert [kind for kind in again if kind.startswith("group")] != []


def test_a_snapshot_has_everything_that_graph_says_of_a_user(tmp_path: Path) -> None:
    write_export(tmp_path, 20)
    items = [json.loads(item.value) for item in events_from_graph(tmp_path, "contoso")]  # type: ignore[union-attr]
    snapshots: dict[str, Any] = {}
    twice = []
    for each in items:
        if each["type"] == "user.snapshot":
            if each["user"] in snapshots:
                twice.append(each["user"])
                # What is held comes first; what the user only asks for, when all is adopted.
                assert snapshots[each["user"]]["memberships"] == []
            snapshots[each["user"]] = each
    assert twice == [user_id(number) for number in (9, 10, 14, 18)]
    assert len({each["id"] for each in items}) == len(items)
    both = snapshots[user_id(6)]
    assert [each["skuId"] for each in both["licenseAssignmentStates"]] == [sku("E3")] * 2
    assert len(both["memberships"]) == 1
    # An error is no licence; the wish follows from the membership.
    refused = snapshots[user_id(9)]
    assert [each["skuId"] for each in refused["licenseAssignmentStates"]] == [sku("E1")]
    assert len(refused["memberships"]) == 1


def test_a_bad_user_is_reported_once(tmp_path: Path) -> None:
    write_export(tmp_path, 40)
    bad = [
        {"id": user_id(10), "licenseAssignmentStates": "System.Object[]"},
        {"id": user_id(30), "usageLocation": "us", "licenseAssignmentStates": []},
    ]
    context = "https://graph.microsoft.com/v1.0/$metadata#users"
    (tmp_path / "a-bad.json").write_text(json.dumps({"@odata.context": context, "value": bad}))
    found = told(events_from_graph(tmp_path, "contoso"))
    assert [reason.partition(":")[0] for _, reason in found] == ["value[0]", "value[1]"]


def test_what_is_lost_is_unexplained(tmp_path: Path) -> None:
    write_export(tmp_path, 40)
    feed = events_from_graph(tmp_path, "contoso", compare=True)
    list(feed)
    published = {
        user: [each for each in wanted.states or () if each.held]
        for user, wanted in feed.expected.items()
    }
    del published[user_id(0)]
    published[user_id(1)] = list(
        states_of([{"skuId": sku("E3"), "assignedByGroup": published[user_id(1)][0].group}])
    )
    published[user_id(4)].append(published[user_id(4)][0]._replace(group=None))
    found = {
        each.user: each
        for each in compare(feed.expected, published, feed.survey)
        if not each.explained and each.expected != "Error/CountViolation"
    }
    assert found[user_id(0)].reason == "a licence by a group was not taken over"
    assert found[user_id(1)].reason == "the plans differ"
    assert found[user_id(4)].reason == "Graph does not list it"
    assert "UNEXPLAINED" in str(found[user_id(0)])


def test_the_command_compares_without_kafka(tmp_path: Path) -> None:
    write_export(tmp_path / "export", 100)
    arguments = ["feed", "graph", str(tmp_path / "export"), "--tenant", "contoso"]
    done = CliRunner().invoke(app, [*arguments, "--dry-run", "--compare"])
    assert done.exit_code == 0, done.output
    assert "95 users compared" in done.output
    assert " 0 unexplained" in done.output


def test_a_seat_beyond_the_units_is_unexplained(tmp_path: Path) -> None:
    write_export(tmp_path, 60)
    feed = events_from_graph(tmp_path, "contoso", compare=True)
    list(feed)
    published = {user: [*(wanted.states or ())] for user, wanted in feed.expected.items()}
    waiting = user_id(10)
    published[waiting] = [
        each._replace(state="Active", error="None") for each in published[waiting]
    ]
    found = [each for each in compare(feed.expected, published, feed.survey) if not each.explained]
    assert [each.user for each in found] == [waiting]
    assert "all units are used" in found[0].reason


def test_changes_are_not_a_first_load(tmp_path: Path) -> None:
    write_export(tmp_path, 40)
    path = tmp_path / "a-users-0.json"
    page = json.loads(path.read_text())
    page["@odata.deltaLink"] = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=x"
    path.write_text(json.dumps(page))
    kinds = {json.loads(item.value)["type"] for item in events_from_graph(tmp_path, "contoso")}  # type: ignore[union-attr]
    assert "user.snapshot" not in kinds
    assert "membership.added" in kinds
