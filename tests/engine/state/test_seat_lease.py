"""The partition's side of a lease: reservations, the waiting line, grants and returns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.state.message_codecs import SeatGrantMessage
from engine.state.seat_lease import Lease

GRANT = SeatGrantMessage("t", "E3", 10, 0, 0, 1, False, 0, 0, 10, 0, 0, "e")


def leased(**changes: Any) -> Lease:
    lease = Lease("t", "E3")
    assert lease.apply_grant(GRANT._replace(**changes))
    return lease


@pytest.mark.parametrize(
    ("grant", "used", "expected"),
    [
        ({}, 9, True),
        ({}, 10, False),
        ({"contended": True}, 0, False),
        ({"granted": 0}, 0, False),
    ],
)
def test_only_idle_units_that_are_not_contended_are_reserved(
    grant: dict[str, Any], used: int, expected: bool
) -> None:
    lease = leased(**grant)
    lease.used = used
    assert lease.try_reserve() is expected
    assert lease.reserved == int(expected)


def test_the_unit_of_an_adopted_user_is_returned_when_it_is_freed() -> None:
    """Only the owner knows if it is one more than was bought (R15, R25)."""
    lease = leased(granted=1)
    lease.used = 1
    lease.adopt()
    lease.used += 1
    lease.release()
    assert (lease.used, lease.idle, lease.returned) == (1, 0, 1)
    lease.release()
    assert (lease.used, lease.idle, lease.returned) == (0, 1, 1)


@pytest.mark.parametrize(
    ("grant", "used", "adopted"),
    [({}, 9, 0), ({}, 10, 1), ({"contended": True}, 0, 1), ({"granted": 0}, 0, 1)],
)
def test_an_adopted_user_takes_an_idle_unit_or_brings_one(
    grant: dict[str, Any], used: int, adopted: int
) -> None:
    lease = leased(**grant)
    lease.used = used
    idle = lease.idle
    lease.report_due = False
    lease.adopt()
    lease.used += 1
    assert (lease.adopted, lease.idle) == (adopted, idle - 1 + adopted)
    assert lease.report_due is bool(adopted)
    again = Lease("t", "s")
    again.load(json.loads(json.dumps(lease.row())))
    assert again.adopted == adopted
    assert lease.next_request(True).adopted == adopted


def test_a_grant_that_came_late_or_again_makes_no_unit() -> None:
    lease = leased(granted=10, grant_seq=5, recall=2)
    assert not lease.apply_grant(GRANT._replace(granted=10, grant_seq=5))
    assert not lease.apply_grant(GRANT._replace(granted=7, grant_seq=4, contended=True))
    assert (lease.granted, lease.contended, lease.idle) == (10, False, 10)
    assert not lease.apply_grant(
        GRANT._replace(granted=12, grant_seq=3)
    )  # units are never lost either
    assert lease.granted == 12


def test_a_new_recall_is_answered_and_an_old_one_is_not() -> None:
    lease = leased(recall=2)
    assert lease.report_due
    lease.report_due = False
    assert lease.apply_grant(GRANT._replace(grant_seq=2, recall=2))
    assert not lease.report_due


@pytest.mark.parametrize(
    ("contended", "keep", "returned"), [(False, 0, 0), (True, 0, 6), (True, 6, 0), (True, 1, 5)]
)
def test_idle_units_are_returned_only_when_contended(
    contended: bool, keep: int, returned: int
) -> None:
    lease = leased(contended=contended)
    lease.used, lease.reserved = 3, 1
    lease.return_idle(keep)
    assert lease.returned == returned
    assert lease.granted >= lease.returned + lease.used + lease.reserved


def test_the_line_is_in_the_order_of_r8_and_knows_each_user_once() -> None:
    lease = leased()
    for since, user in [(5, "b"), (3, "z"), (5, "a"), (3, "z")]:
        lease.enqueue(since, user)
    assert lease.waitlist == [(3, "z"), (5, "a"), (5, "b")]
    lease.dequeue(5, "a")
    lease.dequeue(5, "nobody")
    assert lease.waitlist == [(3, "z"), (5, "b")]


def test_a_request_behind_an_older_user_is_refused_without_asking() -> None:
    lease = leased(contended=True, free_units=0)
    assert not lease.can_refuse_locally(4, "x")  # nobody waits here
    lease.enqueue(3, "z")
    assert lease.can_refuse_locally(4, "x")
    assert not lease.can_refuse_locally(2, "x")
    lease.free_units = 1
    assert not lease.can_refuse_locally(4, "x")


def test_the_longest_waiting_are_named_and_manual_retry_leaves_the_line_out() -> None:
    lease = leased()
    lease.open_request(4, "flying")
    for since, user in [(3, "old"), (5, "young")]:
        lease.enqueue(since, user)
    assert lease.longest_waiting(True, 2) == [(3, "old"), (4, "flying")]
    assert lease.longest_waiting(False, 2) == [(4, "flying")]
    assert (lease.demand(True), lease.demand(False)) == (3, 1)
    lease.withdraw_request(4, "flying")
    lease.withdraw_request(4, "nobody")
    assert lease.longest_waiting(False, 2) == []


@pytest.mark.parametrize(
    ("grant", "used", "expected"),
    [
        ({"free_units": 5}, 6, True),
        ({"free_units": 5}, 5, False),  # half of it is left
        ({"free_units": 0}, 6, False),
        ({"free_units": 5, "contended": True}, 6, False),
        ({"free_units": 5, "granted": 7}, 6, False),  # a grant below the limit
    ],
)
def test_more_is_asked_for_before_it_is_needed_once_for_each_grant(
    grant: dict[str, Any], used: int, expected: bool
) -> None:
    lease = leased(**grant)
    lease.used = used
    assert lease.needs_prefetch(min_units=8) is expected
    if expected:
        lease.next_request(automatic=True, prefetch=True)
        assert not lease.needs_prefetch(min_units=8)


def test_a_lease_that_is_used_beyond_its_units_is_not_reported() -> None:
    lease = leased()
    lease.used = 11
    with pytest.raises(AssertionError, match="-1 idle units of E3"):
        lease.next_request(automatic=True)
