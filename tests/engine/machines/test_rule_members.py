"""R27 on the machines: what a changed rule and a changed user do, and in how many steps."""

from __future__ import annotations

from typing import Any

import pytest

from engine.domain import events as ev
from engine.domain.model import ServicePlan
from engine.simulation.in_memory_cluster import InMemoryCluster
from engine.state.row_codecs import GROUPS, JOBS

T = "t"
SALES, HR = 'user.department -eq "Sales"', 'user.department -eq "HR"'


class Play:
    """One tenant with two licensed groups."""

    def __init__(self, users: int = 0) -> None:
        self.cluster = InMemoryCluster(partitions=1)
        self.at = 1_700_000_000_000
        plan = ServicePlan("p", "P")
        self.publish("catalog", "sku", ev.ProductDefined("e0", "sku", "SKU", "Sku", (plan,)))
        self.publish(
            "subscriptions", "t/sku", ev.SubscriptionUpdated("e1", T, "sku", 10_000, 0, 0, 0)
        )
        for group in ("sales", "hr"):
            change = ev.GroupLicensesChanged(f"l-{group}", T, group, (("sku", ()),), ())
            self.publish("group-changes", f"t/{group}", change)
        for n in range(users):
            self.user(f"u{n:04d}", department="Sales" if n % 2 else "HR")
        self.settle()

    def publish(self, topic: str, key: str, event: Any) -> None:
        self.at += 1
        self.cluster.publish(topic, key, event, self.at)

    def user(self, user: str, id: str = "new", **attributes: str | None) -> None:
        event = ev.UserUpserted(
            f"{id}-{user}", T, user, usage_location="US", attributes=tuple(attributes.items())
        )
        self.publish("user-changes", f"t/{user}", event)

    def rule(self, group: str, id: str, text: Any = ev.ABSENT, state: Any = ev.ABSENT) -> None:
        event = ev.GroupUpserted(id, T, group, ev.ABSENT, text, state)
        self.publish("group-changes", f"t/{group}", event)

    def settle(self) -> None:
        self.cluster.settle()

    def published(self, topic: str) -> list[Any]:
        return [output.value for output in self.cluster.outputs if output.topic == topic]

    def members(self, group: str) -> int:
        values = [v for v in self.published("group-status") if v["group"] == group]
        found: int = values[-1]["members"]
        return found


def test_a_user_moves_between_two_groups_in_one_published_revision() -> None:
    play = Play()
    play.rule("sales", "r1", SALES)
    play.rule("hr", "r2", HR)
    play.user("ann", department="Sales")
    play.settle()
    before = len(play.published("user-licenses"))
    play.user("ann", "moved", department="HR")
    play.settle()
    (moved,) = play.published("user-licenses")[before:]
    assert [s["assignedByGroup"] for s in moved["licenseAssignmentStates"]] == ["hr"]
    assert moved["causedBy"] == "moved-ann"
    assert play.members("sales") == 0


def test_a_changed_rule_is_applied_in_slices_and_goes_on_after_a_crash() -> None:
    play = Play(users=500)
    play.rule("sales", "r1", SALES)
    cluster = play.cluster
    for topic in ("group-changes", "internal.configuration"):
        cluster.step(0, topic, 10)
    visited = []
    while cluster.machines[0].has_background_work:
        cluster.machines[0].run_background(60)  # sorts the users
        cluster.machines[0].run_background(60)
        cluster.commit(0)
        cluster.restart(0)
        users = cluster.machines[0].configuration.tenant(T).users.values()
        visited.append(sum("sales" in user.groups for user in users))
    assert visited == sorted(visited)
    assert len(visited) >= 8
    assert visited[0] < 60 and visited[-1] == 250  # noqa: PT018
    play.settle()
    assert play.members("sales") == 250
    assert not [key for key in cluster.changelogs[0] if key[0] == JOBS]


