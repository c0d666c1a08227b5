"""The HTTP API in Graph's shapes: lists, single things, commands and their answers."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from engine.domain.vocabulary import COUNT
from engine.rules.evaluation import trace_evaluation
from streams.console.read_model import queries
from streams.console.read_model.pagination import every
from streams.console.whatif import reconstruction
from tests.streams.console.conftest import Console
from tests.streams.console.local import Rec, demo
from tests.support.system import Events

T = "/v1/tenants/contoso"


def get(console: Console, path: str, status: int = 200, **parameters: str) -> Any:
    named = {"$top" if name == "top" else name: value for name, value in parameters.items()}
    answer = console.client.get(path, params=named)
    assert status == answer.status_code, answer.text
    return answer.json()


def test_graph_shapes(demo_console: Console) -> None:
    """The members that Graph's own clients read are there, by its names."""
    sku = get(demo_console, f"{T}/subscribedSkus", top="1")["value"][0]
    assert {"skuId", "skuPartNumber", "capabilityStatus", "consumedUnits", "prepaidUnits",
            "servicePlans", "appliesTo"} <= sku.keys()  # fmt: skip
    plan = {"servicePlanId", "servicePlanName", "provisioningStatus", "appliesTo"}
    assert plan == sku["servicePlans"][0].keys()
    assert {each["provisioningStatus"] for each in sku["servicePlans"]} == {None}
    user = get(demo_console, f"{T}/users/u0011")
    assert {"id", "displayName", "userPrincipalName", "assignedLicenses",
            "licenseAssignmentStates"} <= user.keys()  # fmt: skip
    state = {"skuId", "assignedByGroup", "disabledPlans", "state", "error", "lastUpdatedDateTime"}
    assert state <= user["licenseAssignmentStates"][0].keys()
    group = get(demo_console, f"{T}/groups/sales-europe")
    assert group["licenseProcessingState"]["state"] == "ProcessingComplete"
    assert group["hasMembersWithLicenseErrors"] is True


def test_next_links_lead_through_the_list(demo_console: Console) -> None:
    """Each user once, the filters kept."""
    url: str | None = f"{T}/users?search=garcia&$top=7"
    found: list[str] = []
    while url:
        answer = demo_console.client.get(url).json()
        found += [user["id"] for user in answer["value"]]
        url = answer.get("@odata.nextLink")
    assert len(found) == len(set(found)) > 7
    rows = demo_console.client.get(f"{T}/users?search=garcia&format=csv").text
    assert found == [row["id"] for row in csv.DictReader(io.StringIO(rows))]


LISTS = ("subscribedSkus", "users", "groups", "groups/sales-europe/members", "errors", "audit",
         "groups/sales-europe/membersWithLicenseErrors")  # fmt: skip


