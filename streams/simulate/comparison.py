"""The findings of a simulation: the state before and after, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.domain.vocabulary import ACTIVE, ERROR, CapabilityStatus
from engine.rules.checks import enabled_plans
from engine.rules.outcome import EMPTY_OUTCOME, Outcome
from streams.ingest.items import FeedProblem
from streams.whatif.comparison import (
    Baseline,
    SeatFigures,
    UserChange,
    part_number,
    plan_names,
    seat_figures,
    user_changes,
)
from streams.whatif.simulation import Simulation

EXAMPLES = 3


@dataclass(slots=True)
class Failure:
    """The users with one error. ``new``: those who did not have it before.

    ``kept``: those who keep the licence in spite of it (``ActiveWithError``).
    """

    error: str
    users: int = 0
    new: int = 0
    kept: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Product:
    """The seats of one product. ``short``: users without a seat; ``status``: capabilityStatus."""

    tenant: str
    sku: str
    name: str
    units: int = 0
    used_before: int = 0
    used: int = 0
    short_before: int = 0
    short: int = 0
    status_before: str = CapabilityStatus.ENABLED.value
    status: str = CapabilityStatus.ENABLED.value


@dataclass(slots=True)
class Group:
    """A group whose members or licences changed."""

    tenant: str
    group: str
    name: str
    members_before: int = 0
    members: int = 0
    licensed_before: int = 0
    licensed: int = 0
    with_errors_before: int = 0
    with_errors: int = 0


@dataclass(slots=True)
class Rejection:
    """The changes that were rejected or deferred for one reason."""

    status: str
    error: str
    changes: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Loss:
    """The users who lose service plans."""

    users: int = 0
    plans: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Findings:
    """All effects of the events. ``gained``: users who get another licence."""

    events: int = 0
    seconds: float = 0.0
    users_before: int = 0
    users: int = 0
    licensed_before: int = 0
    licensed: int = 0
    with_errors_before: int = 0
    with_errors: int = 0
    gained: int = 0
    loss: Loss = field(default_factory=Loss)
    failures: list[Failure] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    problems: list[FeedProblem] = field(default_factory=list)
    bad_rows: int = 0

    def as_lines(self) -> Iterable[dict[str, Any]]:
        """Yields one JSON object per finding, each with its ``kind``; the summary is first."""
        names = (
            "events", "seconds", "users_before", "users", "licensed_before", "licensed",
            "with_errors_before", "with_errors", "gained", "bad_rows",
        )  # fmt: skip
        yield {"kind": "summary", **{n: getattr(self, n) for n in names}, "lost": self.loss.users}
        loss = self.loss  # `asdict` would count the pairs of its counter
        plans = dict(loss.plans)
        yield {"kind": "loss", "users": loss.users, "plans": plans, "examples": loss.examples}
        for kind in ("failures", "products", "groups", "rejections"):
            for each in getattr(self, kind):
                yield {"kind": kind.removesuffix("s"), **asdict(each)}
        for problem in self.problems:
            yield {"kind": "problem", **problem._asdict()}


def compare(before: Baseline, simulation: Simulation) -> Findings:
    """Returns the findings since the baseline."""
    findings = Findings(events=simulation.events - before.events)
    _Users(before, simulation, findings).compare()
    findings.products = _products(before, simulation)
    findings.groups = _groups(before, simulation)
    findings.rejections = _rejections(simulation.results[before.results :])
    return findings


class _Users:
    """Compares all users in one pass; what depends on an outcome alone is computed once."""

    def __init__(self, before: Baseline, simulation: Simulation, findings: Findings) -> None:
        self._before, self._simulation, self._findings = before, simulation, findings
        self._names = plan_names(simulation)
        self._failures: dict[str, Failure] = {}
        self._plans: dict[Outcome, frozenset[str]] = {EMPTY_OUTCOME: frozenset()}

    def compare(self) -> None:
        found = self._findings
        found.users_before = len(self._before.users)
        for outcome, _ in self._before.users.values():
            found.licensed_before += bool(outcome.held)
            found.with_errors_before += bool(outcome.errors)
        for change in user_changes(self._before, self._simulation):
            outcome = change.after.outcome
            if change.exists:
                found.users += 1
                found.licensed += bool(outcome.held)
                found.with_errors += bool(outcome.errors)
            if outcome is not change.before.outcome:
                found.gained += bool(change.gained)
                self._lost(change)
            for error in outcome.errors:
                self._failed(change, error)
        found.failures = sorted(self._failures.values(), key=lambda f: (-f.users, f.error))

    def _enabled(self, outcome: Outcome) -> frozenset[str]:
        plans = self._plans.get(outcome)
        if plans is None:
            plans = frozenset(enabled_plans(entry.plans for entry in outcome.entries))
            self._plans[outcome] = plans
        return plans

    def _lost(self, change: UserChange) -> None:
        lost = self._enabled(change.before.outcome) - self._enabled(change.after.outcome)
        if not lost:
            return
        loss, names = self._findings.loss, sorted(self._names.get(plan, plan) for plan in lost)
        loss.users += 1
        loss.plans.update(names)
        if len(loss.examples) < EXAMPLES:
            loss.examples.append({"tenant": change.tenant, "user": change.user, "plans": names})

    def _failed(self, change: UserChange, error: str) -> None:
        failure = self._failures.get(error)
        if failure is None:
            failure = self._failures[error] = Failure(error)
        outcome = change.after.outcome
        failure.users += 1
        failure.new += error not in change.before.outcome.errors
        if len(failure.examples) < EXAMPLES or outcome.held:
            failing = [(p, s) for p, s in change.after.by_path().items() if s.reason.error == error]
            failure.kept += any(s.state not in (ACTIVE, ERROR) for _, s in failing)
            if len(failure.examples) < EXAMPLES:
                (sku, group), state = failing[0]
                failure.examples.append(
                    {
                        "tenant": change.tenant,
                        "user": change.user,
                        "group": group or "direct",
                        "skuId": sku,
                        "message": state.reason.message,
                    }
                )


def _products(before: Baseline, simulation: Simulation) -> list[Product]:
    found = []
    for (tenant, sku), figures in seat_figures(simulation).items():
        was = before.seats.get((tenant, sku), SeatFigures())
        product = Product(tenant, sku, part_number(simulation, sku), figures.units)
        product.used, product.used_before = figures.used, was.used
        product.short, product.short_before = figures.waiting, was.waiting
        product.status, product.status_before = figures.status, was.status
        found.append(product)
    return sorted(found, key=lambda p: (-p.short, p.tenant, p.name))


def _groups(before: Baseline, simulation: Simulation) -> list[Group]:
    found = []
    numbers = ("members", "membersLicensed", "membersWithErrors", "assignedLicenses", "deleted")
    for key, state in simulation.machine.groups.groups.items():
        new, old = state.published or {}, before.groups.get(key, {})
        if all(new.get(name) == old.get(name) for name in numbers):
            continue
        group = Group(state.tenant, state.group, new.get("displayName") or state.group)
        group.members_before, group.members = old.get("members", 0), new.get("members", 0)
        group.licensed_before = old.get("membersLicensed", 0)
        group.licensed = new.get("membersLicensed", 0)
        group.with_errors_before = old.get("membersWithErrors", 0)
        group.with_errors = new.get("membersWithErrors", 0)
        found.append(group)
    return sorted(found, key=lambda g: (-g.with_errors, -g.members, g.tenant, g.group))


def _rejections(results: list[dict[str, Any]]) -> list[Rejection]:
    found: dict[tuple[str, str], Rejection] = {}
    for result in results:
        place = (result["status"], result.get("error") or "")
        rejection = found.setdefault(place, Rejection(*place))
        rejection.changes += 1
        if len(rejection.examples) < EXAMPLES:
            names = ("tenant", "user", "group", "skuId", "message", "causedBy")
            rejection.examples.append({n: result[n] for n in names if result.get(n)})
    return sorted(found.values(), key=lambda r: (r.status, -r.changes))
