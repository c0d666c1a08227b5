"""What-if and explain where an address decides (R18): the outcome is the real one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.streams.console.conftest import Console
from tests.streams.console.test_whatif import really
from tests.support.system import Event, Events

MAILBOX = {"servicePlanId": "mail", "mailEnabled": True}
JOIN = {"type": "membership.added", "user": "bob", "group": "g"}


@pytest.fixture
def make(console: Console) -> Events:
    """Events of a tenant in which members of g get a mailbox, and routing addresses are at x."""
    events = Events()
    topic, key, value = events.product("mailbox")
    product = topic, key, json.dumps({**json.loads(value), "servicePlans": [MAILBOX]}).encode()
    domain = events.tenant_settings(usageLocation="US", initialDomain="x")
    console.world.publish([product, events.seats("mailbox", 9), domain])
    console.world.publish([events.license("g", "mailbox")])
    return events


def foretold(console: Console, asked: dict[str, Any], event: Event) -> dict[str, str]:
    """Returns the users' errors or changes as foretold; they must be what then happens."""
    before = really(console.world)
    answer = console.client.post("/v1/tenants/contoso/whatif", json={"events": [asked]}).json()
    console.world.publish([event])
    found = {failure["user"]: failure["error"] for failure in answer["failures"]}
    found |= {change["user"]: change["change"] for change in answer["changes"]}
    after = really(console.world)
    assert found.keys() == {user for user in after if after[user] != before.get(user, {})}
    return found


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"userPrincipalName": "SAME@x"}, id="another's principal name"),
        pytest.param({"mail": "same@X"}, id="another's given mail"),
        pytest.param({"proxyAddresses": ["smtp:Same@x"]}, id="another's given address"),
        pytest.param({"mailNickname": "same"}, id="another's routing address"),
    ],
)
def test_a_principal_name_that_another_owns(
    console: Console, make: Events, other: dict[str, Any]
) -> None:
    console.world.publish([make.user("ann", **other), make.join("ann", "g")])
    console.world.publish([make.user("bob", userPrincipalName="same@x")])
    shown = console.client.get("/v1/tenants/contoso/users/bob/explain").json()["products"][0]
    directly = shown["sentences"][-1]
    if "mailNickname" not in other:  # a routing address is not looked for there
        assert (directly["rule"], directly["ok"]) == ("R16", False), directly
        assert "belongs to the user ann" in directly["text"]
    assert foretold(console, JOIN, make.join("bob", "g")) == {"bob": "UniquenessViolation"}


def test_an_address_that_comes_free(console: Console, make: Events) -> None:
    """Bob waits for the address; Cid, who wants it since later, does not get it."""
    for user in ("ann", "bob", "cid"):
        console.world.publish([make.user(user, userPrincipalName="same@y"), make.join(user, "g")])
    console.world.publish([make.user("ann", mailNickname="n")])
    leave = {"type": "membership.removed", "user": "ann", "group": "g"}
    assert foretold(console, leave, make.leave("ann", "g")) == {"ann": "lost", "bob": "gained"}


def test_a_mail_given_and_taken_away_is_a_claim(console: Console, make: Events) -> None:
    """R18: in the order in which they were given, and no longer than they are."""
    console.world.publish([make.user("ann", mail="a@x", proxyAddresses=["smtp:b@x"])])
    console.world.publish([make.user("cid", mail="a@x"), make.user("ann", mail=None)])
    db = console.service.store.read_connection()
    rows = db.execute("SELECT address, user FROM addresses ORDER BY address, user")
    assert [tuple(row) for row in rows] == [("smtp:a@x", "cid"), ("smtp:b@x", "ann")]
    console.world.publish(
        [make.user("ann", proxyAddresses=["SMTP:c@x"]), make.user("ann", mail="d@x")]
    )
    rows = db.execute("SELECT address FROM addresses WHERE user = 'ann'")
    assert [row[0] for row in rows] == ["smtp:c@x"], "with a primary address, mail is none"
