"""The life of a partition follows its table, and an illegal action names what went wrong."""

from __future__ import annotations

import itertools

import pytest

from streams.worker.partition_state import (
    OPEN,
    TRANSITIONS,
    Action,
    IllegalTransitionError,
    PartitionLifecycle,
    PartitionState,
)

S, A = PartitionState, Action


def after(*actions: Action) -> PartitionLifecycle:
    lifecycle = PartitionLifecycle(3)
    for action in actions:
        lifecycle.apply(action)
    return lifecycle


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(PartitionState)


@pytest.mark.parametrize(
    ("actions", "state"),
    [
        ((), S.FENCING),
        ((A.FENCED,), S.RESTORING),
        ((A.FENCED, A.RESTORED), S.RUNNING),
        ((A.FENCED, A.RESTORED, A.HOLD), S.DRAINING),
        ((A.FENCED, A.RESTORED, A.HOLD, A.DRAINED), S.PAUSED),
        ((A.FENCED, A.RESTORED, A.HOLD, A.DRAINED, A.RESUME), S.RUNNING),
        ((A.FENCED, A.RESTORED, A.HOLD, A.DRAINED, A.REVOKE), S.CLOSED),
        # The broker did not answer before the rebalance ended.
        ((A.FENCED, A.RESTORED, A.HOLD, A.RESUME), S.RUNNING),
        ((A.FENCED, A.RESTORED, A.HOLD, A.LOSE), S.CLOSED),
        # A rebalance while the partition is being opened.
        ((A.HOLD, A.FENCED, A.RESTORED_IN_REBALANCE, A.RESUME), S.RUNNING),
        ((A.FENCED, A.HOLD, A.RESUME, A.RESTORED), S.RUNNING),
        ((A.LOSE,), S.CLOSED),
    ],
)
def test_a_life(actions: tuple[Action, ...], state: PartitionState) -> None:
    assert after(*actions).state is state


def test_a_rebalance_may_come_and_end_in_every_state_but_the_last() -> None:
    for state in set(PartitionState) - {S.CLOSED}:
        assert {A.HOLD, A.RESUME, A.REVOKE, A.LOSE} <= TRANSITIONS[state].keys()


def test_what_is_not_in_the_table_is_an_error() -> None:
    for state, action in itertools.product(PartitionState, Action):
        lifecycle = PartitionLifecycle(3)
        lifecycle.state = state
        if action not in TRANSITIONS[state]:
            with pytest.raises(IllegalTransitionError, match=f"partition 3 is {state.name}.*"):
                lifecycle.apply(action)
            assert lifecycle.state is state


def test_an_error_names_partition_state_and_action() -> None:
    with pytest.raises(IllegalTransitionError, match="partition 3 is FENCING: cannot be DRAINED"):
        PartitionLifecycle(3).apply(A.DRAINED)


def test_only_a_restored_partition_is_open() -> None:
    assert {state for state in PartitionState if after_state(state).is_open} == OPEN
    assert not after(A.FENCED).is_open
    assert after(A.FENCED, A.LOSE).is_closed


def after_state(state: PartitionState) -> PartitionLifecycle:
    lifecycle = PartitionLifecycle(3)
    lifecycle.state = state
    return lifecycle
