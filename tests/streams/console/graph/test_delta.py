"""Delta queries: a copy that follows them is always the original, across restarts and rebuilds."""

from __future__ import annotations

import random
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from streams.console.app import create_app
from streams.console.read_model import object_changes
from streams.console.read_model.store import Store, transaction
from tests.streams.console.conftest import Console
from tests.support.system import Events

BASE = "http://127.0.0.1:8080/v1.0/"


class Copy:
    """A client's copy of users or groups, kept by delta queries."""

    def __init__(self, client: Any, path: str, options: str = "") -> None:
        self.client, self.objects = client, {}  # type: ignore[var-annotated]
        self.members: set[tuple[str, str]] = set()
        self.link = f"{BASE}{path}/delta{options}"
        self.pages = 0

    def follow(self) -> list[dict[str, Any]]:
        """Follows all pages; returns the objects in them."""
        url: str | None = self.link
        found: list[dict[str, Any]] = []
        while url:
            answer = self.client.get(url)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            found += body["value"]
            self.pages += 1
            url = body.get("@odata.nextLink")
        self.link = body["@odata.deltaLink"]
        for each in found:
            self._take(dict(each))
        return found

    def _take(self, given: dict[str, Any]) -> None:
        id = given["id"]
        for member in given.pop("members@delta", []):
            pair = (id, member["id"])
            (self.members.discard if "@removed" in member else self.members.add)(pair)
        if "@removed" in given:
            self.objects.pop(id, None)
        else:
            self.objects[id] = {**self.objects.get(id, {}), **given}


def everything(console: Console, path: str) -> dict[str, Any]:
    found = console.client.get(f"{BASE}{path}?$top=999").json()["value"]
    return {each["id"]: each for each in found}


def members(console: Console, group: str) -> set[str]:
    found = console.client.get(f"{BASE}groups/{group}/members?$top=999").json()["value"]
    return {each["id"] for each in found}


@pytest.fixture
def small(console: Console) -> Console:
    """Users in two groups, one of them with a licence."""
    make = Events(run="s")
    console.world.publish([make.product("e3"), make.seats("e3", 4), make.license("g0", "e3")])
    for i in range(9):
        console.world.publish([make.user(f"u{i}", displayName=f"U {i}"), make.join(f"u{i}", "g0")])
    console.world.publish([make.join("u1", "g1")])
    return console


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_follows_whatever_happens(small: Console, seed: int) -> None:
    """Users come, change, go and return; groups and memberships, too."""
    choose, make = random.Random(seed), Events(run=f"d{seed}")
    users, groups = Copy(small.client, "users", "?$top=4"), Copy(small.client, "groups", "?$top=3")
    for _ in range(12):
        user, group = f"u{choose.randrange(12)}", f"g{choose.randrange(3)}"
        small.world.publish(
            choose.choices(
                [
                    make.user(user, displayName=f"U {choose.random()}"),
                    make.join(user, group),
                    make.leave(user, group),
                    make._of_user(user, "user.deleted"),
                    make._of_user(user, "user.deleted", restorable=True),
                    make.license(group, "e3"),
                ],
                k=choose.randrange(4),
            )
        )
        users.follow()
        groups.follow()
        assert users.objects == everything(small, "users")
        assert groups.objects == everything(small, "groups")
        present = users.objects.keys()
        for id in groups.objects:
            copied = {user for group, user in groups.members if group == id and user in present}
            assert copied == members(small, id)
    assert groups.pages > 12


def test_nothing_comes_twice_without_a_reason(small: Console) -> None:
    """After the first reading only what changed; then nothing."""
    users = Copy(small.client, "users", "?$select=displayName")
    first = users.follow()
    assert len(first) == 9
    assert first[0].keys() == {"id", "displayName"}
    assert users.follow() == []
    make = Events(run="n")
    small.world.publish([make.user("u3", displayName="New"), make._of_user("u4", "user.deleted")])
    assert users.follow() == [
        {"id": "u3", "displayName": "New"},
        {"id": "u4", "@removed": {"reason": "deleted"}},
    ]
    small.world.publish([make._of_user("u5", "user.deleted", restorable=True)])
    assert users.follow() == [{"id": "u5", "@removed": {"reason": "changed"}}]


