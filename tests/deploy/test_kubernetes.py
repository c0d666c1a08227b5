"""The Kubernetes manifests, offline: rendered by kubectl, checked by Kubernetes' own schemas."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.contract.topics import INPUT_NAMES
from streams.runtime.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
RENDERED = ["base", "overlays/example"]
VERSIONS = ["1.29", "1.34"]
CUSTOM = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule"}

pytestmark = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl, which renders kustomize, is not installed"
)


@functools.cache
def rendered(name: str) -> list[dict[str, Any]]:
    run = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr, run.stderr
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def one(name: str, kind: str, called: str | None = None) -> dict[str, Any]:
    """Returns the only object of the kind, or the only one of the kind and the name."""
    (found,) = [
        document
        for document in rendered(name)
        if document["kind"] == kind and called in (None, document["metadata"]["name"])
    ]
    return found


def pods(name: str) -> list[dict[str, Any]]:
    kinds = ("StatefulSet", "Job", "Deployment")
    return [d["spec"]["template"]["spec"] for d in rendered(name) if d["kind"] in kinds]


@pytest.mark.parametrize("name", RENDERED)
@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid_by_the_schemas_of_kubernetes(name: str, version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kubernetes_validate

    checked = 0
    for document in rendered(name):
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)
            checked += 1
    assert checked >= 7


def test_a_schema_refuses_nonsense() -> None:
    import kubernetes_validate

    wrong = {**one("base", "StatefulSet"), "spec": {"replicas": "three"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", RENDERED)
def test_pods_have_no_rights(name: str) -> None:
    for pod in pods(name):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_workers_are_static_members_with_their_pods_names() -> None:
    (container,) = worker()
    assert {
        "name": "SEATFLOW_WORKER_ID",
        "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
    } in container["env"]
    assert one("base", "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"


def worker(name: str = "base") -> list[dict[str, Any]]:
    containers: list[dict[str, Any]] = one(name, "StatefulSet")["spec"]["template"]["spec"][
        "containers"
    ]
    return containers


def test_probes_ask_what_the_worker_serves() -> None:
    (container,) = worker()
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    endpoint = (ROOT / "streams" / "metrics" / "http_endpoint.py").read_text()
    assert all(f'"{path}"' in endpoint for path in paths.values())
    (port,) = container["ports"]
    assert one("base", "ConfigMap")["data"]["SEATFLOW_METRICS_PORT"] == str(port["containerPort"])
    spec = one("base", "StatefulSet")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > 10


@pytest.mark.parametrize("name", RENDERED)
def test_it_sets_only_settings_that_there_are(name: str) -> None:
    known = {f"SEATFLOW_{field.upper()}" for field in Settings.model_fields}
    data = one(name, "ConfigMap")["data"]
    assert set(data) <= known
    plain = {
        key.removeprefix("SEATFLOW_").lower(): value
        for key, value in data.items()
        if not key.endswith("_FILE") and "SASL" not in value
    }
    load_settings(**plain)


def test_what_selects_pods_finds_them() -> None:
    labels = one("base", "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        one("base", "StatefulSet")["spec"]["selector"]["matchLabels"],
        one("base", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one("base", "Service")["spec"]["selector"],
        one("base", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    service = one("overlays/example", "Service", "seatflow-worker")["metadata"]["labels"]
    monitor = one("overlays/example", "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service.items()
    assert monitor["endpoints"][0]["port"] == one("base", "Service")["spec"]["ports"][0]["name"]


HTTP = {"console": ("/login", "/login"), "receiver": ("/healthz", "/healthz")}


@pytest.mark.parametrize("name", HTTP)
def test_console_and_receiver_are_reached_by_the_ingress_and_hold_their_tokens(name: str) -> None:
    overlay = "overlays/example"
    deployment = one(overlay, "Deployment", f"seatflow-{name}")["spec"]
    template = deployment["template"]
    labels = template["metadata"]["labels"]
    policy = one(overlay, "NetworkPolicy", f"seatflow-{name}")["spec"]
    service = one(overlay, "Service", f"seatflow-{name}")["spec"]
    for selector in (
        deployment["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
        service["selector"],
    ):
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == name
    (container,) = template["spec"]["containers"]
    (port,) = container["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    assert policy["ingress"][0]["ports"] == [{"port": port["containerPort"]}]
    assert {v["name"] for v in template["spec"]["volumes"]} == {
        mount["name"] for mount in container["volumeMounts"]
    }
    (access,) = [v for v in template["spec"]["volumes"] if v["name"] == "access"]
    assert access["secret"]["secretName"] == f"seatflow-{name}"


@pytest.mark.parametrize("name", HTTP)
def test_probes_of_console_and_receiver_are_paths_that_they_serve(name: str) -> None:
    spec = one("overlays/example", "Deployment", f"seatflow-{name}")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    found = tuple(
        container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")
    )
    assert found == HTTP[name]
    sources = {"console": "console/pages", "receiver": "ingest/http"}
    text = "".join(p.read_text() for p in (ROOT / "streams" / sources[name]).glob("*.py"))
    assert all(f'get("{path}")' in text for path in found)


def test_the_console_takes_only_settings_that_there_are() -> None:
    spec = one("overlays/example", "Deployment", "seatflow-console")["spec"]["template"]["spec"]
    known = {f"SEATFLOW_{field.upper()}" for field in Settings.model_fields}
    assert {variable["name"] for variable in spec["containers"][0]["env"]} <= known


def test_a_second_receiver_never_runs_beside_the_first() -> None:
    spec = one("overlays/example", "Deployment", "seatflow-receiver")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_scaling_fits_the_partitions_and_the_names() -> None:
    spec = one("overlays/example", "ScaledObject")["spec"]
    data = one("overlays/example", "ConfigMap")["data"]
    assert spec["maxReplicaCount"] == int(data["SEATFLOW_PARTITIONS"])
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    assert spec["scaleTargetRef"]["name"] == one("base", "StatefulSet")["metadata"]["name"]
    assert "replicas" not in one("overlays/example", "StatefulSet")["spec"]
    defaults = Settings.model_fields
    for trigger in spec["triggers"]:
        metadata = trigger["metadata"]
        assert metadata["bootstrapServers"] == data["SEATFLOW_BROKERS"]
        assert metadata["consumerGroup"] == defaults["app_id"].default
        topic = metadata["topic"].removeprefix(defaults["topic_prefix"].default)
        assert topic in INPUT_NAMES
        auth = one("overlays/example", "TriggerAuthentication")["metadata"]["name"]
        assert trigger["authenticationRef"]["name"] == auth


def test_the_operator_gets_the_same_rules() -> None:
    ours = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    assert one("overlays/example", "PrometheusRule")["spec"] == ours


def test_secrets_are_mounted_files_and_not_in_the_manifests() -> None:
    for document in rendered("overlays/example"):
        assert document["kind"] != "Secret"
    for pod in pods("overlays/example"):
        (container,) = pod["containers"]
        assert {"name": "kafka", "mountPath": "/etc/seatflow", "readOnly": True} in container[
            "volumeMounts"
        ]
    data = one("overlays/example", "ConfigMap")["data"]
    assert "SEATFLOW_SASL_PASSWORD" not in data
    files = [value for key, value in data.items() if key.endswith("_FILE")]
    assert all(re.match(r"/etc/seatflow/\w", path) for path in files)
