"""Requests refused unread, sessions and their forms, and the escaping of names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from streams.console.security.middleware import MOST_BYTES
from tests.streams.console.conftest import Console
from tests.streams.console.guarded import HTML, csrf_of, guarded, log_in
from tests.support.system import Events

__all__ = ["guarded"]

NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{77777*77777}}{% raw %}",
    "javascript:alert(1)",
    "</textarea><svg/onload=alert(1)>",
]


# --- requests ------------------------------------------------------------------------------------


def test_a_form_needs_the_token_of_its_page(guarded: Console) -> None:
    """Without it, or with another session's, nothing is done."""
    path = "/t/contoso/groups/contoso-g"
    log_in(guarded, "zoe-token")
    foreign = csrf_of(guarded, path)
    guarded.client.cookies.clear()
    log_in(guarded, "ann-token")
    before = guarded.world.said
    form, group = "/t/contoso/change/reprocess-group", {"group": "contoso-g"}
    for given in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": foreign}):
        for each in (form, f"{form}/preview"):
            answer = guarded.client.post(each, data=group | given, follow_redirects=False)
            assert answer.status_code in (400, 403)
    assert before == guarded.world.said
    own = group | {"csrf": csrf_of(guarded, path)}
    shown = guarded.client.post(f"{form}/preview", data=own).text
    (expect,) = re.findall(r'name="expect" value="(\w+)"', shown)
    own["expect"] = expect
    answer = guarded.client.post(form, data=own, follow_redirects=False)
    assert answer.status_code == 303
    assert "Applied." in guarded.client.get(answer.headers["location"], headers=HTML).text


def test_a_cookie_alone_changes_nothing(guarded: Console) -> None:
    """The API takes commands by bearer token only: a cookie comes along from anywhere."""
    log_in(guarded, "ann-token")
    assert guarded.client.get("/v1/tenants/contoso/users").status_code == 200
    answer = guarded.client.post("/v1/tenants/contoso/groups/contoso-g/reprocess")
    assert answer.status_code == 401


def test_a_reader_has_no_buttons(guarded: Console) -> None:
    """And a forged form is refused."""
    log_in(guarded, "rob-token")
    page = guarded.client.get("/t/contoso/groups/contoso-g", headers=HTML).text
    assert "/reprocess" not in page
    own = {"csrf": csrf_of(guarded, "/t/contoso/whatif")}
    own["group"] = "contoso-g"
    answer = guarded.client.post("/t/contoso/change/reprocess-group", data=own)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://127.0.0.1:8080"},
        {"origin": "http://127.0.0.1:8081"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_command(console: Console, headers: dict[str, str]) -> None:
    """Though the console on loopback asks for no token."""
    answer = console.client.put("/v1/tenants/t/users/u", json={}, headers=headers)
    assert answer.status_code == 403
    assert console.world.said == 0


def test_other_names_do_not_reach_it(console: Console) -> None:
    """DNS rebinding: a name of somebody else's that points here."""
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""):
        assert console.client.get("/v1/tenants", headers={"host": host}).status_code == 400
    for host in ("localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"):
        assert console.client.get("/v1/tenants", headers={"host": host}).status_code == 200


def test_large_requests_are_refused(console: Console) -> None:
    """By what they say of themselves, and by what really comes."""
    big = b"x" * (MOST_BYTES + 1)
    json = {"content-type": "application/json"}
    assert console.client.post("/v1/tenants/t/whatif", content=big, headers=json).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 65536 + 2):
            yield b"x" * 65536

    answer = console.client.post("/v1/tenants/t/whatif", content=chunks(), headers=json)
    assert answer.status_code == 413


