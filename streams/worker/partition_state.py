"""The states of a partition in a worker, and the transitions between them.

A partition is opened in two steps. FENCING: its transactional producer starts, which aborts the
open transaction of the previous owner and refuses everything that owner still writes. RESTORING:
only then is its changelog read. RUNNING: records are applied and committed.

A rebalance of the group stops every partition before anybody is assigned anything: DRAINING commits
what is computed, PAUSED has nothing under way. The assignment then resumes the partitions that stay
and closes the others: *revoked* ones in order, their last transaction included, and *lost* ones,
which another worker may own already, without committing anything. A partition that is still being
opened when a rebalance begins goes on opening, and enters PAUSED instead of RUNNING at its end.

A slice of records that fails with a bug leaves nothing to go on with: the partition is opened
again, as a new owner would open it, and replays its records one by one (``replay.py``).

Every method of the lifecycle passes through this table, so that a call in a wrong state is an error
that names the partition, its state and the action. ``docs/architecture.md`` shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class PartitionState(Enum):
    """The states in the life of a partition."""

    FENCING = auto()
    RESTORING = auto()
    RUNNING = auto()
    DRAINING = auto()
    PAUSED = auto()
    CLOSED = auto()


class Action(Enum):
    """The triggers of a transition; the values are for people."""

    FENCED = "fenced"
    RESTORED = "restored"
    RESTORED_IN_REBALANCE = "restored during a rebalance"
    HOLD = "a rebalance begins"
    DRAINED = "everything is committed"
    RESUME = "still assigned"
    REVOKE = "revoked"
    LOSE = "lost"
    FAILED = "a slice failed: open again"


S, A = PartitionState, Action
TRANSITIONS: Final[Mapping[PartitionState, Mapping[Action, PartitionState]]] = {
    S.FENCING: {
        A.FENCED: S.RESTORING,
        A.HOLD: S.FENCING,
        A.RESUME: S.FENCING,
        A.REVOKE: S.CLOSED,
        A.LOSE: S.CLOSED,
    },
    S.RESTORING: {
        A.RESTORED: S.RUNNING,
        A.RESTORED_IN_REBALANCE: S.PAUSED,
        A.HOLD: S.RESTORING,
        A.RESUME: S.RESTORING,
        A.REVOKE: S.CLOSED,
        A.LOSE: S.CLOSED,
    },
    S.RUNNING: {
        A.HOLD: S.DRAINING,
        A.RESUME: S.RUNNING,  # an assignment without a rebalance before it
        A.FAILED: S.FENCING,
        A.REVOKE: S.CLOSED,
        A.LOSE: S.CLOSED,
    },
    S.DRAINING: {
        A.DRAINED: S.PAUSED,
        A.HOLD: S.DRAINING,  # another rebalance, while the broker does not answer
        A.RESUME: S.RUNNING,
        A.REVOKE: S.CLOSED,
        A.LOSE: S.CLOSED,
    },
    S.PAUSED: {
        A.HOLD: S.PAUSED,
        A.RESUME: S.RUNNING,
        A.REVOKE: S.CLOSED,
        A.LOSE: S.CLOSED,
    },
    S.CLOSED: {},
}

OPEN: Final = frozenset({S.RUNNING, S.DRAINING, S.PAUSED})
"""The states in which the partition's state is restored: records may be queued."""


class IllegalTransitionError(AssertionError):
    """An action that the partition's state does not allow: a bug."""


class PartitionLifecycle:
    """The state of one partition; :meth:`apply` is the only way to change it."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.state = PartitionState.FENCING

    def apply(self, action: Action) -> PartitionState:
        """Changes the state by the table, and returns the new one.

        Raises:
            IllegalTransitionError: if the state does not allow the action.
        """
        target = TRANSITIONS[self.state].get(action)
        if target is None:
            raise IllegalTransitionError(
                f"partition {self._partition} is {self.state.name}: cannot be {action.name}"
            )
        self.state = target
        return target

    @property
    def is_open(self) -> bool:
        """True if the state is restored and the partition is not closed."""
        return self.state in OPEN

    @property
    def is_closed(self) -> bool:
        """True if the partition was revoked or lost."""
        return self.state is PartitionState.CLOSED


def transitions() -> list[tuple[PartitionState, str, PartitionState]]:
    """Returns the table as rows of source state, trigger and target, without the rows that stay."""
    return [
        (source, action.value, target)
        for source, targets in TRANSITIONS.items()
        for action, target in targets.items()
        if source is not target
    ]
