"""Grafana's dashboards: whole, and each query has data in a Prometheus that scraped workers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.demo.scenario import demo_steps
from tests.deploy.test_prometheus import known_series
from tests.support.kafka import Kafka
from tests.support.prometheus import ABSENT, BINARY, ROOT, Prometheus, prometheus
from tests.support.scrape import address
from tests.support.system import Events, System, running

GRAFANA = ROOT / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DATASOURCE = "seatflow-prometheus"
LOOK_BACK = 240.0  # seconds: the whole of the test
# What Grafana fills in.
VARIABLES = {"$__rate_interval": "15s", "$tenant": ".*", "$sku": ".*", "$job": ".*"}


def panels(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def queries() -> list[Any]:
    found = []
    for path in FILES:
        board = json.loads(path.read_text())
        for panel in panels(path):
            name = f"{path.stem}: {panel['title']}"
            found += [(f"{name} {t['refId']}", t["expr"]) for t in panel["targets"]]
        found += [(f"{path.stem}: {a['name']}", a["expr"]) for a in board["annotations"]["list"]]
    return [pytest.param(expr, id=name) for name, expr in found]


def test_there_are_the_two() -> None:
    assert [path.stem for path in FILES] == ["licensing", "processing"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_is_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"seatflow-{path.stem}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    declared = {variable["name"] for variable in board["templating"]["list"]}
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= declared
            names = set(re.findall(r"\bseatflow[a-z0-9_:]+", target["expr"]))
            assert names <= known_series(), target


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_panel_lies_on_another(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells


def test_what_is_provisioned_fits_together() -> None:
    provisioning = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "seatflow.yml").read_text())[
        "providers"
    ]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    grafana = compose["services"]["grafana"]
    mounts = [mount.split(":")[:2] for mount in grafana["volumes"]]
    assert ["./deploy/grafana/dashboards", provider["options"]["path"]] in mounts
    assert ["./deploy/grafana/provisioning", "/etc/grafana/provisioning"] in mounts
    assert source["url"].strip("${}") in grafana["environment"]
    for path in FILES:
        variables = json.loads(path.read_text())["templating"]["list"]
        assert variables[0]["current"]["value"] == source["uid"] == DATASOURCE


@pytest.fixture(scope="module")
def scraped(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Two workers, the demo's tenant with errors of every kind, a worker killed under load."""
    if BINARY is None:
        pytest.skip(ABSENT)
    with (
        prometheus(tmp_path_factory.mktemp("prometheus")) as server,
        running(kafka.bootstrap) as system,
    ):
        first = system.worker(SEATFLOW_METRICS_PORT="0")
        server.scrape([address(first)])
        steps = demo_steps()
        for number, step in enumerate(steps):
            if number == len(steps) // 2:
                second = system.worker(SEATFLOW_METRICS_PORT="0")
                server.scrape([address(first), address(second)])
            system.publish([(topic, key.decode(), value) for topic, key, value in step.records])
            time.sleep(1.5)
            system.settle()
        second.kill()
        first.wait_for("partition_restored", timeout=40)
        load(system)
        yield server


def load(system: System) -> None:
    """Twelve seconds of it, so that there is something to see after the restart too."""
    make = Events(run="load")
    for n in range(8):
        people = [f"late{n}-{i}" for i in range(100)]
        system.publish([e for p in people for e in (make.user(p), make.join(p, "all-staff"))])
        system.publish([make.assign(people[0], "nothing")])
        system.publish([make.user(p) for p in people[:8]], partition=0)
        time.sleep(1.5)
    system.settle()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("expr", queries())
def test_no_panel_is_empty(scraped: Prometheus, expr: str) -> None:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    found = [values for values in scraped.query_range(expr, LOOK_BACK) if values]
    assert found, expr


def test_every_variable_has_values(scraped: Prometheus) -> None:
    for path in FILES:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                matched = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
                assert matched, variable
                series = scraped.series(matched[1].replace("$tenant", ".*"))
                assert {one[matched[2]] for one in series}


def test_what_must_never_fire_has_not(scraped: Prometheus) -> None:
    names = {alert["labels"]["alertname"] for alert in scraped.alerts()}
    assert not names & {"SeatflowOversold", "SeatflowInputExpired", "SeatflowNoWorkers"}
    assert not [v for v in scraped.query_range("sum(seatflow_seats_oversold)", LOOK_BACK) if any(v)]
