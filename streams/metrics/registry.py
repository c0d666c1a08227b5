"""All metrics on one screen, and the counters of the delivery layer.

Names follow Prometheus: base units, ``_total`` for what only grows. No label carries a user or a
group. ``streams/metrics/collector.py`` fills the gauges at each scrape;
``docs/reference/metrics.md`` is generated from this table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from engine.domain import events
from engine.domain.vocabulary import (
    ASSIGNMENT_ERRORS,
    GROUP_PROCESSING_STATES,
)
from streams.contract.rejection import CODES
from streams.contract.topics import (
    CONSUMED,
    FORWARDED_EVENTS,
    INPUT_NAMES,
    INTERNAL_NAMES,
    PRODUCED,
)

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
COMMIT_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 15)
LATENCY_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 15, 60, 300, 3600)
RESTORE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metric(NamedTuple):
    """A row of the table; ``name`` has no ``seatflow_``, and no ``_total`` for counters."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def exposed_name(self) -> str:
        """The name as Prometheus sees it."""
        return f"seatflow_{self.name}" + ("_total" if self.kind == COUNTER else "")


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, COUNTER, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, GAUGE, meaning, labels)


def _histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, HISTOGRAM, meaning, (), buckets)


# Counted by the delivery layer.
LAYER = (
    _counter("events", "input events processed", "type"),
    _counter("dead_letters", "records that could not be applied", "topic", "reason"),
    _counter(
        "events_forwarded",
        "events found on another partition than that of their key, and forwarded to it, by the"
        " topic where they were found",
        "topic",
    ),
    _counter("records_in", "records read and applied, inputs and internal ones", "topic"),
    _counter("records_out", "records written and committed", "topic"),
    _counter(
        "expired_records", "input records that retention deleted before they were read", "topic"
    ),
    _counter("partitions_fenced", "partitions taken over by fencing their previous owner"),
    _counter("restored_rows", "rows restored from the changelogs of partitions taken over"),
    _counter("rebalances", "assignments that this worker received from the group"),
    _counter("gaps", "batches refetched after an offset gap"),
    _histogram(
        "transaction_seconds",
        "seconds from the begin of a transaction to its commit",
        COMMIT_SECONDS,
    ),
    _histogram(
        "latency_seconds",
        "seconds from an input record's timestamp to the commit of its outcome",
        LATENCY_SECONDS,
    ),
    _histogram(
        "restore_seconds",
        "seconds from the assignment of a partition to its first processing",
        RESTORE_SECONDS,
    ),
)
# Counted by the engine since the partition was opened in this process.
ENGINE = (
    _counter("evaluations", "evaluations of a user by the rules"),
    _counter("memo_hits", "evaluations answered by an earlier one with equal facts"),
    _counter("published", "revisions of users published"),
    _counter("duplicates", "repeated events that were skipped"),
    _counter("ignored_memberships", "memberships of objects other than users, such as devices"),
)
# Current values of the worker.
WORKER = (
    _gauge("partitions", "partitions of every topic, as SEATFLOW_PARTITIONS says"),
    _gauge("partitions_owned", "partitions that this worker processes"),
    _gauge("partitions_opening", "partitions being fenced and restored"),
    _gauge("queue_records", "fetched records that are not applied yet", "topic"),
    _gauge(
        "lag_records",
        "committed records that are not applied yet, of the processed partitions",
        "topic",
    ),
    _gauge(
        "lag_seconds",
        "age in seconds of the oldest record that is not applied yet, likewise",
        "topic",
    ),
    _gauge("build_info", "always 1", "version"),
    _gauge("broker_reachable", "whether a broker answers: 1, or 0 while it is away"),
)
# Of this moment: what the partitions that this worker processes have in their state.
STATE = (
    _gauge("users", "users in memory, including those with a known membership only"),
    _gauge("users_in_error", "users with this error open on any path", "kind"),
    _gauge("users_with_errors", "users with any error open"),
    _gauge("seat_requests_in_flight", "users whose outcome waits for a seat request"),
    _gauge("groups", "groups by their processing state", "state"),
    _gauge("groups_with_errors", "groups with members in error"),
    _gauge("seats_units", "units that give seats: enabled and warning", "tenant", "sku"),
    _gauge("seats_used", "users who have a seat", "tenant", "sku"),
    _gauge("seats_available", "units less used; below 0 where units were lowered", "tenant", "sku"),
    _gauge("users_waiting", "users who were denied a seat", "tenant", "sku"),
    _gauge("seats_held", "seats in use over all products, as the users' partitions count them"),
    _gauge("users_denied", "denied seats over all products, likewise"),
    _gauge("seats_oversold", "seats used beyond what is leased to the partition: must be 0"),
    _gauge("product_info", "always 1; joins the part number to sku", "sku", "part_number"),
)
REASONS = (
    "bad_member", "invalid_timestamp", "no_value", "not_json", "processor_failed", "too_large",
    "unknown_type", "wrong_key",
)  # fmt: skip
INTERNAL_REASONS = ("bad_message", "invalid_timestamp", "not_json", "processor_failed")
EVENT_LABELS: dict[type, str] = {
    events.UserUpserted: "user_upserted",
    events.UserDeleted: "user_deleted",
    events.MembershipAdded: "membership_added",
    events.MembershipRemoved: "membership_removed",
    events.MembershipIgnored: "membership_ignored",
    events.UserLicensesChanged: "user_licenses_changed",
    events.UserLicensesSet: "user_licenses_set",
    events.UserReprocess: "user_reprocess",
    events.GroupUpserted: "group_upserted",
    events.GroupDeleted: "group_deleted",
    events.GroupLicensesChanged: "group_licenses_changed",
    events.GroupLicensesSet: "group_licenses_set",
    events.GroupReprocess: "group_reprocess",
    events.ProductDefined: "product_defined",
    events.SubscriptionUpdated: "subscription_updated",
    events.SubscriptionDeleted: "subscription_deleted",
    events.TenantUpdated: "tenant_updated",
}
"""The label of each event type; part of the interface, so not to be changed with a class's name."""
# Series that exist from the start, as 0: otherwise Prometheus misses the first increase.
INITIAL_SERIES: dict[str, tuple[Any, ...]] = {
    "events": tuple(EVENT_LABELS),
    "dead_letters": (
        *product(INPUT_NAMES, REASONS),
        *product(INTERNAL_NAMES, INTERNAL_REASONS),
        (FORWARDED_EVENTS, "wrong_partition"),
    ),
    "events_forwarded": INPUT_NAMES,
    "records_in": CONSUMED,
    "records_out": PRODUCED,
    "expired_records": CONSUMED,
    "users_in_error": ASSIGNMENT_ERRORS,
    "groups": GROUP_PROCESSING_STATES,
}
METRICS = (*LAYER, *ENGINE, *WORKER, *STATE)
# Of the console and the receiver, on their own ports.
CONSOLE = (
    _gauge("broker_reachable", "whether a broker answers: 1, or 0 while it is away"),
    _counter(
        "console_failures",
        "failed attempts to follow the topics or the workers; each is tried again",
        "follower",
    ),
    _gauge("console_lag_records", "committed records that the read model has not passed yet"),
    _gauge("console_lag_seconds", "age in seconds of what the pages show"),
    _gauge("console_unreadable_records", "records that cannot be read and are not shown"),
)
RECEIVER = (
    _gauge("broker_reachable", "whether a broker answers: 1, or 0 while it is away"),
    _gauge("receiver_pending_records", "records that wait for their transaction"),
)
LABELS = {
    "type": "the name of an input event: `user_upserted`, `user_licenses_changed` …",
    "topic": "a topic without its prefix",
    "reason": "one of " + ", ".join(f"`{code}`" for code in CODES) + ", as in `dlq.code`",
    "kind": "one of " + ", ".join(f"`{kind}`" for kind in ASSIGNMENT_ERRORS),
    "state": "one of " + ", ".join(f"`{state}`" for state in GROUP_PROCESSING_STATES),
    "tenant": "the tenant's id, or `other`",
    "sku": "the product's skuId, or `other`",
    "part_number": "the product's skuPartNumber",
    "follower": "`topics` or `workers`",
    "version": "Seatflow's",
}


