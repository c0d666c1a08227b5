"""Changes by the forms of the pages: filled in, previewed, confirmed, and what came of them."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from streams.console.changes.forms import FORMS
from streams.console.read_model import queries
from streams.console.read_model.pagination import page
from tests.streams.console.conftest import Console
from tests.streams.console.guarded import HTML, csrf_of, guarded, log_in
from tests.support.system import Events

__all__ = ["guarded"]

Fields = dict[str, Any]


class Administrator:
    """Somebody at a form; remembers the last page."""

    def __init__(self, console: Console, tenant: str = "contoso") -> None:
        self.console, self.base = console, f"/t/{tenant}/change"
        self.page = ""

    def preview(self, form: str, **fields: Any) -> int:
        """Sends a filled form."""
        names = {name.replace("off__", "off:"): value for name, value in fields.items()}
        names["csrf"] = csrf_of(self.console, f"{self.base}/new-group")
        return self._post(f"{self.base}/{form}/preview", names)

    def confirm(self) -> int:
        """Confirms what the preview shows, and follows to the page that it leads to."""
        found = re.search(r'<form method="post" action="([^"]+)" class="buttons">', self.page)
        assert found is not None, self.page
        hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', self.page)
        fields: Fields = {}
        for name, value in hidden:
            fields.setdefault(html.unescape(name), []).append(html.unescape(value))
        return self._post(html.unescape(found[1]), fields)

    def _post(self, path: str, fields: Fields) -> int:
        answer = self.console.client.post(path, data=fields, headers=HTML)
        self.page = answer.text
        return answer.status_code

    @property
    def text(self) -> str:
        """The page without its markup."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", self.page)).split())


@pytest.fixture
def admin(console: Console) -> Administrator:
    """At a tenant with two products, two seats of one of them, a group and three users."""
    make = Events(run="start")
    console.world.publish([make.product("e3", "mail", "files"), make.product("e5", "calls")])
    console.world.publish([make.seats("e3", 2), make.seats("e5", 5)])
    console.world.publish([make.license("sales", "e3")])
    for user in ("ann", "bob", "cid"):
        name = {"displayName": user.title(), "userPrincipalName": f"{user}@x.example"}
        console.world.publish([make.user(user, **name), make.join(user, "sales")])
    return Administrator(console)


def held(admin: Administrator, user: str) -> set[str]:
    found = queries.user(admin.console.service.store.read_connection(), "contoso", user)
    assert found is not None
    return {licence["skuId"] for licence in found["assignedLicenses"]}


def audit(admin: Administrator) -> list[dict[str, Any]]:
    answer = admin.console.client.get("/v1/tenants/contoso/audit")
    return [each for each in answer.json()["value"] if each["initiatedBy"] != "Seatflow"]


def test_a_group_gets_and_loses_licences_in_one_change(admin: Administrator) -> None:
    """The preview names the members who would fail; nothing is done before it is confirmed."""
    assert (
        admin.preview("group-licences", group="sales", had="e3", sku="e5", off__e5="calls") == 200
    )
    assert "Assign e5, without 1 plan." in admin.text
    assert "Remove e3." in admin.text
    assert "loses it" in admin.text
    assert held(admin, "ann") == {"e3"}
    assert admin.confirm() == 200
    assert "Applied. It has been processed" in admin.text
    assert [held(admin, user) for user in ("ann", "bob", "cid")] == [{"e5"}] * 3
    sent = audit(admin)
    assert [each["activity"] for each in sent] == ["Request group license change"]
    results = page(
        admin.console.service.store.read_connection(), queries.AUDIT, ("contoso",),
        {"causedBy": sent[0]["causedBy"]}, 50,
    ).rows  # fmt: skip
    assert {each["target"]["id"] for each in results} == {"sales", "ann", "bob", "cid"}


def test_the_preview_says_who_would_go_without(admin: Administrator) -> None:
    admin.preview("group-licences", group="sales", sku=["e3", "e5"])
    assert "Not enough seats" not in admin.text
    admin.preview("seats", sku="e5", number="3", direction="give back")
    assert "Give back 3 seats of e5: 5 enabled units become 2." in admin.text
    assert admin.confirm() == 200
    admin.preview("exchange", group="sales", **{"from": "e3", "to": "e5"})
    assert "Who would fail, and why" in admin.text
    assert "Cid" in admin.text
    assert "Not enough seats" in admin.text


