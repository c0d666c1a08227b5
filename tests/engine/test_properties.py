"""Properties of the engine (Hypothesis): R1, R2, R5, R6, R24, seats, order; and one user's walk
through random facts beside the oracle. A seed stands for a history: it is short to print."""

from __future__ import annotations

import json
from random import Random
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.domain import events as ev
from engine.domain.limits import Limits
from engine.domain.model import Entry, ServicePlan
from engine.domain.vocabulary import CONFLICT, ERROR, OTHER
from engine.rules.outcome import Outcome
from engine.simulation.in_memory_cluster import InMemoryCluster
from engine.simulation.workload import START
from engine.state.message_codecs import SeatGrantMessage, SeatRequestMessage
from engine.state.seat_budget import SeatBudget
from engine.state.seat_lease import Lease
from engine.state.tenant_state import order_key
from tests.spec import facts as spec_facts
from tests.support.generators import Walk, inputs

SEEDS = st.integers(0, 2**32)


# ---- one user, fact by fact


Told = list[tuple[str, str, str, str, tuple[str, ...]]]


def ours(walk: Walk, outcome: Outcome) -> Told:
    return sorted(
        (s.sku, walk.path(s.path_index) or "", s.state, s.reason.error, tuple(sorted(s.disabled)))
        for s in outcome.states
    )


def theirs(evaluation: spec_facts.Outcome) -> Told:
    return sorted(
        (s.sku, s.path or "", s.state, s.error, tuple(sorted(s.disabled)))
        for s in evaluation.states
    )


@settings(max_examples=60)
@given(SEEDS)
def test_evaluations_agree_with_the_oracle(seed: int) -> None:
    """Twenty users a seed, each evaluated after each of twenty changes of facts."""
    for user in range(20):
        walk = Walk(Random(f"{seed}/{user}"))
        for _ in range(20):
            walk.change_a_fact()
            _, now, evaluation = walk.step()
            assert ours(walk, now) == theirs(evaluation), (user, walk.facts())
            assert now.held == spec_facts.held(evaluation.entries)


def told_details(outcome: Outcome, walk: Walk) -> dict[tuple[str, str], object]:
    return {
        (s.sku, walk.path(s.path_index) or ""): json.loads(json.dumps(dict(s.reason.details)))
        for s in outcome.states
        if s.reason.error in (CONFLICT, OTHER) and s.state == ERROR
    }


@settings(max_examples=40)
@given(SEEDS)
def test_evaluations_with_many_licences_agree_with_the_oracle(seed: int) -> None:
    """So many that plans are found by index, and details are cut."""
    random = Random(seed)
    skus, groups, plans = random.randint(9, 16), random.randint(9, 16), random.randint(8, 40)
    walk = Walk(
        random,
        [f"s{n:02}" for n in range(skus)],
        [f"g{n:02}" for n in range(groups)],
        [f"p{n:02}" for n in range(plans)],
    )
    for group in walk.group_ids:
        walk.user.join(group, order_key(0, 0))
    for _ in range(15):
        walk.change_a_fact()
        _, now, evaluation = walk.step()
        assert ours(walk, now) == theirs(evaluation)
        expected = {
            (s.sku, s.path or ""): s.details
            for s in evaluation.states
            if s.error in (CONFLICT, OTHER) and s.state == ERROR
        }
        assert told_details(now, walk) == expected


@settings(max_examples=40)
@given(SEEDS)
def test_what_exceeds_the_limits_is_left_out_as_the_oracle_has_it(seed: int) -> None:
    random = Random(seed)
    limits = Limits(
        licensed_groups=random.randint(1, 3), assignments=random.randint(1, 5), products=3
    )
    walk = Walk(random, groups=[f"g{n}" for n in range(5)], limits=limits)
    for _ in range(20):
        walk.change_a_fact()
        _, now, evaluation = walk.step()
        assert ours(walk, now) == theirs(evaluation)
        assert len([s for s in now.states if s.path_index]) <= 5 + len(walk.entries)


def has(entries: tuple[Entry, ...], sku: str) -> frozenset[str]:
    return frozenset().union(*(e.plans.enabled for e in entries if e.plans.sku == sku))


@settings(max_examples=100)
@given(SEEDS)
def test_r1_r2_what_a_user_has_is_the_union_of_the_entries(seed: int) -> None:
    """R1: nothing of one entry is lost by another. R2: held as long as there is an entry."""
    walk = Walk(Random(seed))
    for _ in range(20):
        walk.change_a_fact()
        _, now, evaluation = walk.step()
        assert now.held == {e.plans.sku for e in now.entries}
        for sku in now.held:
            assert has(now.entries, sku) == frozenset(
                plan for e in evaluation.entries if e.sku == sku for plan in e.enabled
            )


