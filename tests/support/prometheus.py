"""A real Prometheus (Debian's package) with its own port and data, scraping what a test says."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams.local.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BINARY = shutil.which("prometheus")
ABSENT = "prometheus (Debian's package) is not installed"
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: seatflow
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
"""


class Prometheus:
    """A running Prometheus server."""

    def __init__(self, directory: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._targets = directory / "targets.json"
        self.scrape([])
        config = directory / "prometheus.yml"
        rules = ROOT / "deploy" / "prometheus" / "rules.yml"
        config.write_text(CONFIG.format(rules=rules, targets=self._targets))
        self._log = (directory / "prometheus.log").open("w")
        assert BINARY
        self._process = subprocess.Popen(
            [
                BINARY,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def scrape(self, addresses: Iterable[str]) -> None:
        """Sets the addresses to scrape from now on, such as http://127.0.0.1:41234."""
        hosts = [address.removeprefix("http://") for address in addresses]
        fresh = self._targets.with_suffix(".new")
        fresh.write_text(json.dumps([{"targets": hosts}]))
        fresh.rename(self._targets)

    def query_range(self, expr: str, seconds: float, step: str = "1s") -> list[list[float]]:
        """Returns the values of each series in the last ``seconds``, without NaN."""
        now = time.time()
        parameters = {"query": expr, "start": now - seconds, "end": now, "step": step}
        result = self._get("query_range", **parameters)["result"]
        numbers = [[float(v) for _, v in series["values"]] for series in result]
        return [[v for v in values if math.isfinite(v)] for values in numbers]

    def series(self, match: str) -> list[dict[str, str]]:
        """Returns the labels of the series that match."""
        found: list[dict[str, str]] = self._get("series", **{"match[]": match})
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Returns the pending and firing alerts."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def _get(self, what: str, **parameters: Any) -> Any:
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def stop(self) -> None:
        """Stops the server and waits for its end."""
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@contextmanager
def prometheus(directory: Path) -> Iterator[Prometheus]:
    """Runs a server with its data in ``directory``, and yields it."""
    server = Prometheus(directory)
    try:
        yield server
    finally:
        server.stop()
