"""The last defence: the records of a failed slice are applied one by one, to find the culprit.

A slice that raises an exception of ours leaves a machine that nobody may use. The partition is
opened again, from the last committed transaction, and its records are applied alone, each with the
reports and the fan-out that follow from it. The one that fails again becomes a dead letter; the
partition is opened once more, and goes on without it. A failure without a culprit, and one of the
environment, ends the worker as before.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from streams.contract.decoder import Rejected
from streams.kafka.errors import Action, classify
from streams.runtime import log_events
from streams.runtime.errors import log
from streams.worker.partition_state import IllegalTransitionError

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
"""The broker refuses a record of a transaction: an effect that has grown without a bound."""
ENVIRONMENT = (MemoryError, IllegalTransitionError)
FAILED = (
    "processor_failed: {}: it failed when it was applied, and alone again; an error of Seatflow"
)

Place = tuple[str, int]
"""A topic (short name) and the offset of a record."""


def is_ours(error: BaseException) -> bool:
    """Returns True if a record may be the cause of the failure: a bug, not the environment."""
    if isinstance(error, TOO_LARGE):
        return True
    ours = isinstance(error, Exception) and not isinstance(error, ENVIRONMENT)
    return ours and classify(error) is Action.REPORT


class Replay:
    """The suspects of a partition: the records of failed slices, and the culprits among them.

    ``current``: the record that is being applied alone. ``commit_each``: every record has its own
    transaction, since the failure was that of a commit.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.current: Place | None = None
        self.commit_each = False
        self._until: dict[str, int] = {}  # topic -> offset after its last suspect
        self._culprits: dict[Place, str] = {}

    def note_failure(
        self, error: Exception, taken: Mapping[str, int], committed: Mapping[str, int]
    ) -> None:
        """Notes that the machine or a commit failed, and logs it.

        Args:
            error: the exception, one for which :func:`is_ours` returns True.
            taken: topic -> offset after the last record that was given to the machine.
            committed: topic -> offset after the last record whose effects are committed.

        Raises:
            Exception: the error itself, if no record can be its cause.
        """
        culprit, replaying = self.current, bool(self._until)
        too_large = isinstance(error, TOO_LARGE)
        if culprit is None and replaying and (self.commit_each or not too_large):
            raise error  # it failed without a record
        suspects = 0
        for topic, end in taken.items():
            if (count := end - committed.get(topic, 0)) > 0:
                suspects += count
                self._until[topic] = max(end, self._until.get(topic, 0))
        if not self._until:
            raise error
        self.current, self.commit_each = None, self.commit_each or too_large
        partition, name = self._partition, type(error).__name__
        if culprit is None:
            log.error(
                log_events.PROCESSOR_FAILED,
                partition=partition,
                records=suspects,
                error=name,
                exc_info=error,
            )
        else:
            self._culprits[culprit] = name
            topic, offset = culprit
            log.error(
                log_events.PROCESSOR_SKIPPED,
                partition=partition,
                topic=topic,
                offset=offset,
                error=name,
            )

    def is_active(self, applied: Mapping[str, int]) -> bool:
        """Returns True while a suspect is not applied; forgets everything when none is left."""
        if not self._until:
            return False
        if any(applied.get(topic, 0) < end for topic, end in self._until.items()):
            return True
        self._until.clear()
        self._culprits.clear()
        self.commit_each = False
        return False

    def verdict(self, topic: str, offset: int) -> Rejected | None:
        """Returns the reason for the dead letter of a culprit; None for any other record."""
        name = self._culprits.get((topic, offset))
        return Rejected(FAILED.format(name), "processor_failed") if name else None
