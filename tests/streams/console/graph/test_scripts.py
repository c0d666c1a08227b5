"""The calls of the licensing scripts that administrators use most, as they are on the wire.

PowerShell's cmdlets send PascalCase bodies, ``$top=999`` for ``-All``, actions with their
namespace, and ``ConsistencyLevel: eventual`` for advanced queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.streams.console.conftest import Console
from tests.support.system import Events

E3, VISIO = "6fd2c87f-b296-42f0-b197-1e91e994b900", "c5928f49-12ba-48f7-ada3-0d743a3601d5"
PLAN = "dcf9d2f4-772e-4434-b757-77a453cfbc02"
ADDRESS = "https://graph.microsoft.com/v1.0/directoryObjects/"
Check = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A call, its status, and the part of its answer that the script goes by."""

    call: str
    body: Any = None
    status: int = 200
    part: Check = lambda answer: None
    expected: Any = None


def ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer["value"]]


def held(answer: Any) -> list[str]:
    return [each["skuId"] for each in answer["assignedLicenses"]]


def says(words: str) -> Check:
    return lambda answer: words in answer["error"]["message"]


def licences(add: list[str], remove: list[str]) -> Any:
    added = [{"SkuId": sku, "DisabledPlans": []} for sku in add]
    return {"AddLicenses": added, "RemoveLicenses": remove}


