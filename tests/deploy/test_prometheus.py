"""Prometheus' rules: tested by promtool, over metrics that exist, with a runbook for each alert."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics.registry import HISTOGRAM, METRICS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "prometheus"
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool (Debian's prometheus) is not installed"
)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDS = [rule for rule in rules() if "record" in rule]


def promtool(*arguments: str) -> None:
    run = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
@pytest.mark.parametrize("file", ["rules_test.yml", "forecast_test.yml"])
def test_the_rules_pass_their_tests(file: str) -> None:
    promtool("test", "rules", file)


@needs_promtool
def test_the_configuration_is_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_each_alert_is_tested_both_ways() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for path in DEPLOY.glob("*_test.yml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else quiet).add(case["alertname"])
    names = {alert["alert"] for alert in ALERTS}
    assert fires == names
    # The forecast's quiet series are in its one test.
    assert quiet == names - {"SeatflowSeatsRunOut"}


def known_series() -> set[str]:
    names = {rule["record"] for rule in RECORDS}
    for metric in METRICS:
        parts = ("_bucket", "_sum", "_count") if metric.kind == HISTOGRAM else ("",)
        names |= {metric.exposed_name + part for part in parts}
    return names


def test_rules_use_only_metrics_that_there_are() -> None:
    for rule in rules():
        used = set(re.findall(r"\bseatflow[a-z0-9_:]+", rule["expr"]))
        assert used <= known_series(), rule
        assert used, rule


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_has_a_runbook(alert: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", text, re.MULTILINE)}
    path, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert path == "docs/operations.md"
    assert anchor == alert["alert"].lower()
    assert anchor in anchors
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]


def test_each_runbook_has_its_alert() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^### (Seatflow\w+)$", text, re.MULTILINE))
    assert sections == {alert["alert"] for alert in ALERTS}


PAGES = ("operations", "security", "deployment", "reference/metrics", "reference/acls")


@pytest.mark.parametrize("page", [*(f"docs/{name}" for name in PAGES), "CONTRIBUTING", "SECURITY"])
def test_links_in_the_documentation_lead_somewhere(page: str) -> None:
    path = ROOT / f"{page}.md"
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{page}: {link}"
