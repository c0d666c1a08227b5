"""The table of metrics, the page that is made of it, and how figures become series."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import urllib.request
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from engine.metrics import ProductSeats
from streams import COMPILED
from streams.contract.decoder import DECODERS, Rejected
from streams.docgen import reference
from streams.metrics.collector import by_product
from streams.metrics.http_endpoint import serve
from streams.metrics.registry import CONSOLE, HISTOGRAM, LABELS, METRICS, RECEIVER, Histogram
from tests.support.scrape import get


@pytest.mark.skipif(COMPILED, reason="compiled classes have no docstrings: SEATFLOW_PURE=1")
def test_the_reference_pages_are_current() -> None:
    for path, text in reference.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"run `make docs` to renew {path}"


def test_names_are_as_prometheus_wants_them() -> None:
    for table in (METRICS, CONSOLE, RECEIVER):
        names = [metric.exposed_name for metric in table]
        assert len(set(names)) == len(names)
    every = (*METRICS, *CONSOLE, *RECEIVER)
    for metric in every:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", metric.name)
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert (metric.kind == HISTOGRAM) == bool(metric.buckets)
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)$", metric.name)
        assert not set(metric.name.split("_")) & set(metric.labels)
        assert metric.meaning[0].islower()
        assert not metric.meaning.endswith(".")
    assert {label for metric in every for label in metric.labels} == set(LABELS)


def test_no_label_carries_a_user_or_a_group() -> None:
    assert not {"user", "group", "user_id", "group_id", "key"} & set(LABELS)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_say() -> None:
    lines = []
    for metric in METRICS:
        name = metric.exposed_name
        labels = ",".join(f'{label}="x"' for label in metric.labels)
        lines += [
            f"# HELP {metric.exposed_name} {metric.meaning}",
            f"# TYPE {metric.exposed_name} {metric.kind}",
        ]
        if metric.kind == HISTOGRAM:
            lines += [
                f'{metric.exposed_name}_bucket{{le="+Inf"}} 1',
                f"{metric.exposed_name}_sum 1",
            ]
            lines += [f"{name}_count 1"]
        else:
            lines.append(f"{name}{{{labels}}} 1")
    run = subprocess.run(
        ["promtool", "check", "metrics"],
        input="\n".join(lines) + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@given(st.lists(st.integers(0, 400_000)), st.lists(st.integers(1, 300), min_size=1, unique=True))
def test_many_ages_are_counted_as_one_by_one(ages: list[int], bounds: list[int]) -> None:
    now = 1_700_000_000_000
    many, single = Histogram(sorted(bounds)), Histogram(sorted(bounds))
    many.add_ages(now, [now - age for age in ages])
    for age in ages:
        single.add(age / 1000)
    assert many.counts == single.counts
    assert many.sum == pytest.approx(single.sum)


def test_only_so_many_products_have_series_and_the_sums_stay() -> None:
    seats = [ProductSeats("t", f"sku{n}", f"PART{n}", n, n // 2, n % 3) for n in range(100)]
    values = by_product(seats, 10)
    assert len(values["seats_units"]) == 11
    assert ("t", "sku99") in values["seats_units"]
    assert ("other", "other") in values["seats_units"]
    assert len(values["product_info"]) == 11
    assert sum(values["seats_units"].values()) == sum(range(100))
    assert sum(values["seats_available"].values()) == sum(one.units - one.used for one in seats)
    assert sum(values["users_waiting"].values()) == sum(one.waiting for one in seats)


def test_the_endpoint_serves_metrics_health_and_readiness() -> None:
    wrong: list[str] = []
    port, stop = serve(CollectorRegistry(), 0, list, lambda: wrong)
    url = f"http://127.0.0.1:{port}"
    try:
        assert get(f"{url}/healthz") == (200, "ok\n")
        assert get(f"{url}/readyz") == (200, "ok\n")
        wrong.append("partition 3 is being restored")
        assert get(f"{url}/readyz") == (503, "partition 3 is being restored\n")
        assert get(f"{url}/healthz?verbose") == (200, "ok\n")
        assert get(f"{url}/other")[0] == 404
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
    finally:
        stop()


def test_the_endpoint_prints_no_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither for a client that leaves early, nor to one that asks while a collector fails."""

    class Failing(CollectorRegistry):
        def collect(self) -> Any:
            raise KeyError("a secret of the collector")

    port, stop = serve(Failing(), 0, list, list)
    try:
        status, text = get(f"http://127.0.0.1:{port}/metrics")
        assert status == 500
        assert "secret" not in text
        for _ in range(20):
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\nGET /he")
            one.close()
        assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200
    finally:
        stop()
    assert "Exception occurred" not in capsys.readouterr().err


KEY = b"contoso/u1"
GOOD = b'{"type":"user.deleted","id":"e","tenant":"contoso","user":"u1"}'
BAD = [
    (KEY, None, "no_value"),
    (KEY, b"x" * (1 << 21), "too_large"),
    (KEY, b"{", "not_json"),
    (KEY, GOOD.replace(b"deleted", b"exploded"), "unknown_type"),
    (KEY, GOOD.replace(b"user.deleted", b"group.deleted"), "unknown_type"),
    (KEY, GOOD.replace(b'"e"', b"7"), "bad_member"),
    (KEY, b"[1]", "bad_member"),
    (b"contoso/u2", GOOD, "wrong_key"),
    (None, GOOD, "wrong_key"),
]


@pytest.mark.parametrize(("key", "value", "kind"), BAD)
def test_each_dead_letter_is_of_a_known_kind(
    key: bytes | None, value: bytes | None, kind: str
) -> None:
    rejected = DECODERS["user-changes"](key, value, ())
    assert isinstance(rejected, Rejected)
    assert rejected.kind == kind
    assert f"`{kind}`" in LABELS["reason"]
