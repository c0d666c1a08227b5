"""A change that exceeds a limit is rejected, with the limit and the number (rules, section 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from engine.domain import events as ev
from engine.domain.events import Delivered
from engine.domain.limits import Limits
from engine.machines.user_phase import UserPhase, check_at_rest, check_transition
from engine.partition_machine import PartitionMachine
from engine.state.pending_work import PendingWork
from engine.state.tenant_state import User
from engine.state.user_row_codecs import PendingWorkRow

LIMITS = Limits(memberships=2, products=2, deferred_changes=3, deferred_bytes=500)
ONE_LICENCE = replace(LIMITS, assignments=1)


class Partition:
    """The only partition of a system with small limits; its messages come back to it."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.machine = PartitionMachine(0, 1, limits=limits)
        self.machine.start()
        self.results: list[tuple[str, str, str | None]] = []
        self.audited: list[tuple[str, str]] = []
        self.activities: list[str] = []
        self.states: dict[str, str] = {}
        self.held: list[tuple[str, Any]] = []
        self.offset = 0
        for sku in ("s0", "s1", "s2"):
            self.take("catalog", ev.ProductDefined(sku, sku, sku, sku, ()))
        self.take("tenants", ev.TenantUpdated("t", "t", "US"))
        self.take("user-changes", ev.UserUpserted("u", "t", "u", usage_location="US"))
        for sku in ("s0", "s1", "s2"):
            self.take("subscriptions", ev.SubscriptionUpdated(sku, "t", sku, 5, 0, 0, 0))

    def take(self, topic: str, event: Any) -> None:
        """Applies an event, and all messages that follow from it."""
        self.hold(topic, event)
        self.settle()

    def hold(self, topic: str, event: Any) -> None:
        """Applies an event; the messages that follow from it are still on their way."""
        self.offset += 1
        self.machine.handle(topic, [Delivered(event, 1, self.offset)])
        self._drain()

    def settle(self) -> None:
        while True:
            while self.machine.run_background(100):
                pass
            self.machine.flush()
            self._drain()
            if not self.held:
                return
            topic, message = self.held.pop(0)
            self.machine.handle(topic, [Delivered(message, 1, 1)])

    def _drain(self) -> None:
        for name, _, _, value in self.machine.drain_effects().records:
            if name.startswith("internal."):
                self.held.append((name, value))
            elif name == "audit":
                value = orjson.loads(value) if isinstance(value, bytes) else value
                self.audited.append((value["target"]["id"], value["resultReason"]))
                self.activities.append(value["activity"])
            elif name == "user-licenses" and value is not None:
                value = orjson.loads(value) if isinstance(value, bytes) else value
                self.states = {
                    f"{s['skuId']}/{s['assignedByGroup']}": s["error"]
                    for s in value["licenseAssignmentStates"]
                }
            elif name == "results":
                details = value.get("details", {})
                told = f"{details['number']} > {details['maximum']}" if "limit" in details else None
                self.results.append((value["causedBy"], value.get("error", ""), told))

    @property
    def user(self) -> User:
        return self.machine.configuration.tenant("t").users["u"]


def undefined(n: int, size: int = 1) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ((f"x{n}", tuple(f"p{i}" for i in range(size))),)


def test_memberships_of_a_user() -> None:
    partition = Partition()
    for group in ("g0", "g1", "g2"):
        partition.take("user-changes", ev.MembershipAdded(group, "t", "u", group))
    assert partition.results == [("g2", "LimitExceeded", "3 > 2")]
    user = partition.user
    assert user.groups == ("g0", "g1")
    partition.take("user-changes", ev.MembershipRemoved("r", "t", "u", "g0"))
    partition.take("user-changes", ev.MembershipAdded("again", "t", "u", "g2"))
    assert user.groups == ("g1", "g2")


