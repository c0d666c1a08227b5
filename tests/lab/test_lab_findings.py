"""Regression tests: each finding of the fault laboratory in its smallest form."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from engine.domain.events import Delivered, MembershipAdded, MembershipRemoved, UserDeleted
from engine.state.message_codecs import decode_seat_request
from engine.state.seat_budget import SeatBudget
from streams.kafka.faust_adapter import ConsumerThread
from streams.worker.commit_loop import CommitLoop
from streams.worker.partition_task import PartitionTask
from tests.checkers import History, Record
from tests.checkers.intent import intent_of
from tests.engine.machines.test_user_machine import Tenant


def hear(seats: SeatBudget, seq: int, **figures: Any) -> None:
    """A request of partition 0, which has heard of all that was granted to it."""
    part = seats.partition_leases.get(0)
    nothing = {"returned": 0, "used": 0, "waiting": 0, "want": 0, "asked": 0, "heads": []}
    known = {"seq": seq, "recall": 0, "granted": part.granted if part else 0, "partition": 0}
    names = {"tenant": "contoso", "skuId": "sku", "at": 0, "causedBy": "e"}
    seats.apply_request(0, decode_seat_request({**nothing, **known, **names, **figures}))
    seats.settle(2)


def leased() -> SeatBudget:
    """Of 20 units partition 0 uses 3, and may use more without asking; then only 2 are bought."""
    seats = SeatBudget("contoso", "sku")
    seats.units = (20, 0, 0, 0)
    seats.settle(2)
    hear(seats, 1, want=3, asked=1, heads=[[1, "a"], [2, "b"], [3, "c"]])
    hear(seats, 2, used=3)
    assert seats.partition_leases[0].leased > 3
    seats.units = (2, 0, 0, 0)
    seats.settle(2)
    return seats


def test_fewer_units_are_shown_only_when_no_partition_can_use_more() -> None:
    """Contract 4.2, R15: consumed units never grow beyond the units published beside them."""
    seats = leased()
    assert seats.published_units == (20, 0, 0, 0)
    hear(seats, 3, used=4)  # it did not know yet
    assert seats.published_units == (20, 0, 0, 0)
    rest = seats.partition_leases[0].leased - 4
    hear(seats, 4, used=4, returned=rest, recall=seats.recall)
    assert seats.published_units == seats.units == (2, 0, 0, 0)


def test_a_cut_that_is_taken_back_or_restored_is_shown_right() -> None:
    seats = leased()
    again = SeatBudget.load("contoso/sku", seats.row())
    assert (again.published_units, again.reduction_pending, again.awaiting_recall_from) == (
        (20, 0, 0, 0),
        True,
        {0},
    )
    again.units = (15, 0, 0, 0)
    again.settle(2)
    assert again.published_units == (15, 0, 0, 0)


def test_a_holder_that_used_all_it_has_must_know_of_the_cut_too() -> None:
    """It could free a unit and use it again, before it hears that units are scarce."""
    seats = SeatBudget("contoso", "sku")
    seats.units = (3, 0, 0, 0)
    seats.settle(1)
    hear(seats, 1, want=3, asked=1, heads=[[1, "a"], [2, "b"], [3, "c"]])
    hear(seats, 2, used=3)
    seats.units = (1, 0, 0, 0)
    seats.settle(1)
    assert seats.published_units == (3, 0, 0, 0)
    hear(seats, 3, used=3, recall=seats.recall)
    assert seats.published_units == (1, 0, 0, 0)


class OneCommit:
    """Stands for aiokafka's consumer; a commit takes as long as the test lets it."""

    def __init__(self, tp: TopicPartition) -> None:
        self.tp, self.commits, self.answer = tp, 0, asyncio.Event()

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset({self.tp})

    async def position(self, tp: TopicPartition) -> int:
        return 7

    async def commit(self, offsets: Any) -> None:
        self.commits += 1
        await self.answer.wait()


@pytest.fixture
def tp() -> TopicPartition:
    return TopicPartition("topic", 0)


