"""The user machine beyond the scenarios: batches, queues, restores, wrong partitions."""

from __future__ import annotations

from typing import Any

import pytest

from engine.domain.events import (
    Delivered,
    GroupLicensesChanged,
    GroupLicensesSet,
    MembershipAdded,
    MembershipRemoved,
    ProductDefined,
    SubscriptionDeleted,
    SubscriptionUpdated,
    TenantUpdated,
    UserDeleted,
    UserLicensesChanged,
    UserLicensesSet,
    UserUpserted,
)
from engine.domain.model import ServicePlan
from engine.domain.partitioner import partition_of
from engine.partition_machine import PartitionMachine
from engine.simulation.in_memory_cluster import InMemoryCluster
from engine.state.tenant_state import ORDER_KEY_BYTES, order_key

T = "contoso"


class Tenant:
    """A small tenant on a cluster in memory, driven by plain verbs."""

    def __init__(self, partitions: int = 3) -> None:
        self.cluster = InMemoryCluster(partitions)
        self.count = 0
        for sku in ("base", "extra"):
            plans = (ServicePlan(f"{sku}-plan", sku.upper(), prohibited_locations=("CN",)),)
            self._send("catalog", sku, ProductDefined(self.id(), sku, sku.upper(), sku, plans))
        self.settle()

    def id(self) -> str:
        self.count += 1
        return f"e{self.count}"

    def _send(self, topic: str, key: str, event: Any) -> None:
        self.cluster.publish(topic, key, event, at=1_000 + self.count)

    def user(self, event: Any) -> None:
        self._send("user-changes", f"{T}/{event[2]}", event)

    def upsert(self, user: str, **facts: Any) -> None:
        self.user(UserUpserted(self.id(), T, user, **({"usage_location": "US"} | facts)))

    def join(self, user: str, group: str) -> None:
        self.user(MembershipAdded(self.id(), T, user, group))

    def leave(self, user: str, group: str) -> None:
        self.user(MembershipRemoved(self.id(), T, user, group))

    def assign(self, user: str, *skus: str, remove: tuple[str, ...] = ()) -> None:
        add = tuple((sku, ()) for sku in skus)
        self.user(UserLicensesChanged(self.id(), T, user, add, remove))

    def license(self, group: str, *skus: str) -> None:
        add = tuple((sku, ()) for sku in skus)
        self._send(
            "group-changes", f"{T}/{group}", GroupLicensesChanged(self.id(), T, group, add, ())
        )

    def seats(self, sku: str, units: int) -> None:
        event = SubscriptionUpdated(self.id(), T, sku, units, 0, 0, 0)
        self._send("subscriptions", f"{T}/{sku}", event)

    def settle(self) -> None:
        self.cluster.settle()

    def published(self, topic: str, key: str) -> list[Any]:
        return [r.value for r in self.cluster.outputs if (r.topic, r.key) == (topic, key)]

    def states(self, user: str) -> dict[str, str]:
        value = self.published("user-licenses", f"{T}/{user}")[-1]
        return {
            f"{s['skuId']}/{s['assignedByGroup']}": f"{s['state']}/{s['error']}"
            for s in value["licenseAssignmentStates"]
        }