def test_members_move_between_products_without_a_gap(admin: Administrator) -> None:
    """One event adds and removes: no published state of a user has neither product."""
    before = len(admin.console.world.cluster.outputs)
    assert admin.preview("exchange", group="sales", **{"from": "e3", "to": "e5"}) == 200
    assert "e3 is exchanged for e5, with every plan, in one change for all 3 members" in admin.text
    assert admin.confirm() == 200
    published = admin.console.world.cluster.outputs[before:]
    states = [o.value for o in published if o.topic == "user-licenses" and "cid" not in o.key]
    assert states
    assert all(state["assignedLicenses"] for state in states if state)
    assert held(admin, "cid") == {"e5"}


def test_a_user_gets_a_direct_licence(admin: Administrator) -> None:
    assert admin.preview("user-licences", user="ann@x.example", sku=["e5"]) == 200
    assert "Ann, directly: Assign e5, with every plan." in admin.text
    assert admin.confirm() == 200
    assert held(admin, "ann") == {"e3", "e5"}
    page = admin.console.client.get("/t/contoso/change/user-licences?user=ann").text
    assert re.search(r'value="e5" checked', page)
    assert "through sales" in page


def test_a_change_that_a_rule_rejects_says_so(admin: Administrator) -> None:
    """The preview foretells it; confirmed all the same, the outcome is the rule's own sentence."""
    admin.preview("seats", sku="e5", number="5", direction="give back")
    admin.confirm()
    admin.preview("user-licences", user="ann", sku=["e5"])
    assert "Rejected, ann." in admin.text
    admin.confirm()
    assert "No seat of e5 is free" in admin.text
    assert held(admin, "ann") == {"e3"}


def test_seats_are_bought_and_the_waiting_user_gets_one(admin: Administrator) -> None:
    assert held(admin, "cid") == set()
    admin.preview("seats", sku="e3", number="1,000", direction="buy")
    assert "Buy 1,000 seats of e3: 2 enabled units become 1,002." in admin.text
    assert "errors would be resolved" in admin.text
    admin.confirm()
    assert "1,002" in admin.text
    assert held(admin, "cid") == {"e3"}
    (record,) = audit(admin)
    (change,) = record["modifiedProperties"]
    assert (change["oldValue"]["enabled"], change["newValue"]["enabled"]) == (2, 1002)


def test_a_product_is_bought_for_the_first_time(admin: Administrator) -> None:
    make = Events(run="new")
    admin.console.world.publish([make.product("visio")])
    assert ">visio<" in admin.console.client.get("/t/contoso/change/seats").text
    admin.preview("seats", sku="visio", number="7", direction="buy")
    admin.confirm()
    found = queries.sku(admin.console.service.store.read_connection(), "contoso", "visio")
    assert found is not None
    assert found["prepaidUnits"]["enabled"] == 7


def test_a_group_is_created_and_filled_and_emptied(admin: Administrator) -> None:
    assert admin.preview("new-group", name="Marketing", id="marketing") == 200
    assert admin.confirm() == 200
    assert "Marketing" in admin.text
    users = "ann\nBOB@x.example\n\n"
    assert admin.preview("add-members", group="Marketing", users=users) == 200
    assert "Add 2 users to Marketing: Ann, Bob." in admin.text
    assert admin.confirm() == 200
    assert "Applied: 2 of 2 changes." in admin.text
    db = admin.console.service.store.read_connection()
    assert {m["id"] for m in queries.memberships(db, "contoso", "bob")} == {"sales", "marketing"}
    assert admin.preview("remove-members", group="marketing", user=["ann", "cid"]) == 200
    assert "Not direct members: Cid." in admin.text
    assert admin.confirm() == 200
    assert [m["id"] for m in queries.memberships(db, "contoso", "ann")] == ["sales"]
    activities = [each["activity"] for each in audit(admin)]
    assert activities == [
        "Request removal from group",
        *["Request addition to group"] * 2,
        "Request group update",
    ]


