"""The seat budget: grants, prefetching, recalls and denials (R8, R15; contract, section 4)."""

from __future__ import annotations

from typing import Any

import pytest

from engine.state.message_codecs import SeatRequestMessage
from engine.state.seat_budget import SeatBudget, seat_capacity

NOTHING = SeatRequestMessage("t", "E3", 0, 0, 0, 0, 0, 0, 0, 0, [], 0, False, 0, "e")


def budget_of(units: int) -> SeatBudget:
    budget = SeatBudget("t", "E3")
    budget.units = (units, 0, 0, 0)
    return budget


def request(budget: SeatBudget, partition: int, seq: int, **numbers: Any) -> None:
    """A request of a partition that knows all its grants; asks for seats if it has a demand."""
    lease = budget.partition_leases.get(partition)
    known = {"granted": lease.granted if lease else 0, "returned": lease.returned if lease else 0}
    asked = {"requested_seq": seq if numbers.get("demand") else 0}
    message = NOTHING._replace(partition=partition, request_seq=seq, **(known | asked | numbers))
    budget.apply_request(partition, message)


def granted(budget: SeatBudget) -> dict[int, int]:
    return {p: lease.granted for p, lease in sorted(budget.partition_leases.items())}


@pytest.mark.parametrize(
    ("units", "seats"),
    [(None, 0), ((5, 0, 0, 0), 5), ((5, 2, 0, 0), 7), ((0, 0, 9, 9), 0)],
)
def test_enabled_and_warning_units_give_seats(
    units: tuple[int, int, int, int] | None, seats: int
) -> None:
    assert seat_capacity(units) == seats


@pytest.mark.parametrize(
    ("units", "min_units", "grants"),
    [
        (100, 16, {0: 40, 1: 35}),  # demand and a share; the other partition gets a share, too
        (100, 50, {0: 40}),  # the share is not worth a message of its own
        (3, 16, {0: 3}),
        (5, 16, {0: 5}),
    ],
)
def test_plenty_is_granted_with_a_share_on_top(
    units: int, min_units: int, grants: dict[int, int]
) -> None:
    budget = budget_of(units)
    demand = min(units, 5)
    request(budget, 0, 1, demand=demand)
    budget.settle(2, min_units)
    assert granted(budget) == grants
    assert budget.partition_leases[0].answered_seq == 1
    assert all(lease.grant_due for lease in budget.partition_leases.values())


@pytest.mark.parametrize(
    ("units", "waiting", "grants"),
    [
        (1, {0: [(5, "a")], 1: [(4, "b")]}, {0: 0, 1: 1}),
        (1, {0: [(5, "a")], 1: [(5, "b")]}, {0: 1, 1: 0}),  # the user id decides
        (2, {0: [(1, "a"), (4, "c")], 1: [(3, "b")]}, {0: 1, 1: 1}),
        (2, {0: [(1, "a")], 1: [(3, "b")]}, {0: 1, 1: 0}),  # of 0 a second may be older than b
    ],
)
def test_scarce_units_go_to_the_longest_waiting_of_all_partitions(
    units: int, waiting: dict[int, list[tuple[int, str]]], grants: dict[int, int]
) -> None:
    budget = budget_of(units)
    for p, users in waiting.items():
        request(budget, p, 1, demand=2, longest_waiting=users)
    budget.settle(2)
    assert granted(budget) == grants
    assert budget.contended


def test_units_are_denied_only_after_every_recalled_partition_has_answered() -> None:
    budget = budget_of(4)
    request(budget, 0, 1, demand=4)
    budget.settle(2)
    request(budget, 0, 2, used=3)  # one unit is idle there
    request(budget, 1, 1, demand=2, longest_waiting=[(1, "a"), (2, "b")])
    budget.settle(2)
    other = budget.partition_leases[1]
    assert (budget.awaiting_recall_from, other.granted, other.denied_seq) == ({0}, 0, 0)
    assert budget.next_grant(0).recall == budget.recall == 1
    request(budget, 0, 3, used=3, returned=1, recall=1)
    budget.settle(2)
    assert (budget.awaiting_recall_from, other.granted, other.demand) == ({1}, 1, 1)
    assert other.denied_seq == 0  # its new unit is not in use yet: it is recalled first
    request(budget, 1, 2, used=1, demand=1, longest_waiting=[(2, "b")], recall=budget.recall)
    budget.settle(2)
    assert other.denied_seq == 2
    assert other.granted == 1


def test_an_older_request_changes_nothing_but_what_was_returned() -> None:
    budget = budget_of(9)
    request(budget, 0, 1, demand=5)
    budget.settle(1)
    request(budget, 0, 3, used=5)
    lease = budget.partition_leases[0]
    before = lease.to_row()
    request(budget, 0, 2, used=1, waiting=7, demand=4)
    assert lease.to_row() == before
    request(budget, 0, 2, returned=1)
    assert (lease.returned, lease.used) == (1, 5)


def test_units_on_their_way_are_not_granted_again() -> None:
    budget = budget_of(9)
    budget.settle(1)
    request(budget, 0, 1, demand=3, longest_waiting=[(1, "a"), (2, "b"), (3, "c")])
    budget.settle(1, prefetch_min_units=100)
    had = budget.partition_leases[0].granted
    request(budget, 0, 2, granted=had - 1, demand=2, longest_waiting=[(4, "d"), (5, "e")])
    lease = budget.partition_leases[0]
    assert (lease.demand, lease.longest_waiting) == (1, [(5, "e")])


def test_a_row_restores_the_budget() -> None:
    budget = budget_of(1)
    request(budget, 0, 1, demand=1, longest_waiting=[(1, "a")])
    request(budget, 1, 1, demand=1, longest_waiting=[(2, "b")])
    budget.settle(2)
    row = budget.row()
    assert SeatBudget.load("t/E3", row).row() == row
