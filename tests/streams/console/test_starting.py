"""The start of a console: it listens only where it is safe to, and says what is missing."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from streams.console.app import check, is_loopback, run_console
from streams.runtime.errors import WorkerError
from streams.runtime.settings import load_settings
from tests.streams.console.browser import console_process
from tests.streams.console.guarded import entry, guarded
from tests.support.secure_broker import Authority
from tests.support.system import ROOT

__all__ = ["guarded"]

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
    """A reader of the address can connect immediately."""

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