async def test_no_offsets_are_noted_in_a_rebalance(
    tp: TopicPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit behind the request to join makes aiokafka join again, for ever."""
    consumer = OneCommit(tp)
    thread: Any = object.__new__(ConsumerThread)
    thread.delivered_up_to, thread._committed = {tp: 7}, {}
    thread._rebalancing, thread._committing = False, asyncio.Lock()
    thread._commit_all_at = 0.0
    thread._ensure_consumer = lambda: consumer
    base = ConsumerThread.__mro__[1]

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(base, "on_partitions_revoked", nothing)
    noting = asyncio.create_task(thread.commit_offsets({tp: 7}))
    await asyncio.sleep(0)
    revoking = asyncio.create_task(thread.on_partitions_revoked(set()))
    await asyncio.sleep(0.01)
    assert not revoking.done()  # joining waits for what is on its way
    consumer.answer.set()
    await asyncio.gather(noting, revoking)
    thread._committed.clear()
    await thread.commit_offsets({tp: 7})
    assert consumer.commits == 1


NO_METRICS: Any = None


def partition(more: bool, unreported: bool) -> PartitionTask:
    found: Any = object.__new__(PartitionTask)
    found.number = 3
    found._settings = SimpleNamespace(topic_prefix="licensing.")
    found.machine = SimpleNamespace(has_unreported_changes=unreported, is_backpressured=False)
    found._commits = CommitLoop(3, found._settings, NO_METRICS, NO_METRICS, NO_METRICS)
    found._commits.committed = {"internal.configuration": 8, "user-changes": 40}
    found._processor = SimpleNamespace(has_background_work=more)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(("more", "unreported"), [(True, False), (False, True), (False, False)])
def test_no_lag_means_that_no_fan_out_and_no_report_is_owed(more: bool, unreported: bool) -> None:
    """Contract 4.1: when the lag is zero, what is published follows from the rules."""
    undone = 1 if more or unreported else 0
    assert partition(more, unreported).committable_offsets() == {
        TopicPartition("licensing.internal.configuration", 3): 8 - undone,
        TopicPartition("licensing.user-changes", 3): 40,
    }


def grant(sku: str, news: int, granted: int, **more: Any) -> Delivered:
    nothing = {"answered": 0, "denied": 0, "recall": 0, "room": 0, "purchased": 1, "consumed": 1}
    body = {"tenant": "contoso", "skuId": sku, "granted": granted, "news": news, "scarce": True}
    return Delivered({**nothing, **body, "at": 5_000, "causedBy": "e", **more}, 5_000, news)


def test_a_seat_set_free_by_one_grant_is_not_given_away_by_the_next() -> None:
    """R8, R15: in scarce times the product machine gives it, or nobody does.

    Ann moves from `base` to `extra` and gets her seat there; the next message of the same batch is
    for Bob, who has asked for `base`: what Ann leaves is not his.
    """
    tenant = Tenant(partitions=1)
    tenant.seats("base", 1)
    tenant.seats("extra", 0)
    tenant.license("g", "base")
    tenant.license("h", "extra")
    for user in ("ann", "bob"):
        tenant.upsert(user)
    tenant.settle()
    tenant.join("ann", "g")
    tenant.settle()
    machine = tenant.cluster.machines[0]
    state = machine.configuration.tenant("contoso")
    base, extra = state.lease("base"), state.lease("extra")
    base.contended = extra.contended = True
    left = MembershipRemoved("m1", "contoso", "ann", "g")
    machine.handle(
        "user-changes",
        [
            Delivered(MembershipAdded("m2", "contoso", "ann", "h"), 4_000, 100),
            Delivered(left, 4_001, 101),
            Delivered(MembershipAdded("m3", "contoso", "bob", "g"), 4_002, 102),
        ],
    )
    assert (base.used, base.idle, len(base.open_requests), len(extra.open_requests)) == (1, 0, 1, 1)
    machine.handle(
        "internal.seat-grants",
        [
            grant("extra", extra.grant_seq + 1, extra.granted + 1, answered=extra.request_seq),
            grant("base", base.grant_seq + 1, base.granted),
        ],
    )
    assert (extra.used, base.used, base.reserved, base.returned) == (1, 0, 0, 1)


def test_a_late_answer_to_a_reprocess_does_not_put_a_deferred_change_before_others() -> None:
    """Of the checkers: the answers to changes, in their order, tell when a deferred one came."""

    def change(id: str, *skus: str, off: tuple[str, ...] = ()) -> dict[str, Any]:
        added = [{"skuId": sku, "disabledPlans": list(off)} for sku in skus]
        body = {"type": "licenses.changed", "id": id, "tenant": "t", "group": "g"}
        return {**body, "addLicenses": added}

    def answer(id: str, status: str) -> dict[str, Any]:
        return {"causedBy": id, "tenant": "t", "group": "g", "status": status}

    def define(sku: str) -> tuple[str, str, dict[str, Any]]:
        plans = [{"servicePlanId": f"{sku}-plan"}]
        body = {"type": "product.defined", "id": sku, "skuId": sku, "servicePlans": plans}
        return "catalog", sku, body

    reprocess = {"type": "group.reprocess", "id": "e2", "tenant": "t", "group": "g"}
    log = [
        define("suite"),
        ("group-changes", "t/g", change("e1", "late", "suite")),
        ("results", "t/g", answer("e1", "deferred")),
        ("group-changes", "t/g", reprocess),
        ("group-changes", "t/g", change("e3", "suite", off=("suite-plan",))),
        ("results", "t/g", answer("e3", "applied")),
        define("late"),
        ("results", "t/g", answer("e1", "applied")),
        ("results", "t/g", answer("e2", "applied")),
    ]
    history = History(Record(topic, 0, n, key, value) for n, (topic, key, value) in enumerate(log))
    assert intent_of(history).groups["t/g"].licenses["suite"] == frozenset()


@pytest.mark.parametrize("gone", [False, True])
def test_a_direct_change_that_asks_for_a_seat_keeps_its_place(gone: bool) -> None:
    """R23: the events that follow it wait, so its outcome does not depend on seats at hand."""
    tenant = Tenant(partitions=1)
    tenant.seats("base", 5)
    tenant.upsert("ann")
    tenant.settle()
    tenant.assign("ann", "base")
    if gone:
        tenant.user(UserDeleted("gone", "contoso", "ann"))
    else:
        tenant.upsert("ann", usage_location=None)  # would be InvalidUsageLocation
    tenant.settle()
    (result,) = tenant.published("results", "contoso/ann")
    assert result["status"] == "applied"
    used = tenant.published("product-seats", "contoso/base")[-1]["consumedUnits"]
    assert used == (0 if gone else 1)
