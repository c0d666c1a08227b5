"""The reference pages, made of tables in the code: ``python -m streams.docgen.reference``."""

from __future__ import annotations

import json
from pathlib import Path

from streams.contract.asyncapi import asyncapi
from streams.contract.schemas import schemas
from streams.docgen import state_diagrams
from streams.docgen.formats_page import formats_page
from streams.docgen.pages import command_page, events_page, settings_page
from streams.kafka.acls import MEANING, grants
from streams.metrics.registry import ENGINE, LABELS, LAYER, STATE, WORKER, Metric
from streams.runtime import log_events

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "reference"
GENERATED = "<!-- Made by `make docs` from {source}; changes here are lost. -->\n\n"
METRICS_HEAD = """# Metrics

Each worker serves its own at `http://HOST:SEATFLOW_METRICS_PORT/metrics`, in Prometheus' text form.
The server runs in a thread of its own: it answers while partitions are being restored, with the
figures of the last moment that it could look.

- No label carries a user or a group. `tenant` and `sku` (the product's `skuId`) are on the seats
  only; a worker has series for at most `SEATFLOW_METRICS_MAX_PRODUCTS` products, those with most
  units. The others are summed as `tenant="other", sku="other"`.
- A partition's figures are those of the one worker that runs it. So `sum` over workers is right for
  everything but `seatflow_partitions`, `seatflow_build_info` and `seatflow_product_info` (`max`);
  after a rebalance the figures move from worker to worker.
- The figures of the state are those of the last batch, at most 100 ms before they are published.
- Ages compare record timestamps with the worker's clock: input that is sent with old timestamps, or
  by a machine whose clock is wrong, looks late.
- A worker that is fenced ends at once with exit code 75: nobody could scrape a counter of its own.
  `seatflow_partitions_fenced_total` counts the other side, and the log says `fenced`.
- Prometheus' own `process_*` (memory, CPU, start time, file descriptors) are served as well.

"""
ACLS_HEAD = """# Rights at the brokers

What each role needs and nothing more, with the default names (`SEATFLOW_TOPIC_PREFIX=licensing.`,
`SEATFLOW_APP_ID=seatflow`). A test starts each role with exactly these rights on a broker that
refuses everything else. The user of a client certificate without SASL is its subject, say
`User:CN=worker`.

"""
LOGS_HEAD = """# Log events of a worker

One line each, on stderr. `SEATFLOW_LOG_FORMAT=json` writes objects with the members `event`,
`level`, `logger`, `timestamp` (UTC) and the fields below; `console` is for people.
`SEATFLOW_LOG_LEVEL` is the least severe that is written.

Above `debug` there is no personal data: no names, no addresses, no ids of users or groups. Two
things to know: the traceback of a bug (`fail_stop` with exit 70) may carry an id, and `debug`
carries whatever the libraries tell, passwords and logins excepted.

"""
SETUP = """acl() {{ kafka-acls.sh --bootstrap-server "$BROKERS" --command-config admin.properties \\
  --add --allow-principal User:seatflow-{role} "$@"; }}
"""
OPERATOR_HEAD = """# Made by `make docs` from deploy/prometheus/rules.yml; changes here are lost.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: seatflow
spec:
"""


def metrics_page() -> str:
    parts = [
        ("Work, counted by the delivery layer", LAYER),
        ("Work, counted by the engine while a partition is open", ENGINE),
        ("The worker now", WORKER),
        ("Licences now", STATE),
    ]
    text = GENERATED.format(source="streams/metrics/registry.py") + METRICS_HEAD
    for title, metrics in parts:
        text += f"## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
        text += "".join(_row(metric) for metric in metrics) + "\n"
    return text + _labels()


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    meaning = metric.meaning.replace("|", "\\|")
    if metric.buckets:
        meaning += "; buckets " + ", ".join(f"{bound:g}" for bound in metric.buckets) + " s"
    return f"| `{metric.shown}` | {metric.kind} | {labels} | {meaning} |\n"


def _labels() -> str:
    text = "## Labels\n\n| label | values |\n|---|---|\n"
    return text + "".join(f"| `{name}` | {values} |\n" for name, values in LABELS.items())


def acls_page() -> str:
    text = GENERATED.format(source="streams/kafka/acls.py") + ACLS_HEAD
    for role, meaning in MEANING.items():
        text += f"## {role}\n\nFor {meaning}.\n\n| resource | name | operations |\n|---|---|---|\n"
        commands = []
        for grant in grants(role, "licensing.", "seatflow"):
            name = f"`{grant.name}{'*' if grant.prefixed else ''}`"
            text += f"| {grant.resource} | {name} | {', '.join(grant.operations)} |\n"
            operations = " ".join(f"--operation {operation}" for operation in grant.operations)
            pattern = " --resource-pattern-type prefixed" if grant.prefixed else ""
            commands.append(f"acl {operations} --{grant.resource} {grant.name}{pattern}")
        setup = SETUP.format(role=role)
        text += "\n```bash\n" + setup + "\n".join(commands) + "\n```\n\n"
    return text.rstrip() + "\n"


def logs_page() -> str:
    text = GENERATED.format(source="streams/runtime/log_events.py") + LOGS_HEAD
    for event in log_events.EVENTS:
        text += f"## {event.name}\n\n`{event.level}`: {event.meaning}.\n\n"
        if event.fields:
            text += "| field | meaning |\n|---|---|\n"
            text += "".join(f"| `{n}` | {what} |\n" for n, what in event.fields.items()) + "\n"
    return text.rstrip() + "\n"


def operator_rules() -> str:
    """Prometheus' rules once more, in the form that its operator takes."""
    text = (ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    groups = text[text.index("groups:\n") :]
    return OPERATOR_HEAD + "".join(f"  {line}".rstrip() + "\n" for line in groups.splitlines())


def _made(source: str, text: str) -> str:
    return GENERATED.format(source=source) + text


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def pages() -> dict[Path, str]:
    """What is made, by the file that it goes to."""
    component = ROOT / "deploy" / "kubernetes" / "components" / "prometheus-operator"
    return {
        **{PAGES / "schemas" / name: _json(schema) for name, schema in schemas().items()},
        PAGES / "asyncapi.json": _json(asyncapi()),
        PAGES / "events.md": _made("streams/contract/schemas.py", events_page()),
        PAGES / "settings.md": _made("streams/runtime/settings.py", settings_page()),
        PAGES / "command-line.md": _made("streams/cli/main.py", command_page()),
        PAGES / "metrics.md": metrics_page(),
        PAGES / "acls.md": acls_page(),
        PAGES / "logs.md": logs_page(),
        ROOT / "docs" / "formats.md": _made("engine/state", formats_page()),
        component / "rules.yaml": operator_rules(),
        state_diagrams.PAGE: state_diagrams.page(),
    }


def main() -> None:
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