class Histogram:
    """Counts of values by bucket, not cumulative; ``bounds`` are the upper bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_ages(self, now: int, timestamps: list[int]) -> None:
        """Counts the ages in seconds of timestamps in milliseconds, which are nearly sorted."""
        timestamps.sort()
        left, counts = len(timestamps), self.counts
        for i, bound in enumerate(self.bounds):
            old = bisect_left(timestamps, now - bound * 1000, 0, left)
            counts[i] += left - old
            left = old
            if not left:
                break
        counts[-1] += left
        # Below 0 only where a sender's clock is ahead.
        self.sum += max(0, now * len(timestamps) - sum(timestamps)) / 1000


class WorkerMetrics:
    """The counters and histograms of the delivery layer; changed on the main loop only."""

    def __init__(self) -> None:
        counters = [metric.name for metric in LAYER if metric.kind == COUNTER]
        self.counts: dict[str, Counter[Any]] = {name: Counter() for name in counters}
        self.engine: Counter[str] = Counter()  # of machines that are closed
        histograms = {m.name: Histogram(m.buckets) for m in LAYER if m.kind == HISTOGRAM}
        self.histograms = histograms
        self.transaction = histograms["transaction_seconds"]
        self.latency = histograms["latency_seconds"]
        self.restore = histograms["restore_seconds"]

    def add(self, name: str, label: Any = None, count: int = 1) -> None:
        """Adds to a counter; ``label``: the value of its label, or a tuple of several."""
        self.counts[name][label] += count


def engine_counters(machine: Any) -> dict[str, int]:
    """Returns a copy of the machine's counters, which may change meanwhile."""
    return dict(getattr(machine, "counters", None) or {})
