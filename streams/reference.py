"""The reference pages that are made of tables in the code: ``python -m streams.reference``."""

from __future__ import annotations

from pathlib import Path

from streams.metrics import ENGINE, LABELS, LAYER, STATE, WORKER, Metric

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference"
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


def metrics_page() -> str:
    parts = [
        ("Work, counted by the delivery layer", LAYER),
        ("Work, counted by the engine while a partition is open", ENGINE),
        ("The worker now", WORKER),
        ("Licences now", STATE),
    ]
    text = GENERATED.format(source="streams/metrics.py") + METRICS_HEAD
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


def pages() -> dict[Path, str]:
    return {PAGES / "metrics.md": metrics_page()}


def main() -> None:
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
