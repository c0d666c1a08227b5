"""Reads as Graph's clients make them: options, paths, shapes, pages, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streams.console.security.middleware import RateLimiter
from tests.streams.console.conftest import Console
from tests.streams.console.guarded import bearer, guarded

__all__ = ["guarded"]
E3 = "6fd2c87f-b296-42f0-b197-1e91e994b900"


def get(console: Console, path: str, status: int = 200, **options: str) -> Any:
    """The answer to a read; options are named without ``$``."""
    named = {f"${name}": value for name, value in options.items()}
    answer = console.client.get(path if path.startswith("/") else f"/v1.0/{path}", params=named)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.headers["content-type"].startswith("appl") else answer.text


def test_an_object_has_graphs_members_and_context(demo_console: Console) -> None:
    """And no others: typed clients are generated from Graph's description."""
    user = get(demo_console, "users/u0011")
    assert user["@odata.context"] == "http://127.0.0.1:8080/v1.0/$metadata#users/$entity"
    assert user["licenseAssignmentStates"][0].keys() == {
        "skuId", "assignedByGroup", "disabledPlans", "state", "error", "lastUpdatedDateTime",
    }  # fmt: skip
    assert get(demo_console, "/contoso/beta/users/u0011")["id"] == "u0011"
    assert "revision" not in user


def test_a_user_is_found_by_principal_name(demo_console: Console) -> None:
    """In any case, and written as a key of OData."""
    name = get(demo_console, "users/u0011")["userPrincipalName"]
    for path in (name, name.upper()):
        assert get(demo_console, f"users/{path}")["id"] == "u0011"
    assert get(demo_console, f"users('{name}')/memberOf/$count") == "3"
    assert get(demo_console, f"users(userPrincipalName='{name}')")["id"] == "u0011"


def test_pages_have_every_user_once(demo_console: Console) -> None:
    """In an order of several properties, with ties."""
    url = "/v1.0/users?$top=400&$count=true&$orderby=usageLocation desc,displayName&$select=id"
    found: list[str] = []
    while url:
        answer = demo_console.client.get(url).json()
        found += [user["id"] for user in answer["value"]]
        url = answer.get("@odata.nextLink")
    assert len(found) == len(set(found)) == answer["@odata.count"] > 1_000
    users = [get(demo_console, f"users/{id}") for id in found[:2] + found[-2:]]
    assert users[0]["usageLocation"] > (users[-1]["usageLocation"] or "")
    assert users[0]["displayName"] <= users[1]["displayName"]


def test_select_search_and_count_do_what_they_say(demo_console: Console) -> None:
    """Names in any case."""
    searched = {"search": '"displayName:gar"', "count": "true", "top": "999"}
    found = get(demo_console, "users", 200, select="DisplayName,id", **searched)
    assert found["@odata.context"].endswith("#users(id,displayName)")
    assert all(re.search(r"\bgar", user["displayName"], re.I) for user in found["value"])
    assert all(user.keys() == {"id", "displayName"} for user in found["value"])
    assert len(found["value"]) == found["@odata.count"] > 0
    count = get(demo_console, "users/$count", search='"displayName:gar"')
    assert count == str(found["@odata.count"])
    both = get(demo_console, "users/$count", search='"displayName:gar" AND "mail:a"')
    either = get(demo_console, "users/$count", search='"displayName:gar" OR ("mail:a")')
    assert int(both) < int(count) < int(either)


def test_expanded_lists_are_short_and_say_so(demo_console: Console) -> None:
    """Twenty, as Graph's, with a link to the rest."""
    group = get(demo_console, "groups/sales-europe", expand="members($select=id)")
    assert len(group["members"]) == 20
    assert group["members"][0].keys() == {"@odata.type", "id"}
    rest = demo_console.client.get(group["members@odata.nextLink"]).json()
    ids = {each["id"] for each in group["members"]}
    assert not ids & {each["id"] for each in rest["value"]}
    user = get(demo_console, "users/u0011", expand="memberOf,licenseDetails", select="id")
    assert user.keys() == {"@odata.context", "id", "memberOf", "licenseDetails"}
    assert {each["@odata.type"] for each in user["memberOf"]} == {"#microsoft.graph.group"}