def test_a_selection_of_users_is_reprocessed(admin: Administrator) -> None:
    make = Events(run="manual")
    admin.console.world.publish([make.tenant_settings(policies={"seatRetry": "manual"})])
    admin.console.world.publish([make.seats("e3", 3)])
    assert held(admin, "cid") == set()
    page = admin.console.client.get("/t/contoso/users?hasLicenseErrors=true").text
    selected = re.findall(r'name="user" value="([^"]+)"', page)
    assert selected == ["cid"]
    assert admin.preview("reprocess", user=[*selected, "ann"]) == 200
    assert "1 errors would be resolved" in admin.text
    assert admin.confirm() == 200
    assert held(admin, "cid") == {"e3"}
    assert [each["target"]["id"] for each in audit(admin)] == ["ann", "cid"]


@pytest.mark.parametrize(
    ("page", "form", "fields"),
    [
        ("users/cid", "reprocess", {"user": "cid"}),
        ("groups/sales", "reprocess-group", {"group": "sales"}),
    ],
)
def test_the_button_of_a_page_shows_first_what_would_happen(
    admin: Administrator, page: str, form: str, fields: Fields
) -> None:
    make = Events(run="manual")
    settings = make.tenant_settings(policies={"seatRetry": "manual"})
    admin.console.world.publish([settings, make.seats("e3", 3)])
    text = admin.console.client.get(f"/t/contoso/{page}").text
    assert f'action="/t/contoso/change/{form}/preview"' in text
    assert admin.preview(form, **fields) == 200
    assert "1 errors would be resolved" in admin.text
    assert held(admin, "cid") == set()
    assert admin.confirm() == 200
    assert "Applied." in admin.text
    assert held(admin, "cid") == {"e3"}
    assert [each["target"]["id"] for each in audit(admin)] == [*fields.values()]


def test_a_rule_is_shown_with_its_members_before_it_is_given(admin: Administrator) -> None:
    make = Events(run="rule")
    admin.console.world.publish(
        [make.seats("e3", 1), make.user("ann", attributes={"city": "Kiel"})]
    )
    admin.console.world.publish([make.user("dan", displayName="Dan", attributes={"city": "Kiel"})])
    fields = {"group": "sales", "rule": 'user.city -eq "Kiel"', "state": "On"}
    assert admin.preview("membership-rule", **fields) == 200
    for words in (
        'Give sales the membership rule: user.city -eq "Kiel"',
        "Members would be 2 users: Ann, Dan.",
        "1 user would join: Dan.",
        "2 users would leave: Bob, Cid.",
    ):
        assert words in admin.text
    assert admin.confirm() == 200
    assert "Applied." in admin.text
    assert held(admin, "bob") == set()
    assert held(admin, "ann") == {"e3"}
    (record,) = audit(admin)
    assert record["activity"] == "Request group update"
    assert admin.preview("membership-rule", **fields) == 400
    assert "Nothing would change." in admin.text
    page = admin.console.client.get("/t/contoso/change/membership-rule?group=sales").text
    assert "user.city -eq" in page
    assert admin.preview("membership-rule", **fields | {"state": "Paused"}) == 200
    assert "The members stay as they are while the rule is paused." in admin.text
    assert admin.preview("membership-rule", group="sales", rule="") == 200
    assert "Take the membership rule away from sales." in admin.text
    assert "Members would be 3 users: Ann, Bob, Cid." in admin.text
    admin.confirm()
    assert "Applied." in admin.text
    assert "Membership rule</h2>" not in admin.page


def test_what_is_done_is_what_was_shown(admin: Administrator) -> None:
    """If the change is another one by now, its outcome is shown first."""
    admin.preview("seats", sku="e3", number="1", direction="buy")
    admin.console.world.publish([Events(run="other").seats("e3", 10)])
    assert admin.confirm() == 200
    assert "The state has changed meanwhile" in admin.text
    assert "10 enabled units become 11" in admin.text
    assert audit(admin) == []
    admin.confirm()
    assert len(audit(admin)) == 1


def test_a_licence_that_came_meanwhile_stays(admin: Administrator) -> None:
    """The form did not show it, so it was not unticked by anybody."""
    admin.console.world.publish([Events(run="late").license("sales", "e5")])
    assert admin.preview("group-licences", group="sales", had="e3", sku="e3") == 400
    assert "Nothing would change." in admin.text
    admin.preview("group-licences", group="sales", had="e3")
    admin.confirm()
    assert held(admin, "ann") == {"e5"}


