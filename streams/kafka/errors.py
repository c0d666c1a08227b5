"""Classification of exceptions: who acts when a worker meets one."""

from __future__ import annotations

from enum import Enum

from aiokafka import errors as kafka_errors

from engine.state.formats import NewerFormatError
from streams.runtime.errors import Actor, SeatflowError


class Action(Enum):
    """The consequences of an exception.

    Each of them ends the worker; the exit code says whether the supervisor or a person acts next.
    """

    FENCED = "another worker owns the partition: restart and rejoin the group"
    RESTART = "temporary: restart"
    RECONFIGURE = "settings, topics or rights are wrong: an operator acts"
    REPORT = "an unexpected exception: a bug, reported with its traceback"

    @property
    def actor(self) -> Actor:
        """The party that acts."""
        return _ACTORS[self]

    @property
    def exit_code(self) -> int:
        """The exit code from which a supervisor knows the action."""
        return self.actor.exit_code


_ACTORS = {
    Action.FENCED: Actor.NOBODY,
    Action.RESTART: Actor.NOBODY,
    Action.RECONFIGURE: Actor.OPERATOR,
    Action.REPORT: Actor.DEVELOPER,
}
# A record that its sender must correct is a dead letter; in a worker, its error is a bug.
_ACTIONS = {
    Actor.NOBODY: Action.RESTART,
    Actor.OPERATOR: Action.RECONFIGURE,
    Actor.SENDER: Action.REPORT,
    Actor.DEVELOPER: Action.REPORT,
}

# Another worker has taken over this transactional id.
FENCING = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
)
DENIAL = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.ClusterAuthorizationFailedError,
)


def classify(error: BaseException) -> Action:
    """Returns the action for an exception of the Kafka client, the system or our own code."""
    if isinstance(error, FENCING):
        return Action.FENCED
    if isinstance(error, SeatflowError):
        return _ACTIONS[error.actor]
    if isinstance(error, (NewerFormatError, *DENIAL)):
        return Action.RECONFIGURE
    if isinstance(error, kafka_errors.KafkaError | OSError):
        return Action.RESTART
    return Action.REPORT