@pytest.mark.parametrize("topic", ["group-changes", "user-changes"])
def test_products_of_a_group_and_direct_licences(topic: str) -> None:
    partition = Partition()
    change = ev.GroupLicensesChanged if topic == "group-changes" else ev.UserLicensesChanged
    both = (("s0", ()), ("s1", ()))
    partition.take(topic, change("two", "t", "u", both, ()))
    partition.take(topic, change("three", "t", "u", (("s2", ()),), ()))
    partition.take(topic, change("swap", "t", "u", (("s2", ()),), ("s0",)))
    assert partition.results == [
        ("two", "", None),
        ("three", "LimitExceeded", "3 > 2"),
        ("swap", "", None),
    ]


@pytest.mark.parametrize("topic", ["group-changes", "user-changes"])
def test_changes_that_wait_for_a_product(topic: str) -> None:
    partition = Partition()
    change = ev.GroupLicensesChanged if topic == "group-changes" else ev.UserLicensesChanged
    for n in range(4):
        partition.take(topic, change(f"e{n}", "t", "u", undefined(n), ()))
    assert [error for _, error, _ in partition.results] == ["", "", "", "LimitExceeded"]
    assert partition.results[-1] == ("e3", "LimitExceeded", "4 > 3")

    partition = Partition()
    partition.take(topic, change("large", "t", "u", undefined(0, 200), ()))
    ((_, error, told),) = partition.results
    assert (error, str(told).endswith("> 500")) == ("LimitExceeded", True)


def test_licences_that_are_left_out_are_reported_of_the_user_alone() -> None:
    partition = Partition(ONE_LICENCE)
    both = (("s0", ()), ("s1", ()))
    partition.take("group-changes", ev.GroupLicensesChanged("two", "t", "g", both, ()))
    partition.take("user-changes", ev.MembershipAdded("join", "t", "u", "g"))
    assert [user for user, reason in partition.audited if "limit" in reason.lower()] == ["u"]
    partition.take("user-changes", ev.UserUpserted("v", "t", "v", usage_location="US"))
    assert [user for user, reason in partition.audited if "limit" in reason.lower()] == ["u"]


@pytest.mark.parametrize("returns", ["adopted", "restored"])
def test_licences_of_a_user_who_returns_are_left_out_with_a_report(returns: str) -> None:
    partition = Partition(ONE_LICENCE)
    one = (("s0", ()),)
    for group in ("g0", "g1"):
        partition.take("group-changes", ev.GroupLicensesChanged(group, "t", group, one, ()))
    if returns == "adopted":
        held = (("s0", "g0", (), None),)
        members = (("g0", None), ("g1", None))
        snapshot = ev.UserSnapshot(
            "s", "t", "u", usage_location="US", memberships=members, licenses=held
        )
        partition.take("user-changes", snapshot)
    else:
        partition.take("user-changes", ev.UserLicensesChanged("d", "t", "u", (("s2", ()),), ()))
        partition.take("user-changes", ev.UserDeleted("bin", "t", "u", restorable=True))
        for group in ("g0", "g1"):
            partition.take("user-changes", ev.MembershipAdded(f"in {group}", "t", "u", group))
        assert not any("limit" in reason.lower() for _, reason in partition.audited)
        partition.take("user-changes", ev.UserUpserted("back", "t", "u"))
    assert [user for user, reason in partition.audited if "limit" in reason.lower()] == ["u"]


def test_the_memo_of_outcomes_is_limited_by_what_is_in_them() -> None:
    """Not by their number: one may be a thousand times as large as another."""
    partition = Partition(Limits())
    evaluator = partition.machine.users.evaluator
    evaluator.memo_max_weight = 60
    groups = [f"g{n}" for n in range(12)]
    for n, group in enumerate(groups):
        licences = ((f"s{n % 3}", ()),)
        partition.take("group-changes", ev.GroupLicensesChanged(group, "t", group, licences, ()))
    for group in groups:
        partition.take("user-changes", ev.MembershipAdded(group, "t", "u", group))
        assert 0 < evaluator.memo_weight <= 60
        assert evaluator.memo_weight >= len(evaluator.memo)
    assert partition.user.outcome in evaluator.memo.values()
    assert len(partition.states) == 12


# --- events that wait for what is under way (R23) -------------------------------------------------

WAITING = Limits(waiting_events=3, deferred_bytes=2_000)


