"""One caller does not shut others out, and what nobody waits for is not carried on."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from streams.console.app import check
from streams.console.pages import routes
from streams.console.pages.server_sent_events import MOST_STREAMS_OF_CALLER, EventStreamLimiter
from streams.console.read_model import queries, tenants
from streams.console.read_model.pagination import Listing, csv_lines, page
from streams.console.read_model.store import Store, transaction
from streams.console.security import policy
from streams.console.security.middleware import MOST_BYTES
from streams.console.whatif import process
from streams.console.whatif.process import TooManyQuestionsError, what_if
from streams.http_server import cancellation
from streams.runtime.errors import WorkerError
from streams.runtime.settings import env_file, load_settings
from tests.streams.console.conftest import Console
from tests.streams.console.guarded import HTML, bearer, entry, guarded, log_in
from tests.support.system import Events
from tests.support.timing import limit_seconds

__all__ = ["guarded"]

JSON = {"content-type": "application/json"}


# --- bodies --------------------------------------------------------------------------------------


def chunks(number: int = MOST_BYTES // 65536 + 2) -> Iterator[bytes]:
    for _ in range(number):
        yield b" " * 65536


def test_a_chunked_command_beyond_the_limit_is_not_carried_out(guarded: Console) -> None:
    """It used to be answered by 413, and done."""
    path = "/v1/tenants/contoso/groups/contoso-g/reprocess"
    before = guarded.world.said
    answer = guarded.client.post(path, content=chunks(), headers=bearer("ann-token"))
    assert answer.status_code == 413
    assert guarded.world.said == before
    assert guarded.client.post(path, headers=bearer("ann-token")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/tenants/contoso/whatif", "/t/contoso/whatif", "/nothing"])
def test_a_body_of_a_stranger_is_not_read(guarded: Console, path: str) -> None:
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for part in chunks(3):
            read += 1
            yield part

    answer = guarded.client.post(path, content=counted(), headers={**JSON, **bearer("nobody")})
    assert answer.status_code == 401
    form = guarded.client.post(path, data={"x": "y"}, headers=HTML, follow_redirects=False)
    if path.startswith("/t/"):
        assert (form.status_code, form.headers["location"]) == (303, "/login")
    assert guarded.client.post("/login", content=b"x" * 5000).status_code == 413


@pytest.mark.parametrize("depth", [240, 260, 900, 3000])
def test_deep_json_is_400(console: Console, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    event = json.dumps({"type": "user.upserted", "user": "u"})[:-1] + f', "x": {deep}}}'
    for path in ("/v1/tenants/t/whatif", "/v1/tenants/t/users/u"):
        method = console.client.put if path.endswith("/u") else console.client.post
        answer = method(path, content=f'{{"events": [{event}], "mail": {deep}}}', headers=JSON)
        assert answer.status_code in (400, 404), path
    questions = f'{{"events": [{event}]}}'
    with pytest.raises(process.WhatIfError) as raised:
        asyncio.run(what_if(Path("/nothing"), "t", process.read_events(questions)))
    assert raised.value.status == 400 or depth < 254


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, 1 << 64, [1], None, True])
def test_a_cursor_beyond_64_bits_is_400(console: Console, value: Any) -> None:
    console.world.publish([Events("t").user("u")])
    for name, where in (("id", "users"), ("membersWithErrors", "groups")):
        text = json.dumps([name, False, value, "x"])
        token = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        answer = console.client.get(f"/v1/tenants/t/{where}?$skiptoken={token}&$orderby={name}")
        # A whole number of more than 64 bits is read as a float.
        assert answer.status_code == (400 if value in (1 << 63, [1], None) else 200)


@pytest.mark.parametrize(
    "name", ["=1", "+1", "-1", "@x", ";=1", "＝1", "＋1", "＠x", "\t=1", " =1", "\u3000=1", "|x"]
)
def test_no_cell_begins_a_formula(name: str) -> None:
    listing = Listing("", (), {}, {}, dict, ("displayName",))
    lines = "".join(csv_lines(listing.columns, iter([{"displayName": name}]))).splitlines()
    assert lines[1].lstrip('"').startswith("'")


def test_a_hundred_thousand_tenants_are_pages(tmp_path: Path) -> None:
    """Each takes a few steps down the indexes, not one for each tenant there is."""
    store = Store(tmp_path / "console.sqlite3", "licensing.")
    with transaction(store.writer) as db:
        rows = [(f"t{n:06}", f"u{n}") for n in range(100_000)]
        db.executemany("INSERT INTO users(tenant, user, known) VALUES(?, ?, 1)", rows)
        db.execute("INSERT INTO tenants VALUES('t000000a', NULL, '{}')")
    reading = store.read_connection()
    begun = time.process_time()
    assert tenants.tenants(reading, None, 3) == ["t000000", "t000000a", "t000001"]
    assert tenants.tenants(reading, None, 2, "t099998") == ["t099999"]
    assert len(tenants.tenants(reading, None, 101)) == 101
    assert time.process_time() - begun < limit_seconds(0.2)
    mine = frozenset({"t000007", "t000003", "unknown"})
    assert tenants.tenants(reading, mine, 9) == ["t000003", "t000007"]
    store.close()


def test_the_api_and_the_page_lead_through_the_tenants(console: Console) -> None:
    for n in range(routes.MOST_TENANTS + 3):
        console.world.tell("tenants", f"t{n:03}", Events(f"t{n:03}").tenant_settings()[2])
    known: list[str] = []
    url: str | None = "/v1/tenants?$top=40"
    while url:
        body = console.client.get(url).json()
        known += [tenant["id"] for tenant in body["value"]]
        url = body.get("@odata.nextLink")
    assert known == [f"t{n:03}" for n in range(routes.MOST_TENANTS + 3)]
    assert "Next page" in console.client.get("/", headers=HTML).text
    last = console.client.get(f"/?after=t{routes.MOST_TENANTS - 1:03}", headers=HTML).text
    assert f"t{routes.MOST_TENANTS + 1:03}" in last
    assert "Next page" not in last


def test_searches_share_their_cache(tmp_path: Path) -> None:
    """Each of 40 threads had 64 MiB of its own, which a search fills."""
    store = Store(tmp_path / "console.sqlite3", "licensing.")
    with transaction(store.writer) as db:
        rows = [("t", f"user{n}", "Some name " * 12, f"user{n} name" * 12) for n in range(60_000)]
        db.executemany(
            "INSERT INTO users(tenant, user, known, name, find) VALUES(?, ?, 1, ?, ?)", rows
        )

    def search(_n: int) -> int:
        given = {"search": "nobody"}
        return len(page(store.read_connection(), queries.USERS, ("t",), given, 50).rows)

    before = private_bytes()
    with ThreadPoolExecutor(24) as pool:
        assert sum(pool.map(search, range(96))) == 0
        grown = private_bytes() - before
    # 24 × 2 MiB of caches and the threads; the table alone has 24 times 20 MiB.
    assert grown < 150 << 20
    store.close()


def private_bytes() -> int:
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["RssAnon"].split()[0]) << 10


def test_a_query_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    store = Store(tmp_path / "console.sqlite3", "licensing.")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    request = cancellation.begin()
    request.is_set = True
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        store.read_connection().execute(endless).fetchone()
    cancellation.begin()
    assert store.read_connection().execute("SELECT 1").fetchone()[0] == 1
    store.close()


def test_a_read_that_takes_too_long_is_503_and_ends(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its query, too, which runs in a thread."""
    console.world.publish([Events("t").user("u")])
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    ended = threading.Event()

    def slow(db: Any, _tenant: str, _user: str) -> Any:
        try:
            return db.execute(endless).fetchone()
        finally:
            ended.set()

    monkeypatch.setattr(policy, "READ_SECONDS", limit_seconds(0.3))
    monkeypatch.setattr(queries, "user", slow)
    answer = console.client.get("/v1/tenants/t/users/u")
    assert answer.status_code == 503
    assert "takes too long" in answer.json()["error"]["message"]
    assert ended.wait(limit_seconds(5))