def test_the_latest_token_skips_what_there_is(small: Console) -> None:
    """With or without the members of groups."""
    groups = Copy(small.client, "groups", "?$deltatoken=latest&$select=displayName")
    both = Copy(small.client, "groups", "()?$deltatoken=latest&$expand=members&$select=id")
    assert groups.follow() == both.follow() == []
    make = Events(run="l")
    small.world.publish([make.leave("u1", "g1"), make.join("u2", "g1")])
    assert groups.follow() == []
    (found,) = both.follow()
    removed = {
        "@odata.type": "#microsoft.graph.user",
        "id": "u1",
        "@removed": {"reason": "deleted"},
    }
    assert found["id"] == "g1"
    assert found["members@delta"] == [
        removed,
        {"@odata.type": "#microsoft.graph.user", "id": "u2"},
    ]


def test_tokens_survive_a_restart(small: Console) -> None:
    """The numbering is in the file: another process continues it."""
    users = Copy(small.client, "users")
    users.follow()
    service = small.service
    service.store = Store(service.store.path, service.settings.topic_prefix)
    with transaction(service.store.writer) as db:
        db.execute("UPDATE users SET name = 'Changed' WHERE user = 'u7'")
    with TestClient(create_app(service.settings, service), base_url=BASE) as client:
        users.client = client
        assert [each["id"] for each in users.follow()] == ["u7"]


def test_after_a_rebuild_the_client_begins_again(small: Console) -> None:
    """410 with the address to begin at; also if what was removed is forgotten."""
    users = Copy(small.client, "users")
    users.follow()
    small.world.publish([Events(run="g")._of_user("u1", "user.deleted")])
    store = small.service.store
    with transaction(store.writer):
        object_changes.prune(store.writer, time.time() + 60)
        assert object_changes.oldest(store.writer) == 0
        later = time.time() + object_changes.KEEP_GONE_SECONDS + 60
        object_changes.prune(store.writer, later)
    answer = small.client.get(users.link)
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "resyncRequired"
    users.link = answer.headers["location"]
    users.follow()
    store.clear()
    small.world.publish([Events(run="r").user("new")])
    answer = small.client.get(users.link)
    assert answer.status_code == 410


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("$filter=id eq 'a'", "there are $select, $top, $deltatoken, $expand"),
        ("$skiptoken=zzz", "not one that this delta query gave"),
        ("$deltatoken=zzz", "not one that this delta query gave"),
        ("$deltatoken=zzz&$select=id", "there are $skiptoken, $deltatoken"),
        ("$select=department", "no property 'department'"),
        ("$expand=members", "of groups"),
        ("$top=0", "1 to 999"),
    ],
)
def test_what_cannot_be_understood_is_refused(small: Console, query: str, says: str) -> None:
    """With a sentence."""
    answer = small.client.get(f"{BASE}users/delta?{query}")
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_a_forged_token_is_refused_or_harmless(small: Console) -> None:
    """Any JSON, and the token of another query."""
    groups = Copy(small.client, "groups")
    groups.follow()
    token = groups.link.rpartition("=")[2]
    assert small.client.get(f"{BASE}users/delta?$deltatoken={token}").status_code == 400
    fields = orjson.loads(urlsafe_b64decode(token + "==="))
    for place in range(len(fields)):
        values: list[Any] = [None, 1, -1, 1 << 63, "x", [], ["x"], {}, True, [1, 2]]
        for value in values:
            forged = [*fields[:place], value, *fields[place + 1 :]]
            text = urlsafe_b64encode(orjson.dumps(forged)).decode()
            answer = small.client.get(f"{BASE}groups/delta?$deltatoken={text}")
            assert answer.status_code in (200, 400, 410), (forged, answer.text)
