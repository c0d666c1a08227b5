"""A change that exceeds a limit is rejected, with the limit and the number (rules, section 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from engine.domain import events as ev
from engine.domain.events import Delivered
from engine.domain.limits import Limits
from engine.partition_machine import PartitionMachine

LIMITS = Limits(memberships=2, products=2, deferred_changes=3, deferred_bytes=500)
ONE_LICENCE = replace(LIMITS, assignments=1)


class Partition:
    """The only partition of a system with small limits; its messages come back to it."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.machine = PartitionMachine(0, 1, limits=limits)
        self.machine.start()
        self.results: list[tuple[str, str, str | None]] = []
        self.audited: list[tuple[str, str]] = []
        for sku in ("s0", "s1", "s2"):
            self.take("catalog", ev.ProductDefined(sku, sku, sku, sku, ()))
        self.take("tenants", ev.TenantUpdated("t", "t", "US"))
        self.take("user-changes", ev.UserUpserted("u", "t", "u", usage_location="US"))
        for sku in ("s0", "s1", "s2"):
            self.take("subscriptions", ev.SubscriptionUpdated(sku, "t", sku, 5, 0, 0, 0))

    def take(self, topic: str, event: Any) -> None:
        waiting = [(topic, event)]
        while waiting:
            to, message = waiting.pop(0)
            self.machine.handle(to, [Delivered(message, 1, 1)])
            while self.machine.run_background(100):
                pass
            self.machine.flush()
            for name, _, _, value in self.machine.drain_effects().records:
                if name.startswith("internal."):
                    waiting.append((name, value))
                elif name == "audit":
                    value = orjson.loads(value) if isinstance(value, bytes) else value
                    self.audited.append((value["target"]["id"], value["resultReason"]))
                elif name == "results":
                    details = value.get("details", {})
                    told = f"{details['number']} > {details['maximum']}" if details else None
                    self.results.append((value["causedBy"], value.get("error", ""), told))


def undefined(n: int, size: int = 1) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return ((f"x{n}", tuple(f"p{i}" for i in range(size))),)


def test_memberships_of_a_user() -> None:
    partition = Partition()
    for group in ("g0", "g1", "g2"):
        partition.take("user-changes", ev.MembershipAdded(group, "t", "u", group))
    assert partition.results == [("g2", "LimitExceeded", "3 > 2")]
    user = partition.machine.configuration.tenant("t").users["u"]
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
