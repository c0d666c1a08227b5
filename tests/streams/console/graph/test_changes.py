"""Changes as Graph's clients make them: licences, users, groups, members, and their audit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.streams.console.conftest import Console
from tests.support.system import Events

REFERENCE = "https://graph.microsoft.com/v1.0/directoryObjects/"
GUID = "6fd2c87f-b296-42f0-b197-1e91e994b900"
PLAN = "dcf9d2f4-772e-4434-b757-77a453cfbc02"
ANN = {"displayName": "Ann", "userPrincipalName": "ann@x.example"}
PASSWORD = {"password": "a secret of Cid", "forceChangePasswordNextSignIn": True}
NEW = {
    "accountEnabled": True,
    "displayName": "Cid",
    "mailNickname": "cid",
    "userPrincipalName": "cid@x.example",
    "usageLocation": "DE",
    "passwordProfile": PASSWORD,
}
GROUP = {
    "displayName": "Sales",
    "mailEnabled": False,
    "mailNickname": "sales",
    "securityEnabled": True,
}


@pytest.fixture
def small(console: Console) -> Console:
    """Two products, one with a single seat, a licensed group with Ann in it, and Bob."""
    make = Events(run="s")
    console.world.publish([make.product("e3"), make.product(GUID, PLAN), make.seats("e3", 1)])
    console.world.publish([make.seats(GUID, 5), make.license("g", "e3"), make.user("ann", **ANN)])
    console.world.publish([make.join("ann", "g"), make.user("bob")])
    return console


def call(console: Console, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    answer = console.client.request(method, f"/v1.0/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def refused(console: Console, method: str, path: str, body: Any, says: str) -> None:
    error = call(console, method, path, body, 400)["error"]
    assert says in error["message"]


def activities(console: Console) -> list[str]:
    """The console's own records of the audit, the last one first."""
    name = console.service.authenticator.local.name
    found = console.client.get(f"/v1/tenants/contoso/audit?initiatedBy={name}").json()["value"]
    return [each["activity"] for each in found]


@pytest.mark.parametrize(
    "names",
    [
        ("addLicenses", "removeLicenses", "skuId", "disabledPlans"),
        ("AddLicenses", "RemoveLicenses", "SkuId", "DisabledPlans"),
    ],
)
def test_licences_in_either_spelling(small: Console, names: tuple[str, ...]) -> None:
    """As JavaScript writes the members, and as PowerShell does; GUIDs in either case."""
    add, remove, sku, plans = names
    body = {add: [{sku: GUID.upper(), plans: [PLAN.upper()]}], remove: []}
    user = call(small, "POST", "users/bob/assignLicense", body)
    assert user["assignedLicenses"] == [{"skuId": GUID, "disabledPlans": [PLAN]}]
    user = call(small, "POST", "users/bob/microsoft.graph.assignLicense", {add: [], remove: [GUID]})
    assert user["assignedLicenses"] == []
    group = call(small, "POST", "groups/g/assignLicense", {add: [{sku: GUID}], remove: ["e3"]}, 202)
    assert group["assignedLicenses"] == [{"skuId": GUID, "disabledPlans": []}]
    assert call(small, "GET", "users/ann@x.example")["assignedLicenses"][0]["skuId"] == GUID


def test_what_a_rule_refuses_is_400_in_its_words(small: Console) -> None:
    """With the rule's code and details."""
    body = {"addLicenses": [{"skuId": "e3"}], "removeLicenses": []}
    error = call(small, "POST", "users/bob/assignLicense", body, 400)["error"]
    assert (error["code"], error["details"][0]["target"]) == ("CountViolation", "e3")
    assert "No seat" in error["message"]
    assert error["innerError"]["request-id"]


