"""The receiver takes its port before it fences an earlier receiver."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streams.ingest.http.sources import load_sources
from streams.runtime.errors import WorkerError
from streams.runtime.settings import load_settings
from tests.streams.ingest.receiver import SOURCES, TOKEN
from tests.streams.ingest.test_http import create
from tests.support.kafka import Kafka
from tests.support.system import ROOT, running


def test_a_busy_port_is_told_before_kafka_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second receiver that got as far as its producer would fence the first one."""
    import streams.ingest.http.server as server

    started: list[Any] = []
    monkeypatch.setattr(server, "Writer", started.append)
    (tmp_path / "sources.toml").write_text(SOURCES)
    known = load_sources(tmp_path / "sources.toml")
    for host in ("127.0.0.1", "localhost", ""):
        sockets = server.listening(host, 0)
        port = sockets[0].getsockname()[1]
        try:
            with pytest.raises(WorkerError, match=str(port)) as raised:
                asyncio.run(server.serve(load_settings(), known, host, port, None))
        finally:
            for each in sockets:
                each.close()
        assert raised.value.exit_code == 75
    with pytest.raises(WorkerError, match="cannot listen") as raised:
        asyncio.run(server.serve(load_settings(), known, "192.0.2.1", 8090, None))
    assert raised.value.exit_code == 78
    assert not started


@pytest.mark.usefixtures("kafka")
def test_a_second_receiver_on_the_same_port_leaves_the_first_alone(
    kafka: Kafka, tmp_path: Path
) -> None:
    (tmp_path / "sources.toml").write_text(SOURCES)
    with running(kafka.bootstrap) as system:
        env = {**os.environ, **system.env}
        command = [sys.executable, "-m", "streams", "receive", "--sources"]
        command += [str(tmp_path / "sources.toml"), "--port"]
        first = subprocess.Popen(
            [*command, "0"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
        )
        try:
            assert first.stdout is not None
            found = re.search(r"http://\S+:(\d+)/", first.stdout.readline())
            assert found is not None
            headers = {"Authorization": f"Bearer {TOKEN}"}
            client = httpx2.Client(base_url=found[0], headers=headers, timeout=20)
            create(client, "Users", userName="ann@x.example")
            second = subprocess.run(
                [*command, found[1]], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
            )
            assert second.returncode == 75
            assert "another process listens" in second.stderr
            create(client, "Users", userName="bob@x.example")
            assert client.get("/healthz").text == "ok"
        finally:
            first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=15) == 0
