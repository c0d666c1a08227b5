"""Tokens, roles and tenants: who gets in, and what each may see and do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streams.console.security.auth import Authenticator, new_token, read_tokens
from streams.runtime.errors import WorkerError
from tests.streams.console.conftest import Console
from tests.streams.console.guarded import HTML, bearer, entry, guarded, log_in

__all__ = ["guarded"]

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
    names = {"tenant": other, "user": "fabrikam-u", "group": "fabrikam-g", "skuId": "e3", "id": "x"}
    paths = {
        path.format_map(names): methods
        for path, methods in guarded.client.get("/openapi.json").json()["paths"].items()
        if "{tenant}" in path
    }
    assert len(paths) > 15
    for path, methods in paths.items():
        for method in map(str.upper, methods):
            body: dict[str, Any] = (
                {"json": {"prepaidUnits": {}, "events": [{}]}} if method != "GET" else {}
            )
            answer = guarded.client.request(method, path, headers=mine, **body)
            assert answer.status_code == 404, (method, path, answer.text)
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
    """The output of `--new-token` goes into the file unchanged, whatever the name."""
    token, table = new_token('Ann "the \\ boss"')
    path = tmp_path / "tokens.toml"
    path.write_text(table)
    principal = Authenticator(path).bearer(token)
    assert principal is not None
    assert (principal.name, principal.role) == ('Ann "the \\ boss"', "reader")
    assert token not in table