class Waiting(Partition):
    """A user whose change asks for a seat, so that later events wait; phases are checked."""

    def __init__(self, limits: Limits = WAITING) -> None:
        super().__init__(limits)
        for group, sku in (("g0", "s1"), ("g1", "s2")):
            change = ev.GroupLicensesChanged(group, "t", group, ((sku, ()),), ())
            self.take("group-changes", change)
        self.results.clear()
        self.machine.work.phase_log = []
        self.assign("c0")
        assert self.user.seat_request is not None

    def assign(self, id: str, sku: str = "s0") -> None:
        self.hold("user-changes", ev.UserLicensesChanged(id, "t", "u", ((sku, ()),), ()))

    def join(self, group: str) -> None:
        self.hold("user-changes", ev.MembershipAdded(f"join {group}", "t", "u", group))

    def check_phases(self) -> None:
        phase = UserPhase.IDLE
        for user, trigger, target in self.machine.work.phase_log or ():
            check_transition(user, phase, trigger, target)
            phase = target
        check_at_rest(self.user, self.machine.users.phase(self.user))


def test_commands_beyond_the_limit_are_rejected() -> None:
    partition = Waiting()
    for n in range(1, 4):
        partition.assign(f"c{n}", f"s{n % 3}")
    partition.assign("late")
    partition.hold("user-changes", ev.UserReprocess("again", "t", "u"))
    late = [("late", "LimitExceeded", "4 > 3"), ("again", "LimitExceeded", "4 > 3")]
    assert partition.results == late
    partition.settle()
    answers = [("c0", ""), ("c1", ""), ("c2", ""), ("c3", "")]
    assert [(id, error) for id, error, _ in partition.results[2:]] == answers
    assert partition.user.pending_work is None
    partition.check_phases()


def test_a_fact_beyond_the_limit_ends_the_wait() -> None:
    """No fact is lost: the commands are rejected, the facts applied in their order."""
    partition = Waiting()
    partition.join("g0")
    partition.assign("c1")
    partition.join("g1")
    assert not partition.user.member_since
    partition.hold("user-changes", ev.MembershipRemoved("leave", "t", "u", "g0"))
    assert partition.user.groups == ("g1",)
    exceeded = [("c0", "LimitExceeded", "4 > 3"), ("c1", "LimitExceeded", "4 > 3")]
    assert partition.results == exceeded
    partition.settle()
    assert partition.results == exceeded
    assert partition.states == {"s2/g1": "None"}
    assert partition.user.pending_work is None
    partition.check_phases()
    leases = partition.machine.configuration.tenant("t").leases
    assert {sku for sku, lease in leases.items() if lease.used} == {"s2"}
    assert not any(lease.reserved for lease in leases.values())


def test_a_snapshot_that_may_not_wait_is_applied() -> None:
    partition = Waiting(Limits(deferred_bytes=200))
    members = tuple((f"g{n}", None) for n in range(20))
    snapshot = ev.UserSnapshot("s", "t", "u", usage_location="US", memberships=members)
    partition.hold("user-changes", snapshot)
    assert [(id, error) for id, error, _ in partition.results] == [("c0", "LimitExceeded")]
    partition.settle()
    assert partition.states == {"s1/g0": "None", "s2/g1": "None"}
    partition.check_phases()


def test_a_deletion_that_may_not_wait_is_applied() -> None:
    partition = Waiting()
    for n in range(1, 4):
        partition.assign(f"c{n}")
    partition.hold("user-changes", ev.UserDeleted("delete", "t", "u"))
    assert [id for id, _, _ in partition.results] == ["c0", "c1", "c2", "c3"]
    partition.settle()
    assert not partition.user.known
    assert partition.user.pending_work is None


