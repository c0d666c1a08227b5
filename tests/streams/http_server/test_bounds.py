"""No caller shuts others out: connections, bodies, requests and time are bounded."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from streams.http_server import connections
from streams.http_server.guard import Limits
from streams.http_server.server import raise_file_limit
from streams.http_server.threads import in_thread, run_to_end
from tests.streams.http_server.serving import (
    Application,
    connect,
    guarded,
    head,
    response,
    serving,
)

ANN = {"authorization": "ann"}


# --- connections ---------------------------------------------------------------------------------


def test_idle_connections_do_not_shut_others_out() -> None:
    """More of them than there may be: each further one takes the place of the oldest."""
    with guarded() as (port, _):
        idle = [connect(port) for _ in range(120)]  # 100 of an address
        assert response(connect(port, head())).startswith(b"HTTP/1.1 200")
        for one in idle:
            one.close()


def test_the_connections_of_all_clients_are_bounded_together() -> None:
    """Many addresses with one idle connection each; the oldest of them ends."""
    with serving(Application(), http_max_connections=10) as port:
        idle = [
            socket.create_connection(("127.0.0.1", port), 10, source_address=(f"127.0.1.{n}", 0))
            for n in range(1, 13)
        ]
        assert response(connect(port, head())).startswith(b"HTTP/1.1 200")
        for one in idle[:2]:
            with suppress(ConnectionError):
                assert one.recv(1) == b""
        idle[-1].sendall(head())
        assert response(idle[-1]).startswith(b"HTTP/1.1 200")
        for one in idle:
            one.close()


def test_a_busy_connection_is_not_ended_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.http_server.server.CONNECTIONS_OF_CLIENT", 3)
    with guarded() as (port, app):
        busy = [connect(port, head(path="/wait")) for _ in range(3)]
        while len(app.carried_out) < 3:
            time.sleep(0.01)
        with suppress(ConnectionError):
            refused = connect(port, head())
            assert refused.recv(1) == b""
        assert not app.cancelled.is_set()
        for one in busy:
            one.close()
        assert app.cancelled.wait(10)
        assert response(connect(port, head())).startswith(b"HTTP/1.1 200")


def test_a_head_has_to_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a byte at a time, and for the second request of a connection."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    with guarded() as (port, _):
        silent, slow, second = connect(port), connect(port), connect(port, head())
        assert response(second).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET")
        begun = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - begun < 5:
                slow.sendall(b"G")
                time.sleep(0.1)
        assert time.monotonic() - begun < 5
        for one in (silent, second):
            with suppress(ConnectionError):
                assert one.recv(1) == b""


def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    ended = threading.Event()

    async def endless(_scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        watch = asyncio.create_task(_gone(receive))
        while not watch.done():
            await send(  # type: ignore[operator]
                {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
            )
            await asyncio.sleep(0)
        ended.set()

    async def _gone(receive: object) -> None:
        while (await receive())["type"] != "http.disconnect":  # type: ignore[operator]
            pass

    with serving(endless) as port:
        one = connect(port, head())
        assert ended.wait(10)
        one.close()


def test_the_limit_of_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
        raise_file_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- bodies --------------------------------------------------------------------------------------


def test_nothing_of_a_body_is_read_before_the_caller_is_known() -> None:
    """The client waits with the body, and is not asked for it."""
    with guarded() as (port, app):
        asked = head("POST", content_length="1000000", expect="100-continue")
        answer = response(connect(port, asked))
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"connection: close" in answer
        known = connect(port, head("POST", content_length="3", expect="100-continue", **ANN))
        assert known.recv(65536).startswith(b"HTTP/1.1 100")
        known.sendall(b"abc")
        assert response(known).startswith(b"HTTP/1.1 200")
        assert app.carried_out == [3]


def test_a_refused_client_gets_its_answer_while_it_still_sends() -> None:
    """Up to a bound; and the connection can be used again."""
    with guarded() as (port, app):
        one = connect(port, head("POST", content_length="300000"))
        for _ in range(3):
            one.sendall(b"x" * 100_000)
            time.sleep(0.05)
        assert response(one).startswith(b"HTTP/1.1 401")
        one.sendall(head())
        assert response(one).startswith(b"HTTP/1.1 200")
        assert app.carried_out == [0]
        large = connect(port, head("POST", content_length="99000000"))
        with pytest.raises(ConnectionError):
            large.sendall(b"x" * 99_000_000)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_not_carried_out(chunked: bool) -> None:
    with guarded() as (port, app):
        if chunked:
            one = connect(port, head("POST", transfer_encoding="chunked", **ANN))
            with suppress(ConnectionError):
                for _ in range(20):
                    one.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        else:
            one = connect(port, head("POST", content_length=str((1 << 20) + 1), **ANN))
        assert response(one).startswith(b"HTTP/1.1 413")
        assert app.carried_out == []


def test_a_body_has_to_come_in_time() -> None:
    with guarded(Limits(body_seconds=0.2)) as (port, app):
        one = connect(port, head("POST", content_length="9", **ANN) + b"abc")
        assert response(one).startswith(b"HTTP/1.1 408")
        assert app.carried_out == []


def test_the_bodies_of_all_are_bounded_together() -> None:
    """And of each caller, so that one alone cannot use all of it."""
    limits = Limits(buffered_bytes_of_caller=100_000)
    with guarded(limits) as (port, app):
        held = connect(port, head("POST", content_length="90001", **ANN) + b"x" * 90_000)
        time.sleep(0.2)
        more = connect(port, head("POST", content_length="60000", **ANN) + b"x" * 60_000)
        assert response(more).startswith(b"HTTP/1.1 503")
        bob = head("POST", content_length="60000", authorization="bob")
        assert response(connect(port, bob + b"x" * 60_000)).startswith(b"HTTP/1.1 200")
        held.sendall(b"x")
        assert response(held).startswith(b"HTTP/1.1 200")
        assert app.carried_out == [60_000, 90_001]


# --- requests ------------------------------------------------------------------------------------


def test_the_requests_of_a_caller_are_bounded() -> None:
    with guarded(Limits(requests_of_caller=2)) as (port, app):
        busy = [connect(port, head(path="/wait", **ANN)) for _ in range(2)]
        while len(app.carried_out) < 2:
            time.sleep(0.01)
        refused = response(connect(port, head(**ANN)))
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"retry-after" in refused
        assert response(connect(port, head(authorization="bob"))).startswith(b"HTTP/1.1 200")
        for one in busy:
            one.close()


def test_work_that_nobody_waits_for_is_cancelled() -> None:
    with guarded() as (port, app):
        one = connect(port, head(path="/wait"))
        assert app.waiting.wait(10)
        one.close()
        assert app.cancelled.wait(10)


def test_a_request_that_takes_too_long_is_ended() -> None:
    with guarded(seconds=0.2) as (port, app):
        assert response(connect(port, head(path="/wait"))).startswith(b"HTTP/1.1 503")
        assert app.cancelled.is_set()


# --- proxies -------------------------------------------------------------------------------------


def test_only_a_trusted_proxy_names_its_client() -> None:
    forwarded = head(x_forwarded_for="203.0.113.9")
    with serving(Application()) as port:
        assert response(connect(port, forwarded)).endswith(b"127.0.0.1")
    with serving(Application(), http_trusted_proxies="10.0.0.0/8") as port:
        assert response(connect(port, forwarded)).endswith(b"127.0.0.1")
    with serving(Application(), http_trusted_proxies="10.0.0.0/8, 127.0.0.1") as port:
        assert response(connect(port, forwarded)).endswith(b"203.0.113.9")


# --- threads -------------------------------------------------------------------------------------


async def test_a_cancelled_caller_keeps_its_locks_until_the_thread_has_ended() -> None:
    lock, go, ended = asyncio.Lock(), threading.Event(), threading.Event()

    def work() -> None:
        go.wait(10)
        ended.set()

    async def locked() -> None:
        async with lock:
            await in_thread(pool, work)

    with ThreadPoolExecutor(1) as pool:
        task = asyncio.create_task(locked())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        assert lock.locked()
        go.set()
        with suppress(asyncio.CancelledError):
            await task
        assert ended.is_set()
        assert not lock.locked()


def test_a_coroutine_that_waits_is_no_work_for_a_thread() -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits"):
        run_to_end(waits())