def test_a_prohibited_location_after_the_join_in_one_batch_does_not_refuse_the_join() -> None:
    """The states follow from the order of the events, not from where a batch ends."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 50)
    tenant.license("g", "base")
    tenant.settle()
    tenant.upsert("b")
    tenant.join("b", "g")
    tenant.settle()  # leaves seats at hand
    tenant.upsert("a")
    tenant.join("a", "g")
    tenant.upsert("a", usage_location="CN")
    tenant.settle()
    assert tenant.states("a") == {"base/g": "ActiveWithError/ProhibitedInUsageLocationViolation"}


def test_events_after_a_deletion_that_waited_for_a_seat_are_not_lost() -> None:
    tenant = Tenant()
    tenant.seats("base", 5)
    tenant.license("g", "base")
    tenant.settle()
    tenant.upsert("a")
    tenant.assign("a", "base")  # asks for a seat: what follows waits
    tenant.assign("a", "extra")
    tenant.user(UserDeleted(tenant.id(), T, "a"))
    tenant.upsert("a")
    tenant.join("a", "g")
    tenant.settle()
    assert tenant.states("a") == {"base/g": "Active/None"}
    results = [r["status"] for r in tenant.published("results", f"{T}/a")]
    assert results == ["applied", "rejected"]


def test_a_user_who_comes_back_goes_on_with_the_next_revision_and_only_when_licensed() -> None:
    tenant = Tenant()
    tenant.seats("base", 5)
    tenant.settle()
    tenant.license("g", "base")
    tenant.upsert("a")
    tenant.join("a", "g")
    tenant.settle()
    tenant.user(UserDeleted(tenant.id(), T, "a"))
    tenant.settle()
    tenant.upsert("a", usage_location="DE")
    tenant.settle()
    assert tenant.published("user-licenses", f"{T}/a")[-1] is None
    tenant.join("a", "g")
    tenant.settle()
    assert tenant.published("user-licenses", f"{T}/a")[-1]["revision"] == 2


def test_an_event_on_the_wrong_partition_is_not_applied_and_named() -> None:
    key = f"{T}/a"
    wrong = (partition_of(key, 4) + 1) % 4
    machine = PartitionMachine(wrong, 4)
    machine.start()
    machine.drain_effects()
    result = machine.handle("user-changes", [Delivered(UserUpserted("e1", T, "a"), 1, 77)])
    assert result.misrouted == [77]
    assert not machine.drain_effects().rows


@pytest.mark.parametrize("users", [1, 7])
def test_a_restored_partition_is_as_it_was_and_says_nothing_new(users: int) -> None:
    tenant = Tenant()
    tenant.seats("base", 3)
    tenant.seats("extra", 100)
    tenant.license("g", "base", "extra")
    for i in range(users):
        tenant.upsert(f"u{i}", user_principal_name=f"u{i}@contoso.example")
        tenant.join(f"u{i}", "g")
    tenant.settle()
    rows = [dict(log) for log in tenant.cluster.changelogs]
    outputs = len(tenant.cluster.outputs)
    for p in range(3):
        tenant.cluster.restart(p)
    tenant.settle()
    assert len(tenant.cluster.outputs) == outputs
    users_before = [{k: v for k, v in log.items() if k[0] == "users"} for log in rows]
    users_after = [
        {k: v for k, v in log.items() if k[0] == "users"} for log in tenant.cluster.changelogs
    ]
    assert users_after == users_before


def test_moments_sort_as_timestamps_and_offsets_do() -> None:
    """Also those that no clock gives, but that a producer may write."""
    given = [(-5, 1), (0, 2), (1, 0), (1, 7), (1_800_000_000_000, 3), (1 << 47, 0), (1 << 62, 4)]
    moments = [order_key(*each) for each in given]
    assert moments == sorted(moments)
    assert {len(each) for each in moments} == {ORDER_KEY_BYTES}


def test_locations_that_nothing_prohibits_share_one_decision() -> None:
    """Until a product's new definition prohibits one of them."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 50)
    tenant.license("g", "base")
    tenant.settle()
    evaluator = tenant.cluster.machines[0].users.evaluator
    made = []
    for user, location in (("a", "US"), ("b", "DE"), ("c", "FR")):
        tenant.upsert(user, usage_location=location)
        tenant.join(user, "g")
        tenant.settle()
        made.append(evaluator.evaluations - evaluator.hits)
        assert tenant.states(user) == {"base/g": "Active/None"}
    assert made[1:] == [made[0], made[0]]
    plans = (ServicePlan("base-plan", "BASE", prohibited_locations=("CN", "DE")),)
    tenant._send("catalog", "base", ProductDefined(tenant.id(), "base", "BASE", "base", plans))
    tenant.settle()
    tenant.upsert("d", usage_location="DE")
    tenant.join("d", "g")
    tenant.settle()
    wrong = "ProhibitedInUsageLocationViolation"
    assert tenant.states("d") == {"base/g": f"Error/{wrong}"}
    assert tenant.states("b") == {"base/g": f"ActiveWithError/{wrong}"}
    assert tenant.states("c") == {"base/g": "Active/None"}


def test_a_deferred_whole_list_is_kept_over_a_restart_and_removes_what_is_there_then() -> None:
    """R21, R28: what is not listed is removed when the change is carried out."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 5)
    tenant.seats("later", 5)
    tenant.license("g", "base")
    tenant.upsert("a")
    tenant.assign("a", "base")
    tenant.settle()
    tenant.user(UserLicensesSet(tenant.id(), T, "a", (("later", ()),)))
    whole = GroupLicensesSet(tenant.id(), T, "g", (("later", ()),))
    tenant._send("group-changes", f"{T}/g", whole)
    tenant.settle()
    status = tenant.published("group-status", f"{T}/g")[-1]
    assert status["deferred"] == ["later"]
    tenant.cluster.restart(0)
    plans = (ServicePlan("later-plan", "LATER"),)
    tenant._send("catalog", "later", ProductDefined(tenant.id(), "later", "LATER", "later", plans))
    tenant.settle()
    assert tenant.states("a") == {"later/None": "Active/None"}
    assert [r["status"] for r in tenant.published("results", f"{T}/a")][1:] == [
        "deferred",
        "applied",
    ]
    status = tenant.published("group-status", f"{T}/g")[-1]
    assert [each["skuId"] for each in status["assignedLicenses"]] == ["later"]


def test_a_whole_list_changes_only_what_differs() -> None:
    """R28: a licence that is listed as it is there is not checked again."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 5)
    tenant.seats("extra", 5)
    tenant.upsert("a")
    tenant.assign("a", "base", "extra")
    tenant.upsert("a", usage_location=None)
    tenant.settle()
    tenant.user(UserLicensesSet(tenant.id(), T, "a", (("base", ()),)))
    tenant.user(UserLicensesSet(tenant.id(), T, "a", (("base", ()),)))
    tenant.settle()
    results = tenant.published("results", f"{T}/a")
    assert [(r["status"], r.get("error")) for r in results[1:]] == [
        ("applied", None),
        ("rejected", "NoChange"),
    ]
    assert set(tenant.states("a")) == {"base/None"}