def test_a_restoration_behind_which_too_much_waits_ends() -> None:
    partition = Waiting()
    partition.settle()
    partition.take("user-changes", ev.UserDeleted("bin", "t", "u", restorable=True))
    partition.take("subscriptions", ev.SubscriptionUpdated("none", "t", "s0", 0, 0, 0, 0))
    partition.results.clear()
    assert partition.machine.work.phase_log is not None
    partition.machine.work.phase_log.clear()
    partition.hold("user-changes", ev.UserUpserted("back", "t", "u"))
    assert partition.user.seat_request is not None
    partition.join("g0")
    partition.join("g1")
    partition.hold("user-changes", ev.MembershipRemoved("leave", "t", "u", "g0"))
    partition.hold("user-changes", ev.UserDeleted("bin again", "t", "u", restorable=True))
    assert [id for id, _, _ in partition.results] == ["back"]
    partition.settle()
    assert not partition.user.known
    partition.take("user-changes", ev.UserUpserted("back again", "t", "u"))
    assert partition.states == {"s2/g1": "None"}


def test_events_that_wait_for_an_address_are_limited_too() -> None:
    partition = Waiting()
    partition.settle()
    mail = ev.UserUpserted("mail", "t", "u", proxy_addresses=("SMTP:u@t.example",))
    partition.hold("user-changes", mail)
    assert partition.user.waits
    partition.assign("c1")
    partition.join("g0")
    partition.join("g1")
    partition.hold("user-changes", ev.UserUpserted("move", "t", "u", usage_location="DE"))
    assert (partition.user.groups, partition.user.location) == (("g0", "g1"), "DE")
    partition.settle()
    assert partition.results[1:] == [("c1", "LimitExceeded", "4 > 3")]
    assert partition.states == {"s0/None": "None", "s1/g0": "None", "s2/g1": "None"}
    partition.check_phases()


def test_the_bytes_that_wait_are_the_same_after_a_restart() -> None:
    partition = Waiting(Limits())
    for n in range(5):
        partition.join(f"g{n}")
    pending = partition.user.pending_work
    assert pending is not None
    restored = PendingWork.of_row(PendingWorkRow._make(pending.to_row()))
    assert restored.deferred_event_bytes == pending.deferred_event_bytes > 5 * 40
    partition.settle()
    assert partition.user.pending_work is None


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"memberships": tuple((f"g{n}", None) for n in range(3))}, "3 > 2"),
        ({"licenses": tuple((f"s{n}", "", (), None) for n in range(3))}, "3 > 2"),
        ({"licenses": tuple((f"s{n}", "g", (), None) for n in range(3))}, "3 > 2"),
    ],
)
def test_a_snapshot_of_more_than_a_user_may_have_is_rejected(
    facts: dict[str, Any], told: str
) -> None:
    partition = Partition(replace(LIMITS, assignments=2))
    partition.take("user-changes", ev.MembershipAdded("join", "t", "u", "before"))
    partition.take("user-changes", ev.UserSnapshot("s", "t", "u", usage_location="DE", **facts))
    assert partition.results == [("s", "LimitExceeded", told)]
    assert (partition.user.groups, partition.user.location) == (("before",), "US")


# --- groups ---------------------------------------------------------------------------------------


def test_reprocesses_of_a_group_under_way() -> None:
    partition = Partition(Limits(group_completions=2))
    for n in range(4):
        partition.hold("group-changes", ev.GroupReprocess(f"r{n}", "t", "g"))
    late = [("r2", "LimitExceeded", "3 > 2"), ("r3", "LimitExceeded", "3 > 2")]
    assert partition.results == late
    partition.settle()
    assert partition.results[2:] == [("r0", "", None), ("r1", "", None)]
    partition.take("group-changes", ev.GroupReprocess("r4", "t", "g"))
    assert partition.results[-1] == ("r4", "", None)


def test_changes_of_a_group_that_are_not_complete() -> None:
    """All are made; the audit log has the end of the latest ones."""
    partition = Partition(Limits(group_completions=2))
    for n in range(4):
        add, remove = ((f"s{n % 2}", ()),), (f"s{(n + 1) % 2}",)
        partition.hold("group-changes", ev.GroupLicensesChanged(f"e{n}", "t", "g", add, remove))
    partition.settle()
    assert partition.results == [(f"e{n}", "", None) for n in range(4)]
    assert partition.activities.count("Finish applying group based license to users") == 2