def test_an_event_of_a_user_not_yet_reached_comes_after_the_rule() -> None:
    """The since when is that of the rule, as if the fan-out had been there before."""
    play = Play(users=40)
    play.rule("sales", "r1", SALES)
    ruled_at = play.at
    cluster = play.cluster
    for topic in ("group-changes", "internal.configuration"):
        cluster.step(0, topic, 10)
    play.user("u0039", "later", city="Oslo")
    cluster.step(0, "user-changes", 1)
    user = cluster.machines[0].configuration.tenant(T).users["u0039"]
    assert int.from_bytes(user.memberships()["sales"][:6]) == ruled_at
    play.settle()
    assert play.members("sales") == 20


@pytest.mark.parametrize("restarts", [False, True])
def test_changes_of_a_rule_that_come_quickly_are_applied_one_after_the_other(
    restarts: bool,
) -> None:
    """Pausing freezes the members that the rule before made, whoever was reached by then."""
    play = Play(users=100)
    play.rule("sales", "r1", SALES)
    play.rule("sales", "r2", state="Paused")
    play.rule("sales", "r3", HR)
    cluster = play.cluster
    cluster.step(0, "group-changes", 10)
    cluster.step(0, "internal.configuration", 10)
    row = cluster.changelogs[0][GROUPS, "t/sales"]
    assert row.count("Sales") == 2  # the one that is applied, and the one that waits
    if restarts:
        cluster.restart(0)
    play.settle()
    assert play.members("sales") == 50
    status = [v for v in play.published("group-status") if v["group"] == "sales"][-1]
    assert (status["membershipRule"], status["membershipRuleProcessingState"]) == (HR, "Paused")
    assert status["licenseProcessingState"] == "ProcessingComplete"
    play.rule("sales", "r4", state="On")
    play.settle()
    assert play.members("sales") == 50
    users = cluster.machines[0].configuration.tenant(T).users.values()
    assert {u.id for u in users if "sales" in u.groups} == {f"u{n:04d}" for n in range(0, 100, 2)}


def test_attributes_beyond_the_limits_are_refused_as_a_whole() -> None:
    play = Play()
    play.rule("sales", "r1", 'user.city -eq "Oslo"')
    many = {f"a{n}": "x" for n in range(249)}
    play.user("ann", "many", **many, city="Oslo")
    play.user("ann", "more", city="Rome", other="y")
    play.user("ann", "long", **{f"a{n}": "x" * 1024 for n in range(100)})
    play.settle()
    answers = {r["causedBy"]: r for r in play.published("results") if "user" in r}
    assert {id: r["error"] for id, r in answers.items()} == {
        "more-ann": "LimitExceeded",
        "long-ann": "LimitExceeded",
    }
    assert answers["more-ann"]["details"]["maximum"] == 250
    assert play.members("sales") == 1


def test_a_rule_of_a_later_release_freezes_the_members() -> None:
    play = Play(users=4)
    play.rule("sales", "r1", SALES)
    play.settle()
    row = play.cluster.changelogs[0][GROUPS, "t/sales"]
    play.cluster.changelogs[0][GROUPS, "t/sales"] = row.replace("-eq", "-resembles")
    play.cluster.restart(0)
    play.user("u0001", "moved", department="HR")
    play.settle()
    assert play.members("sales") == 2


def test_a_rejected_rule_leaves_nothing_behind() -> None:
    play = Play(users=2)
    event = ev.GroupUpserted("bad", T, "sales", "New name", "user.department -eq", "Paused")
    play.publish("group-changes", "t/sales", event)
    play.settle()
    (answer,) = [r for r in play.published("results") if r["causedBy"] == "bad"]
    assert (answer["status"], answer["error"]) == ("rejected", "InvalidMembershipRule")
    assert answer["details"]["position"] == 20
    assert "character 20" in answer["message"]
    status = [v for v in play.published("group-status") if v["group"] == "sales"][-1]
    assert status["displayName"] is None
    assert "membershipRule" not in status