@pytest.mark.parametrize("path", [*(f"{T}/{name}" for name in LISTS), "/v1/deadLetters"])
def test_every_list_exports_all_of_itself(demo_console: Console, path: str) -> None:
    """CSV has the header and a row for each thing, whatever the page size."""
    if path == "/v1/deadLetters":
        letters = [("dlq.topic", b"t"), ("dlq.reason", b"not JSON")]
        from streams.console.read_model.input_projections import apply
        from streams.console.read_model.output_projections import ProjectionWriter

        store = demo_console.service.store
        apply(ProjectionWriter(store.writer), "dead-letters", [Rec(b"k", b"x", 1, 1, letters)])
    answer = demo_console.client.get(path, headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    first = get(demo_console, path, top="999")
    assert len(rows) == len(first["value"]) or "@odata.nextLink" in first
    assert len(rows) >= len(first["value"]) > 0


@pytest.mark.parametrize(
    ("path", "parameters", "holds"),
    [
        ("groups", {"hasMembersWithLicenseErrors": "true"}, lambda g: g["membersWithErrors"] > 0),
        ("groups", {"hasMembersWithLicenseErrors": "false"}, lambda g: not g["membersWithErrors"]),
        ("errors", {"error": "CountViolation"}, lambda e: e["error"] == "CountViolation"),
        ("errors", {"group": "sales-europe"}, lambda e: e["group"] == "sales-europe"),
        ("users", {"error": "CountViolation"}, lambda u: "CountViolation" in u["licenseErrors"]),
        ("users", {"hasLicenseErrors": "false"}, lambda u: not u["licenseErrors"]),
        ("users", {"search": "EMIL.FONTANA@"}, lambda u: u["displayName"] == "Emil Fontana"),
        ("users", {"group": "legal"}, lambda u: True),
        ("audit", {"user": "u0011"}, lambda a: a["target"] == {"type": "User", "id": "u0011"}),
        ("audit", {"result": "failure"}, lambda a: a["result"] == "failure"),
        ("subscribedSkus", {"waiting": "true"}, lambda s: s["waitingUsers"] > 0),
    ],
)  # fmt: skip
def test_filters_hold(
    demo_console: Console, path: str, parameters: dict[str, Any], holds: Any
) -> None:
    """Something is found, and only what was asked for."""
    found = get(demo_console, f"{T}/{path}", **parameters)["value"]
    assert found
    assert all(map(holds, found))


@pytest.mark.parametrize(
    "query",
    ["$top=0", "$top=1000", "$orderby=shoe", "$orderby=id up", "$skiptoken=zzz",
     "hasLicenseErrors=perhaps", "format=xml"],
)  # fmt: skip
def test_bad_parameters_are_told_in_graphs_form(demo_console: Console, query: str) -> None:
    """With the parameter's name and what is allowed."""
    answer = demo_console.client.get(f"{T}/users?{query}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert {"code", "message", "details"} == error.keys()
    assert query.partition("=")[0].removeprefix("$") in error["message"]


@pytest.mark.parametrize(
    "path", [f"{T}/users/nobody", f"{T}/groups/none", f"{T}/subscribedSkus/none",
             f"{T}/users/nobody/explain", f"{T}/operations/none", "/v1/tenants/none/users",
             f"{T}/groups/none/members", "/v1/none"]
)  # fmt: skip
def test_what_is_not_there_is_404(demo_console: Console, path: str) -> None:
    """In Graph's form."""
    assert get(demo_console, path, 404)["error"]["code"] == "Request_ResourceNotFound"


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture
def small(console: Console) -> Console:
    """Two products, one with a single seat, a licensed group with Ann in it, and Bob."""
    make = Events(run="s")
    console.world.publish([make.product("e3"), make.product("visio"), make.seats("e3", 1)])
    console.world.publish([make.seats("visio", 5), make.license("g", "e3"), make.user("ann")])
    console.world.publish([make.join("ann", "g"), make.user("bob")])
    return console


def test_a_direct_licence_answers_with_the_user(small: Console) -> None:
    """200 with the user after the change, and what the processor said."""
    body = {"addLicenses": [{"skuId": "visio", "disabledPlans": []}], "removeLicenses": []}
    answer = small.client.post(f"{T}/users/bob/assignLicense", json=body)
    assert answer.status_code == 200, answer.text
    assert [x["skuId"] for x in answer.json()["assignedLicenses"]] == ["visio"]
    assert answer.json()["@seatflow.operation"]["status"] == "applied"
    operation = answer.json()["@seatflow.operation"]["id"]
    assert get(small, f"{T}/operations/{operation}")["status"] == "applied"


def test_a_rule_rejects_in_its_own_words(small: Console) -> None:
    """400 with the rule's code, message and details."""
    body = {"addLicenses": [{"skuId": "e3"}]}
    answer = small.client.post(f"{T}/users/bob/assignLicense", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["details"][0]["target"]) == ("CountViolation", "e3")
    assert "No seat" in error["message"]
    nobody = small.client.post(f"{T}/users/nobody/assignLicense", json=body)
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "UserNotFound")


def test_a_deferred_change_is_202(small: Console) -> None:
    """R21: with where to ask, and its outcome there once the product is defined."""
    body = {"addLicenses": [{"skuId": "later"}]}
    answer = small.client.post(f"{T}/groups/g2/assignLicense", json=body)
    assert answer.status_code == 202
    where = answer.headers["location"]
    assert get(small, where)["status"] == "deferred"
    small.world.publish([Events(run="d").product("later")])
    assert get(small, where)["status"] == "applied"


def test_a_licensed_group_is_not_deleted(small: Console) -> None:
    """409 with what to do; force takes the licences away first."""
    answer = small.client.delete(f"{T}/groups/g")
    assert answer.status_code == 409
    assert "?force=true" in answer.json()["error"]["message"]
    assert small.client.delete(f"{T}/groups/g?force=true").status_code == 204
    assert get(small, f"{T}/users/ann")["assignedLicenses"] == []
    assert small.client.delete(f"{T}/groups/g").status_code == 404
    sent = [row["activity"] for row in get(small, f"{T}/audit", initiatedBy=_me(small))["value"]]
    assert sent == ["Request group deletion", "Request group license change"]


def _me(console: Console) -> str:
    return console.service.authenticator.local.name


def test_users_groups_members_and_seats_can_be_put(small: Console) -> None:
    """The whole life of a user, by PUT and DELETE."""
    client = small.client
    person = {"displayName": "Cid", "usageLocation": "DE", "proxyAddresses": ["SMTP:cid@x.example"]}
    assert client.put(f"{T}/users/cid", json=person).json()["displayName"] == "Cid"
    assert client.put(f"{T}/groups/g/members/cid").status_code == 204
    errors = get(small, f"{T}/users/cid")["licenseErrors"]
    assert errors == ["CountViolation"]
    seats = client.put(f"{T}/subscriptions/e3", json={"prepaidUnits": {"enabled": 2}})
    assert seats.json()["prepaidUnits"]["enabled"] == 2
    assert get(small, f"{T}/users/cid")["licenseErrors"] == []
    patched = client.put(f"{T}/users/cid", json={"displayName": None}).json()
    assert (patched["displayName"], patched["usageLocation"]) == (None, "DE")
    assert client.delete(f"{T}/groups/g/members/cid").status_code == 204
    assert get(small, f"{T}/users/cid")["assignedLicenses"] == []
    assert client.put(f"{T}/groups/h", json={"displayName": "Team"}).json()["displayName"] == "Team"
    assert client.delete(f"{T}/users/cid").status_code == 204
    get(small, f"{T}/users/cid", 404)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("users/bob/assignLicense", {"addLicenses": [{"skuId": "a b"}]}),
        ("users/bob/assignLicense", {"addLicenses": [{}]}),
        ("users/bob/assignLicense", {"addLicenses": "e3"}),
        ("users/bob/assignLicense", []),
        ("groups/g/assignLicense", {"removeLicenses": [3]}),
        ("whatif", {"events": []}),
        ("whatif", {"events": [{"type": "nonsense"}]}),
    ],
)
def test_bad_bodies_send_nothing(small: Console, path: str, body: Any) -> None:
    """400, no event, no audit."""
    before = small.world.said
    answer = small.client.post(f"{T}/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert before == small.world.said
    assert get(small, f"{T}/audit", initiatedBy=_me(small))["value"] == []


def test_every_command_is_audited_with_who(small: Console) -> None:
    """Before it is sent, with what was asked for."""
    small.client.post(f"{T}/users/ann/reprocessLicenseAssignment")
    small.client.post(f"{T}/groups/g/reprocess")
    small.client.put(f"{T}/subscriptions/e3", json={"prepaidUnits": {"enabled": 3}})
    rows = get(small, f"{T}/audit", initiatedBy=_me(small))["value"]
    assert [(row["activity"], row["target"]) for row in rows] == [
        ("Request subscription change", {"type": "Subscription", "id": "e3"}),
        ("Request group license recalculation", {"type": "Group", "id": "g"}),
        ("Request user license recalculation", {"type": "User", "id": "ann"}),
    ]
    asked = rows[0]["modifiedProperties"][0]
    assert (asked["name"], asked["newValue"]["enabled"]) == ("prepaidUnits", 3)


# --- explain -------------------------------------------------------------------------------------


def test_every_state_of_the_demo_is_explained(demo_console: Console) -> None:
    """Each user in error: some sentence speaks against each path that is not Active, and the
    engine's own checks say the same as what the processor published."""
    users = get(demo_console, f"{T}/users", hasLicenseErrors="true", top="999")["value"]
    assert len(users) > 80
    rules = {
        "ProhibitedInUsageLocationViolation": {"R7.1", "R12", "R14"},
        "MutuallyExclusiveViolation": {"R7.2", "R12"},
        "DependencyViolation": {"R7.3", "R11", "R12", "R13", "R14"},
        "UniquenessViolation": {"R7.4", "R11", "R12"},
        "CountViolation": {"R7.5", "R9"},
        "Other": {"R6"},
    }
    for user in users:
        told = get(demo_console, f"{T}/users/{user['id']}/explain")
        for product in told["products"]:
            assert product["verdict"]
            for path in product["paths"]:
                against = {s["rule"] for s in path["sentences"] if not s["ok"]}
                if path["error"] == "None":
                    assert set() == against
                else:
                    assert against & rules[path["error"]], (user["id"], path)


def test_the_trace_agrees_with_the_published_states(demo_console: Console) -> None:
    """Evaluated on the reconstructed state, every user of the demo has the published states."""
    db = demo_console.service.store.read_connection()
    known, settings = reconstruction.products(db), reconstruction.settings(db, "contoso")
    for user in every(demo_console.service.store.read_connection, queries.USERS, ("contoso",), {}):
        found = reconstruction.reconstruct_user(db, "contoso", user["id"], known)
        assert found is not None
        published = {
            (s["skuId"], found.slot(s["assignedByGroup"])): (s["state"], s["error"])
            for s in user["licenseAssignmentStates"]
            if s["skuId"] in known
        }
        denied = {s["skuId"] for s in user["licenseAssignmentStates"] if s["error"] == COUNT}
        outcome, _ = trace_evaluation(known, found.situation(settings, denied))
        traced = {(s.sku, s.path_index): (s.state, s.reason.error) for s in outcome.states}
        assert traced == published, user["id"]


def test_what_a_user_lacks_is_explained(small: Console) -> None:
    """Nothing requests it, who would give it, and what a direct assignment would come to."""
    told = get(small, f"{T}/users/bob/explain", skuId="e3")
    (product,) = told["products"]
    assert (product["held"], product["paths"]) == (False, [])
    text = " ".join(s["text"] for s in product["sentences"])
    for words in ("Nothing requests it", "Groups that license it: g", "would be rejected: No seat"):
        assert words in text
    small.client.put(f"{T}/groups/g/members/bob")
    (product,) = get(small, f"{T}/users/bob/explain", skuId="e3")["products"]
    said = {s["rule"]: s for s in product["paths"][0]["sentences"]}
    assert said["R7.1"]["ok"]
    assert not said["R7.5"]["ok"]
    assert "longest-waiting one is next" in said["R7.5"]["text"]


def test_manual_retry_is_explained(console: Console) -> None:
    """Seats are free, and yet nobody gets them: the policy says so."""
    make = Events(run="m")
    console.world.publish([make.product("e3"), make.seats("e3", 0), make.license("g", "e3")])
    console.world.publish([make.tenant_settings(policies={"seatRetry": "manual"})])
    console.world.publish([make.user("ann"), make.join("ann", "g")])
    console.world.publish([make.seats("e3", 4)])
    (product,) = get(console, f"{T}/users/ann/explain", skuId="e3")["products"]
    assert "policy is manual" in product["paths"][0]["sentences"][-1]["text"]


def test_the_demo_is_found_by_its_names(console: Console) -> None:
    """Before anything is known every page and list says so instead of failing."""
    assert get(console, "/v1/tenants") == {"value": []}
    assert "No tenant is known yet" in console.client.get("/", headers=HTML).text
    demo(console.world, until="Group changes")
    assert get(console, "/v1/tenants")["value"][0]["displayName"] == "Contoso"


HTML = {"accept": "text/html"}