# --- streams and questions -----------------------------------------------------------------------


def test_the_streams_of_a_caller_are_bounded() -> None:
    streams = EventStreamLimiter()
    for _ in range(MOST_STREAMS_OF_CALLER):
        assert not streams.is_full("ann")
        streams.opened("ann")
    assert streams.is_full("ann")
    assert not streams.is_full("bob")
    streams.closed("ann")
    assert not streams.is_full("ann")


def test_a_caller_with_many_streams_is_503_and_others_are_not(
    guarded: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = EventStreamLimiter()
    for _ in range(MOST_STREAMS_OF_CALLER):
        streams.opened("ann")
    monkeypatch.setattr(routes, "streams", streams)
    log_in(guarded, "ann-token")
    assert guarded.client.get("/events?tenant=contoso").status_code == 503
    guarded.client.cookies.clear()
    log_in(guarded, "rob-token")
    monkeypatch.setattr("streams.console.pages.session.BrowserSession.renew", lambda _self: False)
    assert guarded.client.get("/events?tenant=contoso").status_code == 200


def test_a_stream_ends_when_its_token_loses_the_tenant(guarded: Console) -> None:
    """While the page of another tenant of the same token goes on."""
    authenticator = guarded.service.authenticator
    assert authenticator.file is not None
    log_in(guarded, "zoe-token")
    file = authenticator.file
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(guarded.client.get, "/events?tenant=contoso")
        time.sleep(0.5)
        assert not reading.done()
        file.write_text(entry("zoe", "operator", ["fabrikam"], "zoe-token"))
        assert reading.result(20).status_code == 200
    assert guarded.client.get("/t/fabrikam", headers=HTML).status_code == 200


def test_a_token_file_broken_for_a_moment_ends_no_session(guarded: Console) -> None:
    authenticator = guarded.service.authenticator
    assert authenticator.file is not None
    log_in(guarded, "ann-token")
    whole = authenticator.file.read_text()
    for text, status in ((whole[:40], 303), (whole, 200)):
        authenticator.file.write_text(text)
        authenticator._looked = 0.0
        answer = guarded.client.get("/t/contoso", headers=HTML, follow_redirects=False)
        assert answer.status_code == status


async def test_the_questions_of_a_caller_are_bounded_and_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question of somebody who has left ends with its process, and makes room."""
    answering = asyncio.Event()

    async def slow(*_: Any) -> dict[str, Any]:
        answering.set()
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr(process, "_answer", slow)
    asked = [asyncio.create_task(what_if(tmp_path, "t", [], "ann")) for _ in range(2)]
    await answering.wait()
    with pytest.raises(TooManyQuestionsError, match="yours"):
        await what_if(tmp_path, "t", [], "ann")
    others = [asyncio.create_task(what_if(tmp_path, "t", [], f"{n}")) for n in range(7)]
    await asyncio.sleep(0.01)
    with pytest.raises(TooManyQuestionsError, match="Many"):
        await what_if(tmp_path, "t", [], "bob")
    for task in (*asked, *others):
        task.cancel()
    await asyncio.gather(*asked, *others, return_exceptions=True)
    monkeypatch.undo()
    assert not process._asked


def test_the_what_if_process_imports_nothing_of_the_directory(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m` looks into the current directory first."""
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "orjson.py").write_text("raise SystemExit('code of somebody else')")
    make = Events("t")
    console.world.publish([make.user("u", usageLocation="DE")])
    monkeypatch.chdir(folder)
    event = {"type": "user.upserted", "user": "u", "usageLocation": "FR"}
    answer = console.client.post("/v1/tenants/t/whatif", json={"events": [event]})
    assert answer.status_code == 200, answer.text


