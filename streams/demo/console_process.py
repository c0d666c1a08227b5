"""The demo's console: a process of its own, whose address ends what the demo tells."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streams.local.broker import die_with_parent

READY_WITHIN = 30.0
STOP_WITHIN = 5.0


@contextmanager
def console_running(environment: Mapping[str, str], port: int, directory: Path) -> Iterator[str]:
    """Its address, or why there is none; stopped in the end. ``port`` is taken if it is free."""
    path = directory / "console.log"
    command = [sys.executable, "-m", "streams", "console", "--port", str(_free(port))]
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(directory / "console")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield _address(process, path)
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _address(process: subprocess.Popen[bytes], path: Path) -> str:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if told := re.search(r"(https?://\S+)", path.read_text(errors="replace")):
            return told[1]
        time.sleep(0.1)
    said = path.read_text(errors="replace").strip().splitlines()[-1:]
    return f"not running: {said[0] if said else 'it did not start in time'} (log {path})"