@pytest.mark.parametrize("crash_after", range(8))
def test_disabling_a_product_resumes_after_a_crash_and_publishes_each_user_once(
    crash_after: int,
) -> None:
    """R15: the fan-out to the holders goes on where the changelog says."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 20)
    tenant.license("g", "base")
    users = [f"u{n}" for n in range(6)]
    for user in users:
        tenant.upsert(user)
        tenant.join(user, "g")
    tenant.settle()
    tenant._send("subscriptions", f"{T}/base", SubscriptionDeleted(tenant.id(), T, "base"))
    cluster = tenant.cluster
    for _ in range(crash_after):
        for topic in ("subscriptions", "internal.seat-requests", "internal.seat-grants"):
            cluster.step(0, topic, 1)
        cluster.machines[0].run_background(1)
        cluster.commit(0)
    cluster.restart(0)
    tenant.settle()
    for user in users:
        records = tenant.published("user-licenses", f"{T}/{user}")
        assert [r["licenseAssignmentStates"][0]["state"] for r in records] == ["Active", "Disabled"]
        assert [r["revision"] for r in records] == [1, 2]
    seats = tenant.published("product-seats", f"{T}/base")[-1]
    assert (seats["capabilityStatus"], seats["consumedUnits"]) == ("Deleted", 6)
    status = tenant.published("group-status", f"{T}/g")[-1]
    assert (status["membersLicensed"], status["errors"]) == (0, {})
    tenant.seats("base", 20)
    tenant.settle()
    assert all(tenant.states(user) == {"base/g": "Active/None"} for user in users)


def test_an_error_stays_an_error_while_the_product_is_off() -> None:
    """R15: ActiveWithError is not hidden by Disabled, and ends in it."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 5)
    tenant.upsert("a")
    tenant.assign("a", "base")
    tenant.upsert("a", usage_location="CN")
    tenant.settle()
    event = SubscriptionUpdated(tenant.id(), T, "base", 0, 0, 0, 5)
    tenant._send("subscriptions", f"{T}/base", event)
    tenant.settle()
    location = "ActiveWithError/ProhibitedInUsageLocationViolation"
    assert tenant.states("a") == {"base/None": location}
    assert tenant.published("product-seats", f"{T}/base")[-1]["capabilityStatus"] == "LockedOut"
    tenant.upsert("a")
    tenant.settle()
    assert tenant.states("a") == {"base/None": "Disabled/None"}


def located(tenant: Tenant, user: str) -> list[str | None]:
    records = tenant.published("user-licenses", f"{T}/{user}")
    return [record["effectiveUsageLocation"] for record in records]


@pytest.mark.parametrize("crash_after", range(10))
def test_a_new_location_of_the_tenant_is_published_once_for_each_user_without_one(
    crash_after: int,
) -> None:
    """A crash in the middle, and a change of a user before its turn, publish nothing twice."""
    tenant = Tenant(partitions=1)
    tenant._send("tenants", T, TenantUpdated(tenant.id(), T, "US"))
    tenant.license("g", "base")
    users = [f"u{n}" for n in range(6)]
    for user in users:
        tenant.upsert(user, usage_location="DE" if user == "u0" else None)
        tenant.join(user, "g")
    tenant.settle()
    cluster = tenant.cluster
    tenant._send("tenants", T, TenantUpdated(tenant.id(), T, "FR"))
    cluster.step(0, "tenants", 1)
    cluster.step(0, "internal.configuration", 1)
    cluster.commit(0)
    tenant.leave("u4", "g")  # u4 is published before its turn
    cluster.step(0, "user-changes", 1)
    cluster.commit(0)
    for n in range(crash_after):
        if n == 5:
            tenant._send("tenants", T, TenantUpdated(tenant.id(), T, "IT"))
            cluster.step(0, "tenants", 1)
            cluster.step(0, "internal.configuration", 1)
        cluster.machines[0].run_background(1)
        cluster.commit(0)
        cluster.restart(0)
    tenant.settle()
    last = "IT" if crash_after > 5 else "FR"
    assert located(tenant, "u0") == ["DE"]
    for user in users[1:]:
        published = located(tenant, user)
        assert published[-1] == last
        assert published == list(dict.fromkeys(published))
        assert tenant.published("user-licenses", f"{T}/{user}")[-1]["revision"] == len(published)
    cluster.restart(0)
    tenant.settle()
    assert all(located(tenant, user)[-1] == last for user in users[1:])
    before = [len(located(tenant, user)) for user in users]
    tenant._send("tenants", T, TenantUpdated(tenant.id(), T, last, seat_retry="manual"))
    tenant.settle()
    assert [len(located(tenant, user)) for user in users] == before