@settings(max_examples=100)
@given(SEEDS)
def test_r5_what_is_asked_for_is_never_taken_away(seed: int) -> None:
    walk = Walk(Random(seed))
    for _ in range(20):
        had = {(e.plans.sku, walk.path(e.path_index)) for e in walk.user.outcome.entries}
        walk.change_a_fact()
        _, now, _ = walk.step()
        have = {(e.plans.sku, walk.path(e.path_index)) for e in now.entries}
        for sku, path in had - have:
            if path is None:
                continue
            known = walk.tenant.groups[path]
            assert path not in walk.user.groups or sku not in known.licenses


@settings(max_examples=100)
@given(SEEDS)
def test_r6_a_group_is_admitted_whole_or_not_at_all(seed: int) -> None:
    walk = Walk(Random(seed))
    for _ in range(20):
        had = {(e.plans.sku, walk.path(e.path_index)) for e in walk.user.outcome.entries}
        walk.change_a_fact()
        _, now, _ = walk.step()
        new = {(e.plans.sku, walk.path(e.path_index)) for e in now.entries} - had
        refused = [p for p in now.problems if p.state == ERROR]
        for problem in refused:
            group = walk.path(problem.path_index)
            assert not any(path == group for _, path in new)
            reasons = {p.reason.error for p in refused if p.path_index == problem.path_index}
            assert reasons != {OTHER}


@settings(max_examples=60)
@given(SEEDS)
def test_a_second_evaluation_changes_nothing(seed: int) -> None:
    """R10, R24: an outcome is a fixpoint of its own facts."""
    walk = Walk(Random(seed))
    for _ in range(20):
        walk.change_a_fact()
        before, first, _ = walk.step()
        states = ours(walk, first)  # the second evaluation may number the paths differently
        walk.denied -= before.held - first.held  # a seat that was given back can be had
        _, second, _ = walk.step()
        assert states == ours(walk, second)
        assert not second.seats_needed


# ---- R24: repetition


@settings(max_examples=25)
@given(SEEDS, st.data())
def test_r24_an_event_again_at_any_later_position_changes_nothing(
    seed: int, data: st.DataObject
) -> None:
    cluster = InMemoryCluster(partitions=2)
    told = inputs(seed, 30)
    for n, i in enumerate(told):
        cluster.publish(i.topic, i.key, i.event, i.at)
        cluster.settle()
        before = len(cluster.outputs)
        again = told[data.draw(st.integers(0, n), label="again")]
        cluster.publish(again.topic, again.key, again.event, again.at + 1000)
        cluster.settle()
        assert cluster.outputs[before:] == []


# ---- admission does not depend on the order of arrival


@settings(max_examples=40)
@given(SEEDS, st.integers(0, 6), st.permutations(range(8)))
@example(0, 3, [*reversed(range(8))])
def test_equal_facts_in_any_order_admit_the_same_users(
    seed: int, units: int, order: list[int]
) -> None:
    """Everybody joins at the same moment and in one batch: user ids decide (R8)."""
    assert admitted(units, order) == admitted(units, sorted(order))


def admitted(units: int, order: list[int]) -> list[str]:
    cluster = InMemoryCluster(partitions=1)
    plan = ServicePlan("p", "P")
    cluster.publish("catalog", "s", ev.ProductDefined("e", "s", "S", "S", (plan,)), START)
    cluster.publish("tenants", "t", ev.TenantUpdated("e", "t", "US"), START)
    licence = ev.GroupLicensesChanged("e", "t", "g", (("s", ()),), ())
    units_bought = ev.SubscriptionUpdated("e", "t", "s", units, 0, 0, 0)
    cluster.publish("subscriptions", "t/s", units_bought, START)
    cluster.settle()
    cluster.publish("group-changes", "t/g", licence, START)
    cluster.settle()
    users = [f"u{n}" for n in order]
    for user in users:
        cluster.publish("user-changes", f"t/{user}", ev.UserUpserted("e", "t", user), START + 1)
    for user in reversed(users):
        joined = ev.MembershipAdded("e", "t", user, "g")
        cluster.publish("user-changes", f"t/{user}", joined, START + 1)
    cluster.settle()
    latest = {o.key: o.value for o in cluster.outputs if o.topic == "user-licenses"}
    return sorted(key for key, value in latest.items() if value["assignedLicenses"])