def test_an_unknown_product_is_refused(small: Console) -> None:
    """400, as Graph; nothing is sent that would be deferred (R21)."""
    body = {"addLicenses": [{"skuId": "later"}], "removeLicenses": []}
    for path in ("users/bob/assignLicense", "groups/g/assignLicense"):
        refused(small, "POST", path, body, "no product with the skuId 'later'")
    assert activities(small) == []
    small.service.projector.progress.caught_up = False  # it may be defined, and not read yet
    answer = small.client.post("/v1.0/users/bob/assignLicense", json=body)
    assert answer.status_code == 202
    assert small.client.get(answer.headers["location"]).json()["status"] == "deferred"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "must be a JSON object"),
        ([], "must be a JSON object"),
        ({"addLicense": []}, "there are addLicenses, removeLicenses"),
        ({"addLicenses": {}}, "must be a list"),
        ({"addLicenses": [{}]}, "needs its skuId"),
        ({"addLicenses": [{"skuId": 1}]}, "must be text"),
        ({"addLicenses": [{"skuId": "e3", "plans": []}]}, "there are skuId, disabledPlans"),
        ({"addLicenses": [], "AddLicenses": []}, "given twice"),
        ({"removeLicenses": [1]}, "list of texts"),
        ({"addLicenses": [], "removeLicenses": []}, "nothing"),
    ],
)
def test_bodies_that_cannot_be_read(small: Console, body: Any, says: str) -> None:
    """No member is ignored."""
    error = call(small, "POST", "users/bob/assignLicense", body, 400)["error"]
    assert says in error["message"].lower() or says in error["message"]


def test_reprocessing(small: Console) -> None:
    """Of a user and of a group."""
    assert call(small, "POST", "users/ann/reprocessLicenseAssignment")["id"] == "ann"
    assert call(small, "POST", "groups/g/reprocessLicenseAssignment", {}, 202)["id"] == "g"
    assert activities(small) == [
        "Request group license recalculation",
        "Request user license recalculation",
    ]


def test_the_life_of_a_user(small: Console) -> None:
    """Created with an id of its own, changed, and deleted; a password is never kept."""
    answer = small.client.post("/v1.0/users", json=NEW)
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert answer.headers["location"] == f"http://127.0.0.1:8080/v1.0/users/{id}"
    sent = getattr(small.service.dispatcher.producer, "sent", [])
    assert sent
    assert not any(b"a secret of Cid" in record.value for record in sent)
    call(small, "PATCH", "users/cid@x.example", {"UsageLocation": "FR", "mail": None}, 204)
    assert call(small, "GET", f"users/{id}")["usageLocation"] == "FR"
    refused(small, "POST", "users", NEW, "userPrincipalName already exists")
    refused(small, "PATCH", "users/bob", {"userPrincipalName": "CID@x.example"}, "already exists")
    call(small, "PATCH", f"users/{id}", {"userPrincipalName": "CID@x.example"}, 204)
    call(small, "DELETE", f"users/{id}", status=204)
    call(small, "GET", f"users/{id}", status=404)
    assert len(activities(small)) == 4


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "users", {**NEW, "department": "Sales"}, "no member 'department' of a new user"),
        ("POST", "users", {**NEW, "accountEnabled": False}, "accountEnabled can only be true"),
        ("POST", "users", {"displayName": "Cid"}, "needs userPrincipalName"),
        ("POST", "users", {**NEW, "usageLocation": "Utopia"}, "usageLocation"),
        ("PATCH", "users/bob", {}, "nothing to change"),
        ("PATCH", "users/bob", {"accountEnabled": False}, "no member 'accountEnabled' of a user"),
        ("PATCH", "users/bob", {"displayName": 1}, "must be text"),
        ("PATCH", "users/bob", {"proxyAddresses": [1]}, "list of texts"),
        ("POST", "groups", {**GROUP, "groupTypes": ["Unified"]}, "security groups"),
        ("POST", "groups", {**GROUP, "mailEnabled": True}, "security groups"),
        ("POST", "groups", {"displayName": ""}, "needs displayName"),
        ("PATCH", "groups/g", {"description": "x"}, "no member 'description' of a group"),
        ("PATCH", "groups/g", {}, "nothing to change"),
        ("POST", "groups/g/members/$ref", {"@odata.id": "ann"}, "address of a user"),
        ("POST", "groups/g/members/$ref", {"@odata.id": f"{REFERENCE}g"}, "is a group"),
        ("POST", "groups/g/members/$ref", {"@odata.id": f"{REFERENCE}ann"}, "already exist"),
        ("DELETE", "groups/g", None, "remove it by assignLicense first"),
        ("POST", "groups/g/members/$ref?$select=id", {}, "not supported here"),
    ],
)
def test_what_seatflow_does_not_keep_is_refused(
    small: Console, method: str, path: str, body: Any, says: str
) -> None:
    """A change that is forgotten would be a lie; and no event is sent."""
    refused(small, method, path, body, says)
    assert activities(small) == []


