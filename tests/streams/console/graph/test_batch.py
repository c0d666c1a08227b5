"""``$batch``: order, failures, bounds, and that no call in it escapes what holds for calls."""

from __future__ import annotations

from typing import Any

import pytest

from streams.console.security.middleware import RateLimiter
from tests.streams.console.conftest import Console
from tests.streams.console.graph.test_changes import GROUP, REFERENCE, activities, small
from tests.streams.console.guarded import bearer, guarded

__all__ = ["guarded", "small"]


def batch(console: Console, *requests: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    """The answers by their ids, which are numbers if none are given."""
    given = [{"id": str(i), "method": "GET", **each} for i, each in enumerate(requests)]
    answer = console.client.post("/v1.0/$batch", json={"requests": given},
                                 headers=bearer(token) if token else {})  # fmt: skip
    assert answer.status_code == 200, answer.text
    return {each["id"]: each for each in answer.json()["responses"]}


def test_reads_and_changes(small: Console) -> None:
    """Each with its own status, headers and body."""
    found = batch(
        small,
        {"url": "/users?$filter=id eq 'ann'&$select=id"},
        {"url": "http://127.0.0.1:8080/v1.0/users/$count"},
        {"url": "/users/nobody"},
        {"url": "/users?$skip=1"},
        {"url": "/users/ann%40x.example?$select=id"},
        {"url": "/groups", "method": "POST", "body": GROUP,
         "headers": {"Content-Type": "application/json"}},
        {"url": "/users/bob", "method": "PATCH", "body": {"displayName": "Bob"}},
    )  # fmt: skip
    assert [found[id]["status"] for id in "0123456"] == [200, 200, 404, 400, 200, 201, 204]
    assert found["0"]["body"]["value"] == [{"id": "ann"}]
    assert found["1"]["body"] == "2"
    assert found["2"]["body"]["error"]["code"] == "Request_ResourceNotFound"
    assert found["5"]["headers"]["location"].endswith(found["5"]["body"]["id"])
    assert "body" not in found["6"]


def test_what_depends_comes_after_and_fails_with_it(small: Console) -> None:
    """However the calls are listed."""
    add = {"@odata.id": f"{REFERENCE}bob"}
    found = batch(
        small,
        {"id": "count", "url": "/groups/g/members/$count", "dependsOn": ["add"]},
        {"id": "add", "url": "/groups/g/members/$ref", "method": "POST", "body": add},
        {"id": "bad", "url": "/groups/none"},
        {"id": "lost", "url": "/users/bob", "method": "DELETE", "depends_on": ["bad", "add"]},
    )
    assert found["count"]["body"] == "2"
    assert [found[id]["status"] for id in ("add", "bad", "lost")] == [204, 404, 424]
    assert "Request user deletion" not in activities(small)


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        (None, "requests is empty"),
        ([], "requests is empty"),
        ([{}], "id of a request"),
        ([{"id": "1", "method": "HEAD", "url": "/users"}], "must be one of GET"),
        ([{"id": "1", "method": "GET", "url": "https://x.example/users"}], "must be a path"),
        ([{"id": "1", "method": "GET", "url": "/users", "verb": 1}], "no member 'verb'"),
        ([{"id": "1", "method": "GET", "url": "/users"}] * 2, "must differ"),
        ([{"id": str(i), "method": "GET", "url": "/users"} for i in range(21)], "at most 20"),
        ([{"id": "1", "method": "GET", "url": "/a", "dependsOn": ["1"]}], "circle"),
        ([{"id": "1", "method": "GET", "url": "/a", "dependsOn": ["2"]}], "to no request"),
        ([{"id": "1", "method": "GET", "url": "/a", "headers": []}], "JSON object"),
    ],
)
def test_a_batch_that_cannot_be_read(console: Console, requests: Any, says: str) -> None:
    """None of its calls is made."""
    console.world.publish([])
    answer = console.client.post("/contoso/v1.0/$batch", json={"requests": requests})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_a_batch_is_no_way_around(guarded: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles, nesting and rates are those of each call."""
    change = {"url": "/users/contoso-u", "method": "DELETE"}
    others: list[dict[str, Any]] = [
        {"url": "/users/contoso-u"},
        {"url": "/$batch", "method": "POST"},
        {"url": "/users", "headers": {"ConsistencyLevel": "strong"}},
    ]
    found = batch(guarded, change, *others, token="rob-token")
    assert [found[id]["status"] for id in "0123"] == [403, 200, 400, 400]
    charged: list[str] = []

    def allow(self: RateLimiter, client: str) -> bool:
        """One call may pass: the batch."""
        charged.append(client)
        return len(charged) == 1

    monkeypatch.setattr(RateLimiter, "allow", allow)
    found = batch(guarded, change, {"url": "/users"}, token="ann-token")
    assert [found[id]["status"] for id in "01"] == [429, 429]
    assert found["0"]["headers"]["retry-after"] == "1"
    assert len(charged) == 3