# --- starting ------------------------------------------------------------------------------------


def test_behind_a_proxy_tokens_are_needed(tmp_path: Path) -> None:
    """The proxy makes a console on a loopback address one for everybody."""
    for given in ({"http_behind_proxy": True}, {"http_trusted_proxies": "127.0.0.1"}):
        with pytest.raises(WorkerError, match="SEATFLOW_HTTP_TOKENS_FILE"):
            check(load_settings(**given))
        tokens = tmp_path / "tokens.toml"
        tokens.write_text(entry("ann", "operator", ["*"], "t"))
        check(load_settings(http_tokens_file=tokens, **given))


def test_an_env_file_of_somebody_else_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_text("SEATFLOW_BROKERS=attacker.example:9092\n")
    assert load_settings().brokers == "attacker.example:9092"
    for path, mode in ((file, 0o666), (tmp_path, 0o777)):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        assert env_file() is None
        assert load_settings().brokers == "127.0.0.1:9092"
        assert "is ignored" in capsys.readouterr().err
        path.chmod(before)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert (env_file() is None) == (file.stat().st_uid != 0)


def test_names_on_pages_hide_nothing(console: Console) -> None:
    """Right-to-left overrides and zero-width characters are shown; joiners of scripts stay."""
    make = Events("t")
    name = "Ann\u202eexe.\u200bBob \u0646\u200c\u0627"
    console.world.publish([make.user("u", displayName=name)])
    text = console.client.get("/t/t/users/u", headers=HTML).text
    assert "\u202e" not in text
    assert "\u200b" not in text
    assert "⟨U+202E⟩" in text
    assert "\u0646\u200c\u0627" in text
    assert console.client.get("/v1/tenants/t/users/u").json()["displayName"] == name