# ---- seats: the lease protocol over a network that loses, repeats and reorders


ACTS = ("buy", "arrive", "go", "tell", "deliver", "old")


class Sent(NamedTuple):
    to: int | None  # a partition, or None for the product machine
    sender: int
    message: SeatRequestMessage | SeatGrantMessage


class Ledger:
    """Seats of one product, three leases, and everything that was ever sent between them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.seats = SeatBudget("t", "s")
        self.leases = [Lease("t", "s") for _ in range(3)]
        self.sent: list[Sent] = []
        self.most = 0
        self.users = 0

    def play(self, acts: list[str]) -> None:
        for act in acts:
            if act == "deliver" and self.sent:
                self.deliver(len(self.sent) - 1)
            elif act == "old" and self.sent:
                self.deliver(self.random.randrange(len(self.sent)))
            elif act not in ("deliver", "old"):
                getattr(self, act)()
            self.check()

    def buy(self) -> None:
        self.check()
        self.seats.units = (self.random.randint(0, 6), 0, 0, 0)
        self._machine()

    def arrive(self) -> None:
        """A user wants a seat of a partition: has it, or asks."""
        lease = self.random.choice(self.leases)
        self.users += 1
        if lease.try_reserve():
            self._seated(lease)
        else:
            lease.open_request(self.users, f"u{self.users}")

    def go(self) -> None:
        lease = self.random.choice(self.leases)
        if lease.used:
            lease.used -= 1
            lease.return_idle()

    def tell(self) -> None:
        p = self.random.randrange(len(self.leases))
        lease = self.leases[p]
        lease.return_idle()
        self.sent.append(Sent(None, p, lease.next_request(True)))

    def deliver(self, at: int) -> None:
        """Any message, for the first time or again; what is never chosen is lost."""
        to, sender, message = self.sent[at]
        if to is None:
            assert isinstance(message, SeatRequestMessage)
            self.seats.apply_request(sender, message)
            self._machine()
            return
        lease = self.leases[to]
        assert isinstance(message, SeatGrantMessage)
        lease.apply_grant(message)
        while lease.idle > 0 and lease.open_requests:
            since, user, _ = lease.open_requests[0]
            lease.withdraw_request(since, user)
            lease.reserved += 1
            self._seated(lease)
        lease.return_idle()

    def _seated(self, lease: Lease) -> None:
        lease.reserved -= 1
        lease.used += 1

    def _machine(self) -> None:
        self.seats.settle(len(self.leases), prefetch_min_units=1)
        for p, part in self.seats.partition_leases.items():
            if part.grant_due:
                self.sent.append(Sent(p, p, self.seats.next_grant(p)))

    def check(self) -> None:
        """Used, leased as the partitions see it, as the machine sees it, units (but for R15)."""
        used = sum(lease.used + lease.reserved for lease in self.leases)
        held = sum(lease.granted - lease.returned for lease in self.leases)
        leased = sum(part.granted - part.returned for part in self.seats.partition_leases.values())
        units = sum(self.seats.units[:2]) if self.seats.units else 0
        assert used <= held <= leased <= max(units, self.most)
        self.most = leased


@settings(max_examples=150)
@given(SEEDS, st.lists(st.sampled_from(ACTS), max_size=80))
def test_seats_are_conserved_whatever_the_network_does(seed: int, acts: list[str]) -> None:
    ledger = Ledger(Random(seed))
    ledger.buy()
    ledger.play(acts)


@settings(max_examples=60)
@given(SEEDS, st.lists(st.sampled_from(ACTS), max_size=40))
def test_after_the_network_heals_nobody_waits_beside_a_free_unit(
    seed: int, acts: list[str]
) -> None:
    ledger = Ledger(Random(seed))
    ledger.buy()
    ledger.play(acts)
    for _ in range(12):  # every request is repeated, and every latest message arrives
        for p, lease in enumerate(ledger.leases):
            lease.return_idle()
            ledger.sent.append(Sent(None, p, lease.next_request(True)))
            ledger.deliver(len(ledger.sent) - 1)
            latest = [n for n, sent in enumerate(ledger.sent) if sent.to is not None]
            for n in latest[-6:]:
                ledger.deliver(n)
            ledger.check()
    waiting = sum(len(lease.open_requests) for lease in ledger.leases)
    used = sum(lease.used for lease in ledger.leases)
    units = sum(ledger.seats.units[:2]) if ledger.seats.units else 0
    assert not waiting or used >= units