def test_the_life_of_a_group(small: Console) -> None:
    """Members by reference, one by one or with the group."""
    bound = {**GROUP, "members@odata.bind": [f"{REFERENCE}ann", f"{REFERENCE}ann"]}
    group = call(small, "POST", "groups", bound, 201)
    path = f"groups/{group['id']}"
    assert [m["id"] for m in call(small, "GET", f"{path}/members")["value"]] == ["ann"]
    call(small, "POST", f"{path}/members/$ref", {"@odata.id": f"{REFERENCE}bob"}, 204)
    assert small.client.get(f"/v1.0/{path}/members/$count").text == "2"
    call(small, "DELETE", f"{path}/members/bob/$ref", status=204)
    call(small, "DELETE", f"{path}/members/bob/$ref", status=404)
    body = {"displayName": "Sales II", "members@odata.bind": [f"{REFERENCE}bob"]}
    call(small, "PATCH", path, body, 204)
    assert call(small, "GET", path)["displayName"] == "Sales II"
    assert small.client.get(f"/v1.0/{path}/members/$count").text == "2"
    call(small, "POST", f"{path}/members/$ref", {"@odata.id": f"{REFERENCE}nobody"}, 404)
    call(small, "DELETE", path, status=204)
    call(small, "GET", path, status=404)
    groups = [each["id"] for each in call(small, "GET", "groups")["value"]]
    assert groups == ["g"]


def test_a_deleted_user_is_restored_or_erased(small: Console) -> None:
    """As from Entra's recycle bin: with the licences there were."""
    call(small, "POST", "users/bob/assignLicense", {"addLicenses": [{"skuId": GUID}]})
    call(small, "DELETE", "users/bob", status=204)
    bin = "directory/deletedItems"
    assert [u["id"] for u in call(small, "GET", f"{bin}/microsoft.graph.user")["value"]] == ["bob"]
    assert call(small, "GET", f"{bin}/bob?$select=id")["id"] == "bob"
    assert small.client.get(f"/v1.0/{bin}/graph.user/$count").text == "1"
    call(small, "POST", "users/bob/assignLicense", {"addLicenses": [{"skuId": GUID}]}, 404)
    restored = call(small, "POST", f"{bin}/bob/restore", {})
    assert restored["assignedLicenses"] == [{"skuId": GUID, "disabledPlans": []}]
    call(small, "POST", f"{bin}/bob/restore", status=404)
    call(small, "DELETE", "users/bob", status=204)
    call(small, "DELETE", f"{bin}/bob", status=204)
    call(small, "GET", f"{bin}/bob", status=404)
    call(small, "DELETE", "users/ann", status=204)
    call(small, "POST", "users", {**NEW, "userPrincipalName": "ANN@x.example"}, 201)
    refused(small, "POST", f"{bin}/ann/restore", None, "already exists")


def test_a_group_whose_outcome_is_late_gets_its_members(
    small: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """202 says that it was sent; then all of it was."""

    async def late(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(small.service.processing, "wait_applied", late, raising=False)
    bound = {"members@odata.bind": [f"{REFERENCE}ann", f"{REFERENCE}bob"]}
    answer = small.client.post("/v1.0/groups", json={**GROUP, **bound})
    assert answer.status_code == 202
    assert small.client.get(answer.headers["location"]).status_code == 200
    changed = {"displayName": "G", "members@odata.bind": [f"{REFERENCE}bob"]}
    assert small.client.patch("/v1.0/groups/g", json=changed).status_code == 202
    assert activities(small) == [
        "Request addition to group",
        "Request group update",
        "Request addition to group",
        "Request addition to group",
        "Request group update",
    ]
