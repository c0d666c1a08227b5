"""Query parameters that no call has: refused, by every call of the API (contract, section 5)."""

from __future__ import annotations

import re

import pytest

from tests.streams.console.conftest import Console

METHODS = ("get", "post", "put", "delete")


def test_no_call_ignores_a_parameter_that_it_does_not_have(demo_console: Console) -> None:
    paths = demo_console.client.get("/openapi.json").json()["paths"]
    calls = [
        (method, path)
        for path, described in paths.items()
        if path.startswith("/v1/")
        for method in METHODS
        if method in described
    ]
    assert len(calls) > 25
    for method, path in calls:
        filled = re.sub(r"{\w+}", "x", path.replace("{tenant}", "contoso"))
        answer = demo_console.client.request(method, filled, params={"colour": "red"}, json={})
        assert answer.status_code == 400, (method, path, answer.text)
        error = answer.json()["error"]
        assert error["code"] == "Request_BadRequest"
        assert error["message"].startswith("There is no parameter 'colour' here"), error


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("Search=garcia", "did you mean search?"),
        ("$Top=5", "did you mean $top?"),
        ("haslicenseerrors=true", "did you mean hasLicenseErrors?"),
        ("search=garcia&$filter=x", "Allowed are: $top, $skiptoken,"),
    ],
)
def test_the_refusal_names_the_right_parameter(
    demo_console: Console, query: str, words: str
) -> None:
    answer = demo_console.client.get(f"/v1/tenants/contoso/users?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_every_parameter_of_the_description_is_taken(demo_console: Console) -> None:
    described = demo_console.client.get("/openapi.json").json()["paths"]
    listed = described["/v1/tenants/{tenant}/users"]["get"]["parameters"]
    names = [each["name"] for each in listed if each["in"] == "query"]
    assert "$top" in names
    values = {"$top": "1", "$orderby": "displayName", "format": "json"}
    for name in sorted({*names} - {"$skiptoken"}):
        value = values.get(name, "x" if name in ("search", "skuId", "group") else None)
        if value is not None:
            answer = demo_console.client.get("/v1/tenants/contoso/users", params={name: value})
            assert answer.status_code == 200, (name, answer.text)
