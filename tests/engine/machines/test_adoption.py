"""Snapshots and the recycle bin beyond the scenarios: order, repetition, restarts, seats."""

from __future__ import annotations

from typing import Any

import pytest

from engine.domain.events import ProductDefined, UserDeleted, UserSnapshot
from engine.domain.model import ServicePlan
from engine.domain.partitioner import partition_of
from tests.engine.machines.test_user_machine import T, Tenant

Json = dict[str, Any]
LONG_AGO = 100
"""Before every event of the tests."""


class Directory(Tenant):
    """A small tenant that is taken over from another system."""

    def snapshot(self, user: str, groups: tuple[str, ...] = (), *held: str, **facts: Any) -> None:
        """``held``: licences as product/group, or product/ for a direct one."""
        licenses = []
        for n, licence in enumerate(held):
            sku, group = licence.split("/")
            licenses.append((sku, group, (), LONG_AGO + n))
        self.user(
            UserSnapshot(
                self.id(),
                T,
                user,
                usage_location=facts.pop("usage_location", "US"),
                memberships=tuple((group, LONG_AGO) for group in groups),
                licenses=tuple(licenses),
                **facts,
            )
        )

    def delete(self, user: str, restorable: bool = True) -> None:
        self.user(UserDeleted(self.id(), T, user, restorable))

    def restart(self) -> None:
        """Has every partition restored from its changelog."""
        self.settle()
        for p in range(3):
            self.cluster.restart(p)

    def state(self, user: str) -> Json | None:
        published = self.published("user-licenses", f"{T}/{user}")
        found: Json | None = published[-1] if published else None
        return found

    def shown(self, user: str) -> list[str]:
        """Each as product/group state or error."""
        state = self.state(user)
        return [
            f"{s['skuId']}/{s['assignedByGroup'] or ''} "
            + (s["state"] if s["error"] == "None" else s["error"])
            for s in (state["licenseAssignmentStates"] if state else ())
        ]

    def consumed(self, sku: str) -> tuple[int, int]:
        value = self.published("product-seats", f"{T}/{sku}")[-1]
        return value["consumedUnits"], value["availableUnits"]


@pytest.fixture
def directory() -> Directory:
    return Directory()


def test_a_snapshot_is_published_in_one_revision_with_its_moments(directory: Directory) -> None:
    directory.license("g", "base")
    directory.settle()
    directory.snapshot("a", ("g",), "base/g", "extra/")
    directory.settle()
    state = directory.state("a")
    assert state is not None
    assert directory.shown("a") == ["base/g Active", "extra/ Active"]
    assert state["revision"] == 1
    assert [s["since"][-7:] for s in state["licenseAssignmentStates"]] == ["00.100Z", "00.101Z"]


def test_a_snapshot_that_says_the_same_changes_nothing(directory: Directory) -> None:
    directory.license("g", "base")
    directory.settle()
    for _ in range(3):
        directory.snapshot("a", ("g",), "base/g", "extra/")
        directory.settle()
    state = directory.state("a")
    assert state is not None
    assert state["revision"] == 1
    assert directory.consumed("base") == (1, -1)


def test_adopted_users_count_once_and_nobody_is_admitted_until_there_is_room(
    directory: Directory,
) -> None:
    directory.seats("base", 2)
    directory.license("g", "base")
    directory.settle()
    for n in range(5):
        directory.snapshot(f"u{n}", ("g",), "base/g")
    directory.settle()
    directory.snapshot("late", ("g",))
    directory.settle()
    assert directory.consumed("base") == (5, -3)
    assert directory.shown("late") == ["base/g CountViolation"]
    for n in range(5):
        directory.leave(f"u{n}", "g")
        directory.settle()
        left = 4 - n
        admitted = left < 2
        assert directory.consumed("base") == (left + admitted, 2 - left - admitted)
        assert directory.shown("late") == [f"base/g {'Active' if admitted else 'CountViolation'}"]


def test_the_unit_of_an_adopted_user_is_nobody_elses_in_the_same_batch(
    directory: Directory,
) -> None:
    directory.seats("base", 0)
    directory.license("g", "base")
    directory.settle()
    directory.snapshot("a", ("g",), "base/g")
    directory.leave("a", "g")
    directory.snapshot("late", ("g",))
    directory.settle()
    assert directory.shown("late") == ["base/g CountViolation"]
    assert directory.consumed("base") == (0, 0)


def test_a_licence_of_an_undefined_product_is_adopted_when_it_is_defined(
    directory: Directory,
) -> None:
    directory.snapshot("a", (), "later/", "base/")
    directory.settle()
    assert directory.shown("a") == ["base/ Active"]
    directory.restart()
    plans = (ServicePlan("later-plan", "LATER"),)
    defined = ProductDefined(directory.id(), "later", "LATER", "Later", plans)
    directory._send("catalog", "later", defined)
    directory.settle()
    assert directory.shown("a") == ["base/ Active", "later/ Active"]
    assert directory.consumed("later") == (1, -1)


