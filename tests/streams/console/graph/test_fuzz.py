"""Graph's calls fuzzed: any path, option or body has a proper answer, and never a server error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.console.graph.options import LIST
from streams.console.graph.table import ROUTES
from streams.console.security.middleware import RateLimiter
from tests.streams.console.conftest import Console, _console
from tests.streams.console.local import demo

E3 = "6fd2c87f-b296-42f0-b197-1e91e994b900"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=12)
ID = st.sampled_from(["u0011", "sales-europe", "contoso", f"contoso_{E3}"]) | TEXT
VALUES = {
    "$filter": ["displayName eq 'a'", "assignedLicenses/any(x:x/skuId eq 'a')", "id in ('a')",
                "not (id eq null)", "assignedLicenses/$count gt 0", "startswith(displayName,'a')"],
    "$search": ['"displayName:a"', '"displayName:a b" AND ("mail:x" OR "mail:y")', '""'],
    "$orderby": ["displayName", "id desc", "displayName desc,id", ","],
    "$select": ["id", "displayName,id", "*", ""],
    "$expand": ["members", "memberOf($select=id;$top=3)", "licenseDetails", "members()"],
    "$top": ["1", "999", "0", "-1", "٣"],
    "$count": ["true", "false", "1"],
    "$skiptoken": ["zzz", "W10", "WzFd"],
}  # fmt: skip
SCALAR = st.none() | st.booleans() | st.integers() | TEXT
NAMES = st.sampled_from(
    ["addLicenses", "removeLicenses", "skuId", "displayName", "userPrincipalName", "@odata.id",
     "members@odata.bind", "requests", "id", "method", "url", "usageLocation", "proxyAddresses"]
) | TEXT  # fmt: skip
BODY = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The demo's tenant, without a limit of rates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RateLimiter, "allow", lambda *_: True)
        for made in _console(tmp_path_factory.mktemp("fuzz")):
            demo(made.world, until="Seats")
            yield made


def check(console: Console, method: str, path: str, options: Any, body: Any = None) -> None:
    answer = console.client.request(method, path, params=options, json=body)
    assert answer.status_code < 500, (method, path, options, body, answer.text)
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert {"code", "message", "innerError"} <= error.keys()
        assert error["message"]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_reads_have_a_proper_answer(console: Console, data: st.DataObject) -> None:
    """With options that fit and options that do not."""
    route = data.draw(st.sampled_from([route for route in ROUTES if route.method == "GET"]))
    path = "/".join(
        quote(data.draw(ID)) if segment.startswith("{") else segment for segment in route.segments
    )
    chosen = data.draw(st.lists(st.sampled_from(LIST), unique=True, max_size=4))
    options = {name: data.draw(st.sampled_from(VALUES[name]) | TEXT) for name in chosen}
    check(console, "GET", f"/v1.0/{path}", options)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_changes_have_a_proper_answer(console: Console, data: st.DataObject) -> None:
    """Of any JSON as the body."""
    routes = [route for route in ROUTES if route.method != "GET"]
    route = data.draw(st.sampled_from(routes))
    path = "/".join(
        quote(data.draw(ID)) if segment.startswith("{") else segment for segment in route.segments
    )
    check(console, route.method, f"/v1.0/{path}", {}, data.draw(BODY))
    check(console, "POST", "/v1.0/$batch", {}, data.draw(BODY))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(TEXT, max_size=4).map("/".join), st.dictionaries(TEXT, TEXT, max_size=2))
def test_no_path_breaks_the_table(console: Console, path: str, options: Any) -> None:
    """It is a call, or it is not there."""
    check(console, "GET", f"/v1.0/{quote(path)}", options)
