"""The web console of the demo, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streams.local.broker import die_with_parent
from streams.local.kafka_jars import BrokerError
from streams.local.ports import can_bind
from streams.runtime.deadline import Deadline

READY_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 5.0


@contextmanager
def console_running(environment: Mapping[str, str], port: int, directory: Path) -> Iterator[str]:
    """Runs the console and yields its address, or the reason why it does not run.

    ``port``: used if it is free; otherwise another one is.
    """
    path = directory / "console.log"
    command = [
        sys.executable,
        "-m",
        "streams",
        "console",
        "--port",
        str(port if _is_free(port) else 0),
    ]
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
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_free(port: int) -> bool:
    try:
        return can_bind("127.0.0.1", port)
    except BrokerError:  # not allowed to listen on it
        return False


def _address(process: subprocess.Popen[bytes], path: Path) -> str:
    deadline = Deadline(READY_TIMEOUT_SECONDS)
    while not deadline.has_passed and process.poll() is None:
        if match := re.search(r"(https?://\S+)", path.read_text(errors="replace")):
            return match[1]
        time.sleep(0.1)
    last_line = path.read_text(errors="replace").strip().splitlines()[-1:]
    return f"not running: {last_line[0] if last_line else 'it did not start in time'} (log {path})"