def test_a_licence_of_a_group_that_is_licensed_later_is_adopted_then(directory: Directory) -> None:
    directory.snapshot("a", ("g",), "base/g", usage_location="CN")
    directory.settle()
    assert directory.shown("a") == []
    directory.restart()
    directory.license("g", "base")
    directory.settle()
    assert directory.shown("a") == ["base/g ProhibitedInUsageLocationViolation"]
    state = directory.state("a")
    assert state is not None
    assert state["licenseAssignmentStates"][0]["state"] == "ActiveWithError"
    assert directory.consumed("base") == (1, -1)


def test_what_a_known_group_does_not_ask_for_is_not_adopted_later(directory: Directory) -> None:
    directory.license("g", "extra")
    directory.settle()
    directory.snapshot("a", ("g",), "base/g")
    directory.settle()
    directory.license("g", "base")
    directory.settle()
    assert directory.shown("a") == ["base/g CountViolation", "extra/g CountViolation"]


def test_a_snapshot_waits_for_a_direct_change_under_way(directory: Directory) -> None:
    directory.seats("base", 1)
    directory.settle()
    directory.upsert("a")
    directory.settle()
    directory.assign("a", "base")
    directory.snapshot("a", (), "extra/")
    directory.settle()
    assert [r["status"] for r in directory.published("results", f"{T}/a")] == ["applied"]
    assert directory.shown("a") == ["extra/ Active"]
    assert directory.consumed("base") == (0, 1)


# -- the recycle bin
def test_memberships_of_a_user_in_the_bin_count_when_it_is_back(directory: Directory) -> None:
    directory.seats("base", 5)
    directory.license("g", "base")
    directory.upsert("a")
    directory.join("a", "g")
    directory.settle()
    directory.delete("a")
    directory.settle()
    assert directory.state("a") is None
    assert directory.consumed("base") == (0, 5)
    directory.leave("a", "g")
    directory.join("a", "h")
    directory.license("h", "base")
    directory.restart()
    directory.upsert("a")
    directory.settle()
    assert directory.shown("a") == ["base/h Active"]
    assert directory.published("results", f"{T}/a") == []


def test_a_restored_user_keeps_its_attributes_and_names_what_it_cannot_have(
    directory: Directory,
) -> None:
    directory.seats("base", 1)
    directory.seats("extra", 1)
    directory.upsert("a")
    directory.settle()
    directory.assign("a", "base", "extra")
    directory.settle()
    directory.delete("a")
    directory.delete("a")
    directory.settle()
    directory.upsert("b")
    directory.assign("b", "base")
    directory.settle()
    directory.upsert("a", usage_location="CN")
    directory.settle()
    answer = directory.published("results", f"{T}/a")[-1]
    assert answer["status"] == "applied"
    assert "error" not in answer
    named = [(each["skuId"], each["error"]) for each in answer["details"]["notRestored"]]
    assert named == [
        ("base", "ProhibitedInUsageLocationViolation"),
        ("extra", "ProhibitedInUsageLocationViolation"),
    ]
    assert directory.shown("a") == []


@pytest.mark.parametrize("at_once", [True, False])
def test_a_restoration_keeps_its_place_before_the_events_that_follow(
    directory: Directory, at_once: bool
) -> None:
    """R23: what is given does not depend on how long the restoration waits for its seat."""
    for sku in ("left", "right"):
        plans = (ServicePlan(sku, sku, exclusive_sets=("side",)),)
        directory._send("catalog", sku, ProductDefined(directory.id(), sku, sku, sku, plans))
        directory.seats(sku, 1)
    directory.license("g", "right")
    directory.upsert("a")
    directory.settle()
    directory.assign("a", "left")
    directory.settle()
    directory.delete("a")
    directory.settle()
    for units in (0, 1):  # the partition gives back the seat that became free
        directory.seats("left", units)
        directory.settle()
    directory.upsert("a")
    partition = partition_of(f"{T}/a", 3)
    if at_once:
        directory.join("a", "g")
        directory.cluster.step(partition, "user-changes", 1)
        user = directory.cluster.machines[partition].configuration.tenant(T).users["a"]
        assert user.seat_request is not None
        directory.cluster.step(partition, "user-changes", 1)
    else:
        directory.settle()
        directory.join("a", "g")
    directory.settle()
    assert directory.shown("a") == ["left/ Active", "right/g MutuallyExclusiveViolation"]


def test_a_user_who_is_deleted_for_good_is_forgotten(directory: Directory) -> None:
    directory.seats("base", 1)
    directory.upsert("a")
    directory.settle()
    directory.assign("a", "base")
    directory.settle()
    directory.delete("a")
    directory.delete("a", restorable=False)
    directory.upsert("a")
    directory.settle()
    assert directory.state("a") is None
    assert len(directory.published("results", f"{T}/a")) == 1


def test_commands_for_a_user_in_the_bin_are_rejected(directory: Directory) -> None:
    directory.upsert("a")
    directory.delete("a")
    directory.assign("a", "base")
    directory.settle()
    assert directory.published("results", f"{T}/a")[-1]["error"] == "UserNotFound"
