"""One source, or somebody without a token, does not stop the receiver for the others."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from streams.ingest.event_builder import user_id
from streams.ingest.http import transactional_writer
from streams.ingest.http.app import Receiver, application
from streams.ingest.http.scim import Tenants
from streams.ingest.http.server import check
from streams.ingest.http.sources import load_sources
from streams.ingest.http.transactional_writer import Writer
from streams.runtime.errors import WorkerError
from streams.runtime.settings import load_settings
from tests.streams.ingest.receiver import OTHER, SOURCES, TOKEN, receiving, sources
from tests.support.timing import limit_seconds

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"


def person(n: int) -> dict[str, Any]:
    name = f"user{n}@contoso.example"
    return {"schemas": [SCHEMA], "externalId": f"u{n}", "userName": name, "displayName": f"U {n}"}


def upload(number: int) -> bytes:
    operations = [
        {"method": "POST", "bulkId": str(n), "path": "/Users", "data": person(n)}
        for n in range(number)
    ]
    return orjson.dumps({"Operations": operations})


@contextmanager
def slowest_health(client: httpx2.Client) -> Iterator[list[float]]:
    """Yields a list that receives the slowest answer of /healthz meanwhile."""
    found, stop = [0.0], threading.Event()

    def look() -> None:
        with httpx2.Client(base_url=client.base_url, timeout=60) as own:
            while not stop.is_set():
                begun = time.monotonic()
                assert own.get("/healthz").status_code == 200
                found[0] = max(found[0], time.monotonic() - begun)
                time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def test_a_bulk_upload_and_filters_leave_the_loop_to_others(tmp_path: Path) -> None:
    """A quarter of the reported upload, which keeps the test short."""
    with receiving(tmp_path) as (client, writer), slowest_health(client) as slowest:
        number = 1_800
        answer = client.post("/bulkUpload", content=upload(number), timeout=100)
        assert answer.status_code == 202
        assert len(writer.events()) == number
        for attribute, value in (("userName", "USER7@contoso.example"), ("externalId", "u7")):
            found = client.get("/scim/v2/Users", params={"filter": f'{attribute} eq "{value}"'})
            assert found.json()["totalResults"] == 1
        terms = " or ".join(f'displayName co "x{n}"' for n in range(60))
        begun = time.monotonic()
        answer = client.get("/scim/v2/Users", params={"filter": terms}, timeout=60)
        assert answer.status_code in (200, 400)
        assert time.monotonic() - begun < limit_seconds(10)
        long = " or ".join(f'displayName eq "{n:030}"' for n in range(600))
        assert len(long) > 30_000
        answer = client.get("/scim/v2/Users", params={"filter": long[:30_000]}, timeout=60)
        assert answer.status_code == 400
        assert answer.json()["scimType"] == "invalidFilter"
    assert slowest[0] < limit_seconds(1.0)


def test_an_upload_finds_users_by_id_and_by_name(tmp_path: Path) -> None:
    with receiving(tmp_path) as (client, writer):
        client.post("/bulkUpload", content=upload(3))
        writer.events()
        renamed = {**person(1), "userName": "new@contoso.example"}
        by_name = {k: v for k, v in person(2).items() if k != "externalId"}
        by_name |= {"userName": "USER2@contoso.example", "displayName": "Two"}
        operations = [
            {"method": "POST", "bulkId": "1", "path": "/Users", "data": renamed},
            {"method": "POST", "bulkId": "2", "path": "/Users", "data": by_name},
            {"method": "POST", "bulkId": "3", "path": "/Users", "data": person(1)},
        ]
        answer = client.post("/bulkUpload", json={"Operations": operations})
        results = client.get(answer.headers["location"]).json()["results"]
        assert [(r["status"], r["id"]) for r in results] == [
            (200, user_id("user1@contoso.example")),
            (200, user_id("user2@contoso.example")),
            (200, user_id("user1@contoso.example")),
        ] or [r["status"] for r in results] == [200, 200, 200]
        remembered = writer.remembered()
    with receiving(tmp_path, remembered) as (client, writer):
        answer = client.post("/bulkUpload", content=upload(3))
        results = client.get(answer.headers["location"]).json()["results"]
        assert [r["status"] for r in results] == [200, 200, 200]


@pytest.mark.parametrize(
    "path", ["/events", "/bulkUpload", "/scim/v2/Users", "/scim/v2/Bulk", "/nothing"]
)
def test_a_body_without_a_token_is_not_read(tmp_path: Path, path: str) -> None:
    """Not even by the SCIM service, which used to read all of it first."""
    with receiving(tmp_path) as (client, writer):
        read = threading.Event()

        def chunks() -> Iterator[bytes]:
            for _ in range(4096):
                yield b"x" * 65536
            read.set()

        headers = {"Authorization": "Bearer of-nobody", "Content-Type": "application/json"}
        try:
            status = client.post(path, content=chunks(), headers=headers).status_code
        except httpx2.TransportError:
            status = 401  # closed while the client was still sending
        assert status == 401
        assert not read.is_set()
        assert not writer.records


def test_a_chunked_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with receiving(tmp_path) as (client, writer):

        def chunks() -> Iterator[bytes]:
            for _ in range(200):
                yield b" " * 65536

        try:
            status = client.post("/events", content=chunks()).status_code
        except httpx2.TransportError:
            status = 413
        assert status == 413
        assert not writer.records


def test_notifications_are_checked_and_bounded(tmp_path: Path) -> None:
    with receiving(tmp_path) as (client, _):
        client.headers.pop("Authorization")
        state = "a-secret-of-contoso"
        for data in ([], [1], "text", 7):
            one = {"clientState": state, "changeType": "deleted", "resourceData": data}
            answer = client.post("/graph/notifications", json={"value": [one]})
            assert answer.status_code in (202, 400), data
        answer = client.post("/graph/notifications", content=b"[" * 3000)
        assert answer.status_code == 400
        answer = client.post("/graph/notifications?validationToken=<script>")
        assert answer.text == "<script>"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith("text/plain")
        try:
            large = client.post("/graph/notifications", content=b" " * (2 << 20)).status_code
        except httpx2.TransportError:
            large = 413
        assert large == 413


def test_deep_json_is_400(tmp_path: Path) -> None:
    deep = b'{"a":' * 3000 + b"1" + b"}" * 3000
    with receiving(tmp_path) as (client, _):
        headers = {"Content-Type": "application/json"}
        for path in ("/events", "/bulkUpload", "/scim/v2/Users", "/scim/v2/Bulk"):
            assert client.post(path, content=deep, headers=headers).status_code == 400, path
        for depth in (260, 600):
            nested: Any = 1
            for _ in range(depth):
                nested = [nested]
            user = {**person(1), "name": nested, "emails": nested, "x": nested}
            bulk = {"Operations": [{"bulkId": "1", "path": "/Users", "data": user}]}
            for path, body in (("/scim/v2/Users", user), ("/bulkUpload", bulk)):
                text = json.dumps(body)
                answer = client.post(path, content=text, headers=headers)
                assert answer.status_code < 500, (path, depth)
            event = {"type": "user.upserted", "id": "e", "tenant": "contoso", "user": "u"}
            text = json.dumps({**event, "x": nested})
            assert client.post("/events", content=text, headers=headers).status_code == 400


def test_a_source_needs_a_long_client_state(tmp_path: Path) -> None:
    """It is all that a notification that deletes a user has to know."""
    file = tmp_path / "sources.toml"
    file.write_text(SOURCES.replace("a-secret-of-contoso", "a"))
    with pytest.raises(WorkerError, match="client_state must have at least 16"):
        load_sources(file)


def test_beyond_loopback_the_receiver_needs_a_proxy_with_https() -> None:
    for host in ("0.0.0.0", "::", "receiver.example"):
        with pytest.raises(WorkerError, match="SEATFLOW_HTTP_BEHIND_PROXY"):
            check(load_settings(), host)
        check(load_settings(http_behind_proxy=True), host)
    for host in ("127.0.0.1", "::1", "localhost"):
        check(load_settings(), host)


def test_names_that_look_alike_have_ids_of_their_own() -> None:
    """``str.lower`` makes a k of the Kelvin sign."""
    assert user_id("\u212aim@contoso.example") != user_id("kim@contoso.example")
    assert user_id("KIM@Contoso.example") == user_id("kim@contoso.example")


def test_another_tenants_requests_do_not_wait(tmp_path: Path) -> None:
    with receiving(tmp_path) as (client, _):
        done = threading.Event()

        def large() -> None:
            client.post("/bulkUpload", content=upload(600), timeout=100)
            done.set()

        thread = threading.Thread(target=large)
        thread.start()
        time.sleep(0.1)
        headers = {"Authorization": f"Bearer {OTHER}"}
        with httpx2.Client(base_url=client.base_url, headers=headers) as own:
            begun = time.monotonic()
            assert own.post("/bulkUpload", content=upload(1)).status_code == 202
            assert time.monotonic() - begun < limit_seconds(1.0)
        thread.join()
        assert done.is_set()


async def test_a_broker_that_does_not_answer_is_503_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing piles up behind it."""
    monkeypatch.setattr(transactional_writer, "COMMIT_SECONDS", 0.2)
    writer = Writer(load_settings())

    async def never(_batch: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(writer, "_write", never)
    task = asyncio.create_task(writer._run())
    writer.check_progress()
    known = sources(tmp_path)
    app = application(Receiver(known, Tenants(writer, {}, known), writer, None))
    transport = httpx2.ASGITransport(app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://x", headers=headers) as one:
        answer = await one.post("/scim/v2/Users", json=person(1))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "has not confirmed" in answer.json()["detail"]
        for path in ("/scim/v2/Users", "/bulkUpload", "/events"):
            answer = await one.post(path, json=person(2))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "does not answer" in answer.json()["detail"]
    task.cancel()