PROPERTIES = (
    "Id,DisplayName,UserPrincipalName,UsageLocation,AssignedLicenses,LicenseAssignmentStates"
)
SCRIPTS: dict[str, list[Step]] = {
    "Get-MgSubscribedSku: the products and their free units": [
        Step("GET subscribedSkus?$select=skuId,skuPartNumber,consumedUnits,prepaidUnits",
             part=lambda a: {s["skuId"]: s["prepaidUnits"]["enabled"] - s["consumedUnits"]
                             for s in a["value"]}, expected={E3: 2, VISIO: 0}),
    ],
    "Get-MgSubscribedSku -SubscribedSkuId: the plans of a product": [
        Step(f"GET subscribedSkus/contoso_{E3}",
             part=lambda a: [p["servicePlanId"] for p in a["servicePlans"]], expected=[PLAN]),
    ],
    "Get-MgOrganization: which tenant it is": [
        Step("GET organization", part=ids, expected=["contoso"]),
    ],
    "Get-MgUser -All: the report of all licences": [
        Step(f"GET users?$top=999&$select={PROPERTIES}",
             part=lambda a: [len(u["licenseAssignmentStates"]) for u in a["value"]],
             expected=[2, 1, 0]),
    ],
    "Get-MgUser: those without any licence": [
        Step("GET users?$filter=assignedLicenses/$count eq 0&$count=true&$top=999",
             part=lambda a: (a["@odata.count"], ids(a)), expected=(2, ["bob", "cid"])),
    ],
    "Get-MgUser: those with a licence": [
        Step("GET users?$filter=assignedLicenses/$count ne 0&$count=true&$select=Id",
             part=ids, expected=["ann"]),
    ],
    "Get-MgUser: those with a product": [
        Step(f"GET users?$filter=assignedLicenses/any(x:x/skuId eq {VISIO})&$top=999",
             part=ids, expected=["ann"]),
    ],
    "Get-MgUser: those with one product and not another": [
        Step(f"GET users?$filter=assignedLicenses/any(s:s/skuId eq {E3}) and"
             f" not assignedLicenses/any(s:s/skuId eq {VISIO})&$count=true", part=ids, expected=[]),
    ],
    "Get-MgUser: those without a usage location": [
        Step("GET users?$filter=usageLocation eq null&$select=id", part=ids, expected=["cid"]),
    ],
    "Get-MgUser: those of a domain": [
        Step("GET users?$filter=endsWith(userPrincipalName,'@contoso.example')&$count=true",
             part=lambda a: a["@odata.count"], expected=3),
    ],
    "Get-MgUserLicenseDetail: the plans of a user": [
        Step("GET users/ann@contoso.example/licenseDetails",
             part=lambda a: [d["skuId"] for d in a["value"]], expected=[E3, VISIO]),
    ],
    "Set-MgUserLicense: give, with a plan off": [
        Step("POST users/bob@contoso.example/microsoft.graph.assignLicense",
             {"AddLicenses": [{"SkuId": E3, "DisabledPlans": [PLAN]}], "RemoveLicenses": []},
             part=lambda a: a["assignedLicenses"],
             expected=[{"skuId": E3, "disabledPlans": [PLAN]}]),
    ],
    "Set-MgUserLicense: take away": [
        Step("POST users/ann/assignLicense", licences([], [E3]), part=held, expected=[VISIO]),
    ],
    "Set-MgUserLicense: what comes by a group cannot be taken": [
        Step("POST users/ann/assignLicense", licences([], [VISIO]), 400,
             lambda a: a["error"]["code"], "InheritedLicense"),
    ],
    "Update-MgUser, Set-MgUserLicense: a location first": [
        Step("POST users/cid/assignLicense", licences([E3], []), 400,
             lambda a: a["error"]["code"], "InvalidUsageLocation"),
        Step("PATCH users/cid", {"UsageLocation": "GB"}, 204),
        Step("POST users/cid/assignLicense", licences([E3], []), part=held, expected=[E3]),
    ],
    "Get-MgGroup: groups with licences": [
        Step("GET groups?$filter=assignedLicenses/$count ne 0&$count=true"
             "&$select=id,displayName,assignedLicenses",
             part=lambda a: [(g["id"], held(g)) for g in a["value"]],
             expected=[("sales", [VISIO])]),
    ],
    "Get-MgGroup, Invoke-MgLicenseUser: retry the errors of groups": [
        Step("GET groups?$filter=hasMembersWithLicenseErrors eq true", part=ids,
             expected=["sales"]),
        Step("GET groups/sales/membersWithLicenseErrors?$top=999", part=ids, expected=["bob"]),
        Step("GET users/bob?$select=licenseAssignmentStates",
             part=lambda a: [(s["assignedByGroup"], s["error"])
                             for s in a["licenseAssignmentStates"]],
             expected=[("sales", "CountViolation")]),
        Step("POST users/bob/microsoft.graph.reprocessLicenseAssignment", {},
             part=lambda a: a["id"], expected="bob"),
    ],
    "Set-MgGroupLicense: a group's licences": [
        Step("POST groups/sales/assignLicense", licences([E3], [VISIO]), 202, held, [E3]),
        Step("GET users/bob?$select=assignedLicenses", part=held, expected=[E3]),
    ],
    "Get-MgGroupMember: who gets a group's licences": [
        Step("GET groups/sales/members?$top=999", part=ids, expected=["ann", "bob"]),
        Step("GET groups/sales/members/microsoft.graph.user?$select=userPrincipalName",
             part=lambda a: a["value"][0], expected={"userPrincipalName": "ann@contoso.example"}),
        Step("GET groups/sales/members/$count", part=str, expected="2"),
    ],
    "Move from direct licences to a group": [
        Step("POST groups/sales/members/$ref", {"@odata.id": f"{ADDRESS}cid"}, 204),
        Step("GET users/cid/memberOf/microsoft.graph.group?$select=id", part=ids,
             expected=["sales"]),
        Step("DELETE groups/sales/members/cid/$ref", None, 204),
        Step("DELETE groups/sales/members/cid/$ref", None, 404),
    ],
    "New-MgUser: an account that arrives": [
        Step("POST users", {"AccountEnabled": True, "DisplayName": "Dee", "MailNickname": "dee",
                            "UserPrincipalName": "dee@contoso.example", "UsageLocation": "DE",
                            "PasswordProfile": {"Password": "of Dee"}}, 201,
             lambda a: a["displayName"], "Dee"),
        Step("POST users/dee@contoso.example/assignLicense", licences([E3], []), part=held,
             expected=[E3]),
        Step("DELETE users/dee@contoso.example", None, 204),
    ],
    "A delta query that keeps a report current": [
        Step("GET users/delta()?$select=displayName,assignedLicenses", part=ids,
             expected=["ann", "bob", "cid"]),
    ],
    "Licences of accounts that are off: what Seatflow cannot know": [
        Step("GET users?$filter=accountEnabled eq false and assignedLicenses/$count ne 0", None,
             400, says("no property 'accountEnabled' of users"), True),
        Step("GET users?$select=displayName,signInActivity", None, 400,
             says("no property 'signInActivity' of users"), True),
    ],
}  # fmt: skip


@pytest.fixture
def tenant(console: Console) -> Console:
    """Ann has a product directly and one by her group, of which Bob got none; Cid has nothing."""
    make, publish = Events(run="s"), console.world.publish
    publish([make.product(E3, PLAN), make.product(VISIO), make.seats(E3, 3), make.seats(VISIO, 1)])
    publish([make.license("sales", VISIO)])
    for user in ("ann", "bob", "cid"):
        location = None if user == "cid" else "US"
        name = f"{user}@contoso.example"
        publish([make.user(user, userPrincipalName=name, usageLocation=location)])
    publish([make.join("ann", "sales"), make.join("bob", "sales"), make.assign("ann", E3)])
    return console


@pytest.mark.parametrize("version", ["v1.0", "beta"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_works(tenant: Console, name: str, version: str) -> None:
    """Each call has the answer that the script goes by."""
    for step in SCRIPTS[name]:
        method, _, path = step.call.partition(" ")
        answer = tenant.client.request(
            method, f"/{version}/{path}", json=step.body, headers={"ConsistencyLevel": "eventual"}
        )
        assert answer.status_code == step.status, answer.text
        is_text = answer.headers.get("content-type", "").startswith("text/plain")
        found = answer.text if is_text or not answer.content else answer.json()
        assert step.part(found) == step.expected, step.call