def test_too_many_commands_at_once_are_refused(console: Console) -> None:
    """429 with when to try again."""
    answers = [console.client.post("/v1/none") for _ in range(80)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/", "/v1/tenants", "/health", "/nothing", "/static/console.css"])
def test_every_answer_has_the_headers(console: Console, path: str) -> None:
    """A strict CSP without inline anything, no sniffing, no frames, no referrer, no store."""
    headers = console.client.get(path, headers=HTML).headers
    csp = headers["content-security-policy"]
    assert "default-src 'none'" in csp
    assert "unsafe" not in csp
    assert "frame-ancestors 'none'" in csp
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers
    if not path.startswith("/static"):
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text(console: Console, name: str) -> None:
    """In every page that shows them: of users, groups, tenants, products, plans."""
    make = Events()
    console.world.publish(
        [
            make._event(
                "catalog", "e3", "product.defined", skuId="e3", displayName=name,
                skuPartNumber=name,
                servicePlans=[{"servicePlanId": "p", "servicePlanName": name}],
            ),
            make.seats("e3", 0),
            make.tenant_settings(displayName=name),
            make._event("group-changes", "contoso/g", "group.upserted", tenant="contoso",
                        group="g", displayName=name),
            make.license("g", "e3"),
        ]
    )  # fmt: skip
    console.world.publish(
        [make.user("ann", displayName=name, userPrincipalName=name, mail=name,
                   proxyAddresses=[name]), make.join("ann", "g")]
    )  # fmt: skip
    quoted = {"search": name, "$orderby": "id"}
    for path in ("", "/products", "/products/e3", "/groups", "/groups/g", "/users", "/users/ann",
                 "/errors", "/audit", "/whatif"):  # fmt: skip
        page = console.client.get(f"/t/contoso{path}", headers=HTML)
        assert page.status_code == 200, page.text
        assert_tame(page.text, name)
    for path in ("/users", "/groups", "/products", "/errors"):
        assert_tame(console.client.get(f"/t/contoso{path}", params=quoted, headers=HTML).text, name)
    own = {"csrf": csrf_of(console, "/t/contoso/whatif"), "events": name}
    assert_tame(console.client.post("/t/contoso/whatif", data=own).text, name)
    assert_tame(console.client.get(f"/t/{name}", headers=HTML).text, name)


def assert_tame(page: str, name: str) -> None:
    if any(c in name for c in "<>\"'"):
        assert name not in page
    assert str(77777 * 77777) not in page  # nor is a template in it carried out
    assert not re.search(r"<(script(?! src=\"/static/live\.js)|img|svg/)", page)
    assert not re.search(r"<[a-z]+[^>]*\son[a-z]+=", re.sub(r'"[^"]*"', '""', page))
    assert not re.search(r"(href|src|action)=\"?\s*javascript:", page)


@pytest.mark.parametrize(
    "search",
    ["' OR 1=1 --", "%", "_", "\\", "a'; DROP TABLE users; --", "😀" * 40, '"', "*"],
)
def test_a_search_is_only_a_search(console: Console, search: str) -> None:
    """SQL and LIKE have no power in it."""
    make = Events()
    console.world.publish([make.user(f"u{n}") for n in range(3)])
    for path in ("users", "groups", "errors", "subscribedSkus"):
        answer = console.client.get(f"/v1/tenants/contoso/{path}", params={"search": search})
        assert (answer.status_code, answer.json()["value"]) == (200, [])
    nul = console.client.get("/v1/tenants/contoso/users", params={"search": "\x00"})
    assert nul.status_code == 400
    found: Any = console.client.get("/v1/tenants/contoso/users", params={"search": "u"}).json()
    assert len(found["value"]) == 3


def test_login_goes_nowhere_else(guarded: Console) -> None:
    """A wrong token is reported; the right one leads home, never to a foreign address."""
    wrong = guarded.client.post("/login", data={"token": "x"})
    assert wrong.status_code == 401
    assert "not known" in wrong.text
    answer = guarded.client.post(
        "/login?next=//evil.example", data={"token": "ann-token"}, follow_redirects=False
    )
    assert answer.headers["location"] == "/"
    own = {"csrf": csrf_of(guarded, "/t/contoso")}
    guarded.client.post("/logout", data=own)
    page = guarded.client.get("/t/contoso", headers=HTML, follow_redirects=False)
    assert page.status_code == 303
