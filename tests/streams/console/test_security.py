"""Who gets in, what is refused before anything is looked at, and that names stay text."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from starlette.testclient import TestClient

from streams.console.app import check, create_app, is_loopback, run_console
from streams.console.security.auth import Authenticator, new_token, read_tokens
from streams.console.security.middleware import MOST_BYTES
from streams.runtime.errors import WorkerError
from streams.runtime.settings import load_settings
from tests.streams.console.browser import console_process
from tests.streams.console.conftest import Console
from tests.streams.console.local import local_service
from tests.support.secure_broker import Authority
from tests.support.system import ROOT, Events

BASE = "http://127.0.0.1:8080"
HTML = {"accept": "text/html"}
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{77777*77777}}{% raw %}",
    "javascript:alert(1)",
    "</textarea><svg/onload=alert(1)>",
]


def entry(name: str, role: str, tenants: list[str], token: str) -> str:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return (
        f'[[token]]\nname = "{name}"\nrole = "{role}"\ntenants = {tenants!r}\nsha256 = "{digest}"\n'
    )


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Console]:
    """With tokens, and two tenants in it."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        entry("ann", "operator", ["contoso"], "ann-token")
        + entry("rob", "reader", ["contoso"], "rob-token")
        + entry("fay", "operator", ["fabrikam"], "fay-token")
        + entry("zoe", "operator", ["*"], "zoe-token")
    )
    settings, service, world = local_service(tmp_path, tokens)
    for tenant in ("contoso", "fabrikam"):
        make = Events(tenant, tenant)
        world.publish([make.product("e3"), make.seats("e3", 2), make.license(f"{tenant}-g", "e3")])
        world.publish([make.user(f"{tenant}-u", displayName=f"Person of {tenant}")])
        world.publish([make.join(f"{tenant}-u", f"{tenant}-g")])
    with TestClient(create_app(settings, service), base_url=BASE) as client:
        yield Console(client, service, world)
    service.store.close()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# --- tokens and roles ----------------------------------------------------------------------------