def test_license_details_have_the_plans(demo_console: Console) -> None:
    """Those that are off are Disabled; of the others only their service knows."""
    user = get(demo_console, "users", filter="assignedLicenses/any()", top="1")["value"][0]
    details = get(demo_console, f"users/{user['id']}/licenseDetails")["value"]
    assert [d["skuId"] for d in details] == [a["skuId"] for a in user["assignedLicenses"]]
    for detail, assigned in zip(details, user["assignedLicenses"], strict=True):
        off = [p for p in detail["servicePlans"] if p["provisioningStatus"] == "Disabled"]
        assert {p["servicePlanId"] for p in off} == set(assigned["disabledPlans"])
        rest = [p["provisioningStatus"] for p in detail["servicePlans"] if p not in off]
        assert set(rest) <= {None}  # what a service has provisioned is not known here
    one = get(demo_console, f"users/{user['id']}/licenseDetails/{details[0]['id']}")
    assert one["skuPartNumber"] == details[0]["skuPartNumber"]


def test_members_are_typed(demo_console: Console) -> None:
    """A list of directory objects says what each is; a cast list need not."""
    path = "groups/sales-europe/members"
    assert get(demo_console, path, top="1")["value"][0]["@odata.type"] == "#microsoft.graph.user"
    for cast in ("microsoft.graph.user", "graph.user"):
        users = get(demo_console, f"{path}/{cast}", top="1")
        assert "@odata.type" not in users["value"][0]
        assert users["@odata.context"].endswith("#users")
    number = get(demo_console, f"{path}/$count")
    assert number == get(demo_console, f"{path}/microsoft.graph.user/$count")
    assert int(number) == len(get(demo_console, f"{path}/$ref", top="999")["value"])
    in_error = get(demo_console, "groups/sales-europe/membersWithLicenseErrors", top="999")
    assert 0 < len(in_error["value"]) < int(number)


def test_products_and_the_tenant_have_ids_of_their_own(demo_console: Console) -> None:
    """A product's is the tenant's, and its skuId."""
    one = get(demo_console, "subscribedSkus", filter=f"skuId eq {E3.upper()}")["value"][0]
    assert get(demo_console, f"subscribedSkus/{one['id']}")["skuId"] == E3
    assert get(demo_console, f"subscribedSkus/contoso_{E3.upper()}")["skuId"] == E3
    get(demo_console, f"subscribedSkus/{E3}", 404)
    assert get(demo_console, "organization")["value"][0]["id"] == "contoso"
    assert get(demo_console, "organization/contoso")["countryLetterCode"] == "US"
    get(demo_console, "organization/fabrikam", 404)
    assert get(demo_console, "directoryObjects/u0011")["@odata.type"] == "#microsoft.graph.user"


