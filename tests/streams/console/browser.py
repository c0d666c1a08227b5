"""A whole console for the browser's tests: Kafka, a worker, the demo's tenant, chromium."""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streams.demo.scenario import demo_steps
from streams.runtime.deadline import Deadline
from tests.support.system import ROOT, Events, System

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
WITHIN = 60.0


@dataclass(slots=True)
class Running:
    """``url`` ends without a slash."""

    system: System
    url: str
    process: subprocess.Popen[str]

    def publish(self, *events: Any) -> None:
        """All of it is processed, and the console has seen it.

        In a thread of its own: Playwright runs a loop in the test's, so nobody else can.
        """
        self._apart(self.system.publish, events)
        self._apart(self.system.settle)
        self._wait_fresh()

    @staticmethod
    def _apart(call: Callable[..., None], *arguments: Any) -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(call, *arguments).result()

    def _wait_fresh(self) -> None:
        deadline = Deadline(WITHIN)
        while not deadline.has_passed:
            health = httpx2.get(f"{self.url}/health").json()
            if health["status"] == "ok" and not health["lagRecords"]:
                return
            time.sleep(0.1)
        raise TimeoutError(f"the console did not catch up: {health}")


@contextmanager
def console_process(env: dict[str, str], data: Path) -> Iterator[tuple[str, Any]]:
    """`seatflow console` on a free port; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "console", "--port", "0", "--data-dir", str(data)],
        cwd=ROOT, env={**os.environ, **env}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    try:
        said = ""
        while not (found := re.search(r"(https?://\S+)/", said)):
            said += lines.get(timeout=WITHIN)
        yield found[1], process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def demo_running(bootstrap: str, data: Path) -> Iterator[Running]:
    """The demo's tenant, and fabrikam, where seats wait for a reprocess."""
    system = System(bootstrap, partitions=2)
    try:
        system.worker()
        for step in demo_steps():
            system.publish([(topic, key.decode(), v) for topic, key, v in step.records])
            system.settle()
        for events in fabrikam():
            system.publish(events)
            system.settle()
        with console_process(system.env, data) as (url, process):
            running = Running(system, url, process)
            running._wait_fresh()
            yield running
    finally:
        system.close()


def fabrikam() -> Iterator[list[Any]]:
    make = Events("fabrikam", "fab")
    yield [make.product("e3"), make.tenant_settings(policies={"seatRetry": "manual"})]
    yield [make.seats("e3", 1), make.license("team", "e3")]
    yield [make.user("ann"), make.join("ann", "team")]
    yield [make.user("bob", displayName="Bob"), make.join("bob", "team")]
    yield [make.seats("e3", 2)]


@pytest.fixture(scope="package")
def running(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with demo_running(kafka.bootstrap, tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: Debian's package is called chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def misfits(page: Any) -> list[str]:
    """Returns what does not fit on a phone: the page itself, text that is clipped, thin columns."""
    page.set_viewport_size({"width": 390, "height": 800})
    found: list[str] = page.evaluate(MISFITS)
    page.set_viewport_size({"width": 1280, "height": 860})
    return found


MISFITS = """() => {
  const wrong = [];
  if (document.documentElement.scrollWidth > 390) wrong.push("the page is wider than the screen");
  for (const part of document.querySelectorAll("main *, header *, nav *")) {
    const box = part.getBoundingClientRect();
    if (!box.width || part.closest("svg, .hidden, .skip, thead, option, textarea")) continue;
    const name = part.tagName + " " + (part.innerText || "").slice(0, 40);
    if (box.right > 391 || box.left < -1) wrong.push("off the screen: " + name);
    if (part.scrollWidth > part.clientWidth + 1 && part.clientWidth && part.tagName !== "SELECT"
        && part.tagName !== "INPUT")
      wrong.push("clipped: " + name);
    if (part.tagName === "TD" && part.innerText) {
      const { paddingLeft, paddingRight } = getComputedStyle(part);
      const room = part.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
      if (room < 150) wrong.push("thin: " + name);
    }
  }
  return wrong;
}"""
"""A cell that has less room than about 20 letters would be read letter by letter."""