READS = ("", "/users", "/groups", "/errors", "/audit", "/subscribedSkus")


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), {"authorization": "Basic x"}])
def test_without_a_known_token_nothing_is_told(guarded: Console, headers: dict[str, str]) -> None:
    """401 for the API, the login for pages; health tells no tenant's names."""
    for path in ("/v1/tenants", "/v1/tenants/contoso/users", "/v1/tenants/contoso/users/contoso-u"):
        answer = guarded.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    page = guarded.client.get("/t/contoso", headers={**HTML, **headers}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    assert "contoso" not in guarded.client.get("/health").text


def test_a_reader_reads_and_no_more(guarded: Console) -> None:
    """403 for a command, and nothing is sent."""
    assert (
        guarded.client.get("/v1/tenants/contoso/users", headers=bearer("rob-token")).status_code
        == 200
    )
    before = guarded.world.said
    for call in (
        ("POST", "/v1/tenants/contoso/users/contoso-u/reprocessLicenseAssignment"),
        ("POST", "/v1/tenants/contoso/groups/contoso-g/reprocess"),
        ("DELETE", "/v1/tenants/contoso/groups/contoso-g?force=true"),
        ("DELETE", "/v1/tenants/contoso/users/contoso-u"),
    ):
        answer = guarded.client.request(*call, headers=bearer("rob-token"))
        assert (
            answer.status_code,
            answer.json()["error"]["code"],
        ) == (403, "Authorization_RequestDenied")
    assert before == guarded.world.said


def test_two_tenants_cannot_see_each_other(guarded: Console) -> None:
    """Every path of the API and every page: the other tenant is not there at all, and not named."""
    mine, other = bearer("ann-token"), "fabrikam"
    paths = [
        path.replace("{tenant}", other).replace("{user}", "fabrikam-u")
        .replace("{group}", "fabrikam-g").replace("{skuId}", "e3").replace("{id}", "fabrikam1")
        for path in guarded.client.get("/openapi.json").json()["paths"]
        if "{tenant}" in path
    ]  # fmt: skip
    assert len(paths) > 15
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE"):
            body: dict[str, Any] = (
                {"json": {"prepaidUnits": {}, "events": [{}]}} if method != "GET" else {}
            )
            answer = guarded.client.request(method, path, headers=mine, **body)
            assert answer.status_code in (404, 405), (method, path, answer.text)
            assert "Person of" not in answer.text
    log_in(guarded, "ann-token")
    for path in ("", "/users", "/groups", "/products", "/errors", "/audit", "/whatif",
                 "/users/fabrikam-u", "/groups/fabrikam-g", "/products/e3"):  # fmt: skip
        page = guarded.client.get(f"/t/{other}{path}", headers=HTML)
        assert page.status_code == 404
        assert "Person of" not in page.text
    assert guarded.client.get(f"/events?tenant={other}").status_code == 404
    start = guarded.client.get("/", headers=HTML).text
    assert "contoso" in start
    assert other not in start
    assert [t["id"] for t in guarded.client.get("/v1/tenants", headers=mine).json()["value"]] == [
        "contoso"
    ]
    assert guarded.client.get("/v1/deadLetters", headers=mine).status_code == 403


def test_an_operation_of_another_tenant_is_not_told(guarded: Console) -> None:
    """Its id alone does not open it."""
    path = "/v1/tenants/{}/groups/{}-g/reprocess"
    sent = guarded.client.post(path.format("fabrikam", "fabrikam"), headers=bearer("fay-token"))
    id = sent.json()["@seatflow.operation"]["id"]
    found = guarded.client.get(f"/v1/tenants/contoso/operations/{id}", headers=bearer("zoe-token"))
    assert found.status_code == 404


def test_a_what_if_cannot_reach_into_another_tenant(guarded: Console) -> None:
    """An event that names another tenant is refused."""
    event = {"type": "user.deleted", "user": "fabrikam-u", "tenant": "fabrikam"}
    answer = guarded.client.post(
        "/v1/tenants/contoso/whatif", json={"events": [event]}, headers=bearer("zoe-token")
    )
    assert answer.status_code == 400


def test_a_command_is_audited_by_its_token(guarded: Console) -> None:
    """The name of the token that it came with."""
    path = "/v1/tenants/contoso/groups/contoso-g/reprocess"
    guarded.client.post(path, headers=bearer("zoe-token"))
    rows = guarded.client.get(
        "/v1/tenants/contoso/audit?initiatedBy=zoe", headers=bearer("rob-token")
    )
    assert [r["activity"] for r in rows.json()["value"]] == ["Request group license recalculation"]


def test_a_token_that_is_taken_out_ends(guarded: Console) -> None:
    """Its sessions too, without a restart; a broken file lets nobody in."""
    authenticator = guarded.service.authenticator
    assert authenticator.file is not None
    log_in(guarded, "ann-token")
    assert guarded.client.get("/t/contoso", headers=HTML).status_code == 200
    authenticator.file.write_text(entry("rob", "reader", ["contoso"], "rob-token"))
    authenticator._looked = 0.0
    page = guarded.client.get("/t/contoso", headers=HTML, follow_redirects=False)
    assert page.status_code == 303
    assert authenticator.bearer("rob-token") is not None
    authenticator.file.write_text("nonsense [")
    authenticator._looked = 0.0
    assert authenticator.bearer("rob-token") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no [[token]]"),
        ("token = 3", "no [[token]]"),
        ("[[token", "cannot be read"),
        (entry("a", "admin", ["x"], "t"), "role must be"),
        (entry("a", "reader", [], "t"), "tenants must be"),
        (entry("", "reader", ["x"], "t"), "name must be"),
        ('[[token]]\nname="a"\nrole="reader"\ntenants=["x"]\nsha256="abc"\n', "sha256 must be"),
    ],
)
def test_a_bad_token_file_is_told(tmp_path: Path, text: str, says: str) -> None:
    """At the start, with what is wrong."""
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(WorkerError, match=re.escape(says)):
        read_tokens(path)


