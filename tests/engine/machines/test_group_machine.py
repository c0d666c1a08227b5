"""The group machine: changes and reports in; configuration, status, results and audit out."""

from __future__ import annotations

from typing import Any

import pytest

from engine.domain.effects import Effects
from engine.domain.events import (
    Delivered,
    GroupDeleted,
    GroupLicensesChanged,
    GroupReprocess,
    GroupUpserted,
)
from engine.domain.model import ServicePlan
from engine.domain.partitioner import partition_of
from engine.machines.group_machine import GroupMachine
from engine.state.configuration import Configuration
from engine.state.message_codecs import CONFIGURATION, GroupReportMessage, encode_group_report
from engine.state.row_codecs import encode_product

KEY, PARTITIONS = "t/g", 2
OWNER = partition_of(KEY, PARTITIONS)
NEW = GroupLicensesChanged("e1", "t", "g", (("E3", ()),), ())


class Group:
    """A group machine that knows the product E3."""

    def __init__(self, number: int = OWNER) -> None:
        self.effects = Effects()
        self.configuration = Configuration(
            number, PARTITIONS, lambda key: partition_of(key, PARTITIONS)
        )
        self.define("E3")
        self.machine = GroupMachine(self.configuration, self.effects)

    def define(self, sku: str) -> None:
        plans = (ServicePlan(f"{sku}-plan", sku),)
        self.configuration.define(encode_product(sku, sku, sku, plans))

    def apply(self, *events: Any) -> list[int]:
        return self.machine.changes([Delivered(event, 1_000, 7) for event in events])

    def report(self, partition: int, version: int, members: int = 0, licensed: int = 0) -> None:
        message = GroupReportMessage("t", "g", partition, version, members, licensed, 0, {}, 2_000)
        self.machine.reports([Delivered(encode_group_report(message), 2_000, 8)])

    def sent(self, topic: str) -> list[Any]:
        return [value for t, _, _, value in self.effects.records if t == topic]

    def status(self) -> dict[str, Any]:
        return dict(self.sent("group-status")[-1])


def test_a_change_is_answered_and_goes_to_every_partition() -> None:
    group = Group()
    group.apply(NEW)
    assert [r["status"] for r in group.sent("results")] == ["applied"]
    to = [p for topic, p, _, _ in group.effects.records if topic == CONFIGURATION]
    assert to == [0, 1]
    assert group.status()["licenseProcessingState"] == "QueuedForProcessing"


@pytest.mark.parametrize(
    ("versions", "state"),
    [
        ({}, "QueuedForProcessing"),
        ({0: 0, 1: 0}, "QueuedForProcessing"),
        ({0: 1}, "ProcessingInProgress"),
        ({0: 1, 1: 0}, "ProcessingInProgress"),
        ({0: 1, 1: 1}, "ProcessingComplete"),
    ],
)
def test_the_status_follows_from_the_versions_that_partitions_report(
    versions: dict[int, int], state: str
) -> None:
    group = Group()
    group.apply(NEW)
    for partition, version in versions.items():
        group.report(partition, version, members=3, licensed=2)
    status = group.status()
    assert status["licenseProcessingState"] == state
    assert status["members"] == 3 * len(versions)
    finished = [a["activity"] for a in group.sent("audit") if "Finish" in a["activity"]]
    assert len(finished) == (state == "ProcessingComplete")


def test_a_change_of_an_undefined_product_waits_for_its_definition() -> None:
    group = Group()
    group.apply(GroupLicensesChanged("e1", "t", "g", (("new", ()),), ()))
    assert group.status()["deferred"] == ["new"]
    assert group.sent(CONFIGURATION) == []
    group.define("new")
    group.machine.product_defined()
    assert [r["status"] for r in group.sent("results")] == ["deferred", "applied"]
    assert group.status()["deferred"] == []


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (GroupLicensesChanged("e2", "t", "g", (), ()), "NoChange"),
        (GroupLicensesChanged("e2", "t", "g", (("E3", ("no-plan",)),), ()), None),
    ],
)
def test_a_change_that_cannot_be_made_is_rejected_with_a_reason(
    event: GroupLicensesChanged, error: str | None
) -> None:
    group = Group()
    group.apply(event)
    [answer] = group.sent("results")
    assert answer["status"] == "rejected"
    assert error is None or answer["error"] == error
    assert group.sent(CONFIGURATION) == []


def test_a_deleted_group_has_no_licences_and_answers_what_it_deferred() -> None:
    group = Group()
    waiting = GroupLicensesChanged("e2", "t", "g", (("new", ()),), ())
    group.apply(NEW, waiting, GroupDeleted("e3", "t", "g"))
    assert [r["status"] for r in group.sent("results")] == ["applied", "deferred", "rejected"]
    assert (group.status()["deleted"], group.status()["assignedLicenses"]) == (True, [])


def test_a_reprocess_is_answered_when_every_partition_is_done() -> None:
    group = Group()
    group.apply(GroupReprocess("e1", "t", "g"))
    group.report(0, 1)
    assert group.sent("results") == []
    group.report(1, 1)
    assert [(r["causedBy"], r["status"]) for r in group.sent("results")] == [("e1", "applied")]


def test_repetitions_and_other_partitions_groups_change_nothing() -> None:
    group = Group()
    group.apply(NEW, NEW)
    assert (group.machine.duplicates, len(group.sent("results"))) == (1, 1)
    other = Group(1 - OWNER)
    assert other.apply(GroupUpserted("e1", "t", "g", "Sales")) == [7]
    assert not other.effects.records


def test_a_restored_machine_goes_on_where_the_row_left_it() -> None:
    group = Group()
    group.apply(NEW)
    group.report(0, 1)
    restored = Group()
    row = group.effects.rows["group-state", KEY]
    assert row is not None
    restored.machine.load(KEY, row)
    restored.report(1, 1)
    assert restored.status()["licenseProcessingState"] == "ProcessingComplete"
    assert [a["activity"] for a in restored.sent("audit")][-1].startswith("Finish")