MISTAKES: list[tuple[str, Fields, str]] = [
    ("group-licences", {"group": "nowhere"}, "There is no group “nowhere”"),
    ("group-licences", {"group": "sales", "sku": "e3"}, "Nothing would change."),
    ("user-licences", {"user": "eve"}, "There is no user “eve”"),
    ("exchange", {"group": "sales", "from": "e5", "to": "e3"}, "Choose the product that the group"),
    ("exchange", {"group": "sales", "from": "e3", "to": "e3"}, "get instead"),
    ("add-members", {"group": "sales", "users": "eve\nann"}, "There are no such users: eve."),
    ("add-members", {"group": "sales", "users": "ann"}, "Members already: Ann."),
    ("remove-members", {"group": "sales"}, "Select users"),
    ("new-group", {"id": "x"}, "Give the group a name."),
    ("new-group", {"id": "sales", "name": "Sales"}, "a group with the id “sales” already"),
    ("new-group", {"id": "a b", "name": "Sales"}, "group"),
    ("seats", {"sku": "e3", "number": "0"}, "must be from 1 to"),
    ("seats", {"sku": "e3", "number": "-2"}, "must be from 1 to"),
    ("seats", {"sku": "e3", "number": "3", "direction": "give back"}, "cannot be given back: 2"),
    ("seats", {"number": "3"}, "Choose a product."),
    ("reprocess", {}, "Select users"),
    ("membership-rule", {"group": "nowhere", "rule": "x"}, "There is no group “nowhere”"),
    (
        "membership-rule",
        {"group": "sales", "rule": "user.city -eq"},
        "The rule cannot be read. At character 14",
    ),
    ("membership-rule", {"group": "sales", "rule": "x", "state": "Off"}, "is On or Paused"),
    ("membership-rule", {"group": "sales"}, "Nothing would change."),
    ("reprocess-group", {"group": "nowhere"}, "There is no group “nowhere”"),
]


@pytest.mark.parametrize(("form", "fields", "says"), MISTAKES)
def test_a_mistake_is_explained_beside_the_form(
    admin: Administrator, form: str, fields: Fields, says: str
) -> None:
    """The form keeps the values that were typed, and nothing is sent."""
    before = admin.console.world.said
    assert admin.preview(form, **fields) == 400
    assert 'role="alert"' in admin.page
    assert says in admin.text
    assert "Show what would happen" in admin.text or "Continue" in admin.text
    assert admin.console.world.said == before


@pytest.mark.parametrize("form", FORMS)
def test_every_form_opens(admin: Administrator, form: str) -> None:
    """Without its object it asks for one; with it, it shows the state."""
    for query in ("", "?group=sales&user=ann&sku=e3"):
        answer = admin.console.client.get(f"/t/contoso/change/{form}{query}", headers=HTML)
        assert answer.status_code == 200
        assert FORMS[form].title in html.unescape(answer.text)


def test_a_reader_may_ask_but_not_change(guarded: Console) -> None:
    """The preview has no button, and a forged confirmation is refused; so is a missing token."""
    log_in(guarded, "rob-token")
    admin = Administrator(guarded)
    assert admin.preview("seats", sku="e3", number="1", direction="buy") == 200
    assert "become 3" in admin.text
    assert ">Confirm<" not in admin.page
    before = guarded.world.said
    assert admin.confirm() == 403
    assert "needs the role operator" in admin.text
    assert guarded.world.said == before
    page = guarded.client.get("/t/contoso/groups/contoso-g", headers=HTML).text
    assert "/change/" not in page
    answer = guarded.client.post("/t/contoso/change/seats/preview", data={"sku": "e3"})
    assert answer.status_code == 403


def test_forms_stay_within_the_tenant(guarded: Console) -> None:
    """Another tenant's group, user or form does not exist for the token."""
    log_in(guarded, "ann-token")
    assert guarded.client.get("/t/fabrikam/change/seats", headers=HTML).status_code == 404
    admin = Administrator(guarded)
    assert admin.preview("add-members", group="fabrikam-g", users="contoso-u") == 400
    assert admin.preview("add-members", group="contoso-g", users="fabrikam-u") == 400
    assert "There are no such users: fabrikam-u." in admin.text
    assert guarded.client.get("/t/contoso/change/nothing", headers=HTML).status_code == 404