def test_a_new_token_works(tmp_path: Path) -> None:
    """What `--new-token` prints goes into the file as it is, however the name looks."""
    token, table = new_token('Ann "the \\ boss"')
    path = tmp_path / "tokens.toml"
    path.write_text(table)
    principal = Authenticator(path).bearer(token)
    assert principal is not None
    assert (principal.name, principal.role) == ('Ann "the \\ boss"', "reader")
    assert token not in table


# --- starting ------------------------------------------------------------------------------------


def test_beyond_loopback_it_needs_tokens_and_tls(tmp_path: Path) -> None:
    """And says how to give them."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(entry("ann", "operator", ["*"], "t"))
    for host in ("0.0.0.0", "::", "192.168.1.4", "console.example"):
        assert not is_loopback(host)
        with pytest.raises(WorkerError, match="SEATFLOW_HTTP_TOKENS_FILE"):
            check(load_settings(http_host=host))
        with pytest.raises(WorkerError, match="SEATFLOW_HTTP_CERT_FILE"):
            check(load_settings(http_host=host, http_tokens_file=tokens))
        check(load_settings(http_host=host, http_tokens_file=tokens, http_behind_proxy=True))
    for host in ("127.0.0.1", "::1", "localhost"):
        check(load_settings(http_host=host))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_it_serves_tls_with_the_certificate_it_is_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("console")
    env = {
        "SEATFLOW_BROKERS": "127.0.0.1:1",
        "SEATFLOW_HTTP_CERT_FILE": str(certificate),
        "SEATFLOW_HTTP_KEY_FILE": str(key),
    }
    with console_process(env, tmp_path / "data") as (url, _):
        assert url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        answer = httpx2.get(f"{url}/health", verify=trusting)
        assert answer.json()["status"] in ("broken", "catching up")
        assert "max-age" in answer.headers["strict-transport-security"]
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            httpx2.get(f"{url}/health")
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"http{url.removeprefix('https')}/health")


def test_the_address_is_told_once_it_can_be_reached(tmp_path: Path) -> None:
    """Who reads it may connect at once."""

    class ReachedError(Exception):
        pass

    def reach(url: str) -> None:
        address = urlsplit(url)
        socket.create_connection((address.hostname, address.port), timeout=5).close()
        raise ReachedError

    settings = load_settings(data_dir=tmp_path, http_port=0, brokers="127.0.0.1:1")
    with pytest.raises(ReachedError):
        run_console(settings, reach)


def test_the_command_refuses_to_start() -> None:
    """With one line and the exit code of a wrong configuration."""
    done = subprocess.run(
        [sys.executable, "-m", "streams", "console", "--host", "0.0.0.0"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "everybody" in done.stderr
    assert "Traceback" not in done.stderr


# --- requests ------------------------------------------------------------------------------------


def log_in(console: Console, token: str) -> None:
    answer = console.client.post("/login", data={"token": token}, follow_redirects=False)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def csrf_of(console: Console, path: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', console.client.get(path, headers=HTML).text)
    assert found is not None
    return found[1]


def test_a_form_needs_the_token_of_its_page(guarded: Console) -> None:
    """Without it, or with another session's, nothing is done."""
    path = "/t/contoso/groups/contoso-g"
    log_in(guarded, "zoe-token")
    foreign = csrf_of(guarded, path)
    guarded.client.cookies.clear()
    log_in(guarded, "ann-token")
    before = guarded.world.said
    for given in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": foreign}):
        answer = guarded.client.post(f"{path}/reprocess", data=given, follow_redirects=False)
        assert answer.status_code in (400, 403)
    assert before == guarded.world.said
    own = {"csrf": csrf_of(guarded, path)}
    answer = guarded.client.post(f"{path}/reprocess", data=own, follow_redirects=False)
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
    answer = guarded.client.post("/t/contoso/groups/contoso-g/reprocess", data=own)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
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
    """A wrong token is told; the right one leads to the start, never to an address given."""
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