REFUSED = {
    "users?$skip=10": "$skiptoken",
    "users?$apply=x": "$count=true",
    "users?search=ann": "double quotes",
    "users?shoe=9": "'$shoe'",
    "users?$top=0": "1 to 999",
    "users?$top=1000": "1 to 999",
    "users?$top=1&top=2": "twice",
    "users?$count=perhaps": "true or false",
    "users?$select=department": "no property 'department' of users; there are id, displayName",
    "users?$filter=accountEnabled eq true": "no property 'accountEnabled'",
    "users?$filter=capital": "expected one of eq",
    "users?$orderby=proxyAddresses": "cannot be sorted by",
    "users?$orderby=displayName up": "asc, desc or nothing",
    "users?$expand=manager": "there are memberOf",
    "users?$expand=memberOf($filter=id eq 'a')": "there are $select, $top",
    'users?$search="shoe:9"': "displayName, userPrincipalName",
    "users?$skiptoken=zzz": "this list gave",
    "users/u0011?$filter=id eq 'a'": "there are $select, $expand",
    "users/$count?$top=1": "there are $filter, $search",
    "users/u0011/licenseDetails?$filter=id eq 'a'": "$select",
    "groups?$filter=description eq 'a'": "no property 'description' of groups",
    "groups?$filter=licenseProcessingState eq 'a'": "is shown, but cannot be used",
    "subscribedSkus?$expand=users": "there is none",
    'subscribedSkus?$search="skuPartNumber:a"': "not supported for subscribedSkus",
    "organization?$top=1": "$select",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_unknown_is_refused_with_a_sentence(demo_console: Console, path: str) -> None:
    """400 in Graph's form; nothing is ignored."""
    answer = demo_console.client.get(f"/v1.0/{path}", headers={"client-request-id": "mine"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert REFUSED[path] in error["message"]
    assert error["code"] in ("Request_BadRequest", "Request_UnsupportedQuery")
    assert error["innerError"].keys() == {"date", "request-id", "client-request-id"}
    assert error["innerError"]["client-request-id"] == answer.headers["client-request-id"] == "mine"
    assert error["innerError"]["request-id"] == answer.headers["request-id"]


def test_a_token_of_a_page_is_bound_to_its_list(demo_console: Console) -> None:
    """Another filter, order, list or tenant would begin at a wrong place."""
    next = get(demo_console, "users", top="1", filter="startswith(displayName,'a')")
    token = next["@odata.nextLink"].rpartition("$skiptoken=")[2]
    for path, options in {
        "users": {"filter": "startswith(displayName,'b')"},
        "groups": {"filter": "startswith(displayName,'a')"},
        "groups/sales-europe/members": {"filter": "startswith(displayName,'a')"},
    }.items():
        get(demo_console, path, 400, skiptoken=token, **options)


def test_there_is_no_other_consistency(demo_console: Console) -> None:
    """Eventual, with or without the header."""
    for level, status in {"eventual": 200, "Eventual": 200, "strong": 400}.items():
        answer = demo_console.client.get("/v1.0/users", headers={"ConsistencyLevel": level})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "me", 404),
        ("GET", "", 404),
        ("GET", "users/nobody", 404),
        ("GET", "users/$value", 404),
        ("GET", "users/a%00b", 404),
        ("GET", "users/nobody/memberOf", 404),
        ("GET", "groups/none", 404),
        ("GET", "groups/none/members", 404),
        ("GET", "users(mail='a')", 404),
        ("PUT", "users/u0011", 405),
        ("DELETE", "organization", 405),
    ],
)
def test_what_is_not_there(demo_console: Console, method: str, path: str, status: int) -> None:
    """404, or 405 with the methods there are."""
    answer = demo_console.client.request(method, f"/v1.0/{path}")
    assert answer.status_code == status, answer.text
    assert {"code", "message", "innerError"} == answer.json()["error"].keys()
    assert ("allow" in answer.headers) is (status == 405)


# --- tenants and roles ---------------------------------------------------------------------------


def test_a_token_of_one_tenant_says_which(guarded: Console) -> None:
    """Any other token needs the tenant in the path; a tenant of others does not exist."""

    def status(path: str, token: str) -> int:
        return int(guarded.client.get(path, headers=bearer(token)).status_code)

    users = guarded.client.get("/v1.0/users", headers=bearer("ann-token")).json()["value"]
    assert [user["id"] for user in users] == ["contoso-u"]
    assert status("/contoso/v1.0/users", "ann-token") == 200
    assert status("/fabrikam/v1.0/users", "ann-token") == 404
    assert status("/v1.0/users/fabrikam-u", "ann-token") == 404
    assert status("/v1.0/users", "zoe-token") == 400
    assert status("/fabrikam/beta/users/fabrikam-u", "zoe-token") == 200
    answer = guarded.client.get("/v1.0/users")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_refusals_before_the_call_have_graphs_form(
    guarded: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the guard and the limits of rates, with innerError, too."""
    answers = [
        guarded.client.post("/v1.0/users", json={}),  # without a token
        guarded.client.post(
            "/contoso/beta/users", content=b"x" * (5 << 20), headers=bearer("ann-token")
        ),
        guarded.client.get("/v1.0/users", headers={"host": "elsewhere.example"}),
    ]
    monkeypatch.setattr(RateLimiter, "allow", lambda *_: False)
    answers.append(guarded.client.get("/v1.0/users", headers=bearer("ann-token")))
    assert [answer.status_code for answer in answers] == [401, 413, 400, 429]
    for answer in answers:
        assert answer.json()["error"].keys() == {"code", "message", "innerError"}


def test_a_reader_changes_nothing(guarded: Console) -> None:
    """403 in Graph's form, and no event."""
    sent = guarded.service.dispatcher.producer
    for method, path in (("POST", "users"), ("PATCH", "users/contoso-u"),
                         ("POST", "groups/contoso-g/members/$ref"),
                         ("DELETE", "users/contoso-u")):  # fmt: skip
        headers = bearer("rob-token")
        answer = guarded.client.request(method, f"/v1.0/{path}", json={}, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "Authorization_RequestDenied"
    assert not getattr(sent, "sent", None)
