"""Which pages and objects of Graph are read, and what is said of those that are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.ingest import FeedItem
from streams.ingest.graph import events_from_graph
from tests.streams.ingest.played import events, told

ROOT = "https://graph.microsoft.com/v1.0/$metadata#"
E3 = "6fd2c87f-b296-42f0-b197-1e91e994b900"
GROUP = "2e5807ce-58f3-4a94-9b37-ffff2e085957"
DEPTH = "Export again with ConvertTo-Json -Depth 10"


def written(path: Path, *content: Any, encoding: str = "utf-8") -> Path:
    path.write_bytes("".join(json.dumps(each) + "\r\n" for each in content).encode(encoding))
    return path


def page(kind: str, *value: Any, **members: Any) -> dict[str, Any]:
    return {"@odata.context": ROOT + kind, "value": list(value), **members}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_every_encoding_that_powershell_writes(tmp_path: Path, encoding: str) -> None:
    content = page("users(id)", {"id": "u-1", "displayName": "Jörg"})
    file = written(tmp_path / "u.json", content, encoding=encoding)
    [found] = events(events_from_graph(file, "t"))
    assert found["displayName"] == "Jörg"
    file = written(tmp_path / "u.jsonl", content, page("users", {"id": "u-2"}), encoding=encoding)
    assert [each["user"] for each in events(events_from_graph(file, "t"))] == ["u-1", "u-2"]


def test_another_code_page_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "u.json"
    file.write_bytes(
        json.dumps(page("users", {"id": "J"}), indent=1).replace("J", "J\xf6").encode("cp1252")
    )
    [(_, reason)] = told(events_from_graph(file, "t"))
    assert "not UTF-8: byte 0xf6 at line" in reason
    assert "save the file as UTF-8" in reason


@pytest.mark.parametrize(
    "context",
    [
        "users(id,displayName)",
        "users",
        "Collection(microsoft.graph.user)",
        "groups('g-10')/members/microsoft.graph.user",
        "directoryObjects",
    ],
)
def test_members_cast_to_users_are_members_under_group(tmp_path: Path, context: str) -> None:
    people = [{"id": "u-1001", "displayName": "Ann"}, {"id": "u-1002", "displayName": "Bob"}]
    file = written(tmp_path / "m.json", page(context, *people))
    assert events(events_from_graph(file, "t", group="g-10")) == [
        {"type": "membership.added", "user": user, "group": "g-10"} for user in ("u-1001", "u-1002")
    ]


def test_members_with_their_licences_are_members_under_group(tmp_path: Path) -> None:
    person = {"id": "u-1", "licenseAssignmentStates": [{"skuId": E3, "state": "Active"}]}
    file = written(
        tmp_path / "m.jsonl", page("users", person), page("directoryObjects", {"id": "u-2"})
    )
    found = events(events_from_graph(file, "t", group="g"))
    assert [(each["type"], each["user"]) for each in found] == [
        ("membership.added", "u-1"),
        ("membership.added", "u-2"),
    ]


def test_the_group_of_a_list_of_members_is_in_its_context_or_its_links(tmp_path: Path) -> None:
    link = f"https://graph.microsoft.com/v1.0/groups/{GROUP.upper()}/members?$skiptoken=x"
    for content in (
        page(f"groups('{GROUP}')/members", {"id": "u-1"}),
        page("directoryObjects", {"id": "u-1"}, **{"@odata.nextLink": link}),
        {"value": [{"id": "u-1"}], "@odata.nextLink": link},
    ):
        file = written(tmp_path / "m.json", content)
        [found] = events(events_from_graph(file, "t"))
        assert found == {"type": "membership.added", "user": "u-1", "group": GROUP}


def test_under_group_users_among_other_pages_are_not_guessed(tmp_path: Path) -> None:
    file = written(
        tmp_path / "m.jsonl", page("users", {"id": "u"}), page("groups", {"id": "g", "members": []})
    )
    [(line, reason)] = told(events_from_graph(file, "t", group="g"))
    assert line == 1
    assert "feed lists of members by themselves" in reason


def test_what_a_user_is_linked_with_is_not_a_user(tmp_path: Path) -> None:
    for context in ("users('u-1')/memberOf", "users('u-1')/licenseDetails", "devices"):
        feed = events_from_graph(written(tmp_path / "x.json", page(context, {"id": "x"})), "t")
        assert events(feed) == []
        assert sum(feed.skipped.values()) == 1
    transitive = page(f"groups('{GROUP}')/transitiveMembers", {"id": "u-1"})
    feed = events_from_graph(written(tmp_path / "x.json", transitive), "t")
    assert events(feed) == []
    assert feed.skipped == {"transitiveMembers": 1}


def test_pages_without_context_are_told_by_their_links_or_objects(tmp_path: Path) -> None:
    link = {"@odata.deltaLink": "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=x"}
    for content in (
        {"value": [{"id": "u-1"}], **link},
        {"value": [{"id": "u-1", "userPrincipalName": "a@b.example"}]},
        [{"id": "u-1", "usageLocation": "DE"}],
        {"id": "u-1", "@odata.type": "#microsoft.graph.user"},
    ):
        [found] = events(events_from_graph(written(tmp_path / "u.json", content), "t"))
        assert (found["type"], found["user"]) == ("user.upserted", "u-1")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"value": [{"id": "x"}]}, "@odata.context"),
        ({"value": [{"Id": "x", "DisplayName": "X"}]}, "Invoke-MgGraphRequest"),
        (page("users", {"id": "x", "prepaidUnits": {}}), "the object is one of subscribedSkus"),
        ({"value": "System.Object[]"}, DEPTH),
        ({"value": None}, "value is null, not a list"),
        ({"value": {"id": "x"}}, "a list of one"),
        (page("users", "@{id=x}"), DEPTH),
        (page("users", 7), "the item is 7, not an object"),
        ("System.Object[]", DEPTH),
        (3, "a JSON object"),
    ],
)
def test_a_page_or_an_object_of_the_wrong_type(tmp_path: Path, content: Any, words: str) -> None:
    [(line, reason)] = told(events_from_graph(written(tmp_path / "x.json", content), "t"))
    assert line == 1
    assert words in reason


TRUNCATED = f"@{{skuId={E3}; disabledPlans=System.Object[]}}"


@pytest.mark.parametrize(
    ("kind", "members", "words"),
    [
        ("groups", {"assignedLicenses": TRUNCATED}, DEPTH),
        ("groups", {"assignedLicenses": [TRUNCATED]}, DEPTH),
        (
            "groups",
            {"assignedLicenses": [{"skuId": E3, "disabledPlans": "System.Object[]"}]},
            DEPTH,
        ),
        ("groups", {"assignedLicenses": {"skuId": E3}}, "a list of one"),
        ("groups", {"assignedLicenses": None}, "assignedLicenses is null"),
        ("groups", {"assignedLicenses": [{"disabledPlans": []}]}, "no skuId"),
        ("groups", {"members@delta": "System.Object[]"}, DEPTH),
        ("groups", {"members": ["@{id=u}"]}, DEPTH),
        ("groups", {"members@delta": [{"id": "u", "@removed": "@{reason=deleted}"}]}, DEPTH),
        ("users", {"licenseAssignmentStates": "System.Object[]"}, DEPTH),
        ("users", {"licenseAssignmentStates": [TRUNCATED]}, DEPTH),
        ("users", {"proxyAddresses": "System.Object[]"}, DEPTH),
        ("users", {"proxyAddresses": "SMTP:a@b.example"}, "not a list"),
        ("users", {"@removed": "@{reason=changed}"}, DEPTH),
        ("users", {"@removed": {"reason": "moved"}}, "neither changed nor deleted"),
        ("subscribedSkus", {"skuId": E3, "prepaidUnits": "@{enabled=5}"}, DEPTH),
        ("subscribedSkus", {"skuId": E3, "servicePlans": "System.Object[]"}, DEPTH),
        ("organization", {"verifiedDomains": "System.Object[]"}, DEPTH),
    ],
)
def test_what_was_cut_off_is_never_taken_as_empty(
    tmp_path: Path, kind: str, members: dict[str, Any], words: str
) -> None:
    good = {"id": "y", "skuId": "y", "prepaidUnits": {"enabled": 1}, "displayName": "Y"}
    good = good if kind == "subscribedSkus" else {"id": "y", "displayName": "Y"}
    file = written(tmp_path / "x.json", page(kind, {"id": "x", **members}, good))
    found = list(events_from_graph(file, "t"))
    [(line, reason)] = told(found)
    assert line == 1
    assert reason.startswith("value[0]: ")
    assert words in reason
    assert b'"x"' not in b"".join(item.value for item in found if isinstance(item, FeedItem))
    assert len(found) == 2  # the next object is read


def test_the_answer_to_a_request_that_failed_is_called_so(tmp_path: Path) -> None:
    answer = {"error": {"code": "Request_ResourceNotFound", "message": "No such group."}}
    file = written(tmp_path / "e.json", answer)
    [(_, reason)] = told(list(events_from_graph(file, "t")))
    assert "a request that failed (Request_ResourceNotFound: No such group.)" in reason


def test_a_subscription_without_its_plans_does_not_define_the_product(tmp_path: Path) -> None:
    sku = {"skuId": E3, "prepaidUnits": {"enabled": 1}}
    [found] = events(
        events_from_graph(written(tmp_path / "s.json", page("subscribedSkus", sku)), "t")
    )
    assert found["type"] == "subscription.updated"


def test_a_subscription_that_ended(tmp_path: Path) -> None:
    sku = {"skuId": E3, "capabilityStatus": "Deleted", "prepaidUnits": {"enabled": 0}}
    file = written(tmp_path / "s.json", page("subscribedSkus", sku))
    assert events(events_from_graph(file, "t")) == [{"type": "subscription.deleted", "skuId": E3}]


def test_missing_pages_and_rules_are_told(tmp_path: Path) -> None:
    more = {"@odata.nextLink": "https://graph.microsoft.com/v1.0/users?$skiptoken=x"}
    group = {"id": "g", "membershipRule": "user.city -eq 1", "members@odata.nextLink": "x"}
    file = written(
        tmp_path / "x.jsonl",
        page("users", {"id": "u-1"}, **more),
        page("groups", group | {"members": []}),
    )
    feed = events_from_graph(file, "t")
    events(feed)
    told_of = "\n".join(feed.warnings)
    for words in ("users: the last page", "more members than $expand", "membership rule"):
        assert words in told_of
    written(file, page("users", {"id": "u-1"}, **more), page("users"), page("groups"))
    assert events_from_graph(file, "t").warnings == []


def test_delta_pages_with_every_habit(tmp_path: Path) -> None:
    """Empty pages, an object on two pages, one removed in a first page, members of other kinds."""
    kinds = {"g-15": "group", "d-1": "device", "s-1": "servicePrincipal"}
    others = [{"@odata.type": f"#microsoft.graph.{kind}", "id": id} for id, kind in kinds.items()]
    users = [{"@odata.type": "#microsoft.graph.user", "id": f"u-{n}"} for n in range(1, 5)]
    users[1]["@removed"] = {"reason": "deleted"}  # type: ignore[assignment]
    first = {"id": "g-14", "displayName": "Team ⁨‮abc‬⁩ 👩‍💻", "members@delta": users[:3] + others}
    again = {"id": "g-14", "displayName": "Team", "members@delta": [users[0], users[3]]}
    file = written(
        tmp_path / "x.jsonl",
        page("groups", **{"@odata.nextLink": "https://graph.microsoft.com/v1.0/groups/delta?a"}),
        page("groups", first),
        page("groups", again, {"id": "g-16", "@removed": {"reason": "changed"}}),
        encoding="utf-8-sig",
    )
    feed = events_from_graph(file, "t")
    assert [(each["type"], each.get("user", each["group"])) for each in events(feed)] == [
        ("group.upserted", "g-14"),
        ("membership.added", "u-1"),
        ("membership.removed", "u-2"),
        ("membership.added", "u-3"),
        ("group.upserted", "g-14"),
        ("membership.added", "u-1"),
        ("membership.added", "u-4"),
        ("group.deleted", "g-16"),
    ]
    assert sum(feed.skipped.values()) == 3


def test_a_group_that_does_not_name_its_licences_keeps_them(tmp_path: Path) -> None:
    file = written(tmp_path / "g.json", page("groups", {"id": "g-16", "displayName": "Renamed"}))
    assert [each["type"] for each in events(events_from_graph(file, "t"))] == ["group.upserted"]


def test_an_organization_is_the_tenant(tmp_path: Path) -> None:
    domains = [
        {"name": "contoso.example", "isInitial": False},
        {"name": "contoso.onmicrosoft.com", "isInitial": True},
    ]
    organization = {"displayName": "Contoso", "countryLetterCode": "DE", "verifiedDomains": domains}
    file = written(tmp_path / "o.json", page("organization", {"id": "x", **organization}))
    assert events(events_from_graph(file, "t")) == [
        {
            "type": "tenant.updated",
            "displayName": "Contoso",
            "usageLocation": "DE",
            "initialDomain": "contoso.onmicrosoft.com",
        }
    ]
