"""The last defence: the records of a failed slice are applied one by one, to find the culprit.

A slice that raises an exception of ours leaves a machine that nobody may use. The partition is
opened again, from the last committed transaction, and its records are applied alone, each with the
reports and the fan-out that follow from it. The one that fails again becomes a dead letter; the
partition is opened once more, and goes on without it. A failure without a culprit, and one of the
environment, ends the worker as before.

A slice that stalls, or takes all memory, ends the process. Each opening of a partition notes in the
changelog where it goes on (``partition_opening.py``). One that finds that the last opening went on
from the same place, and has not applied anything since, tries the next records in a child process
before it applies them (``trial.py``). That a worker was killed there for another reason does no
harm: the trial then finds no culprit.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from streams.contract.decoder import Rejected
from streams.kafka.errors import Action, classify
from streams.runtime import log_events
from streams.runtime.errors import log
from streams.worker.partition_state import IllegalTransitionError
from streams.worker.trial import MEMORY_BYTES, End

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
"""The broker refuses a record of a transaction: an effect that has grown without a bound."""
ENVIRONMENT = (MemoryError, IllegalTransitionError)
FAILED = (
    "processor_failed: {}: it failed when it was applied, and alone again; an error of Seatflow"
)
TRIED = (
    "processor_failed: {}; tried alone after two workers had ended at this place; an error of"
    " Seatflow"
)
CAUSES = {
    End.STALLED: "its processing does not end in the time that a worker may take",
    End.MEMORY: f"its processing needs more than {MEMORY_BYTES >> 20} MiB of memory",
    End.KILLED: "its processing ended the process, twice",
}

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
    transaction, since the failure was that of a commit. ``needs_trial``: a child process tries the
    records first, since a worker has ended here.
    """

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.current: Place | None = None
        self.commit_each = False
        self.needs_trial = False
        self._until: dict[str, int] = {}  # topic -> offset after its last suspect
        self._culprits: dict[Place, str] = {}  # with the reason
        self._killed_at: Place | None = None  # where the last trial was ended by a signal

    def suspect(self, backlog: Mapping[str, int]) -> None:
        """Notes that the last owner ended at this place; ``backlog``: topic -> end of its log."""
        self._until |= backlog
        self.needs_trial = True
        log.warning(log_events.PARTITION_SUSPECTED, partition=self._partition)

    def is_decided(self, end: End, place: Place) -> bool:
        """Takes the end of a trial at the record of ``place``; False if it is to be tried again."""
        if end is End.ABANDONED:
            return False
        if end is End.KILLED and self._killed_at != place:
            self._killed_at = place
            return False
        if cause := CAUSES.get(end):
            self._convict(place, TRIED.format(cause), end.name.lower())
        return True

    def _convict(self, place: Place, reason: str, error: str) -> None:
        self._culprits[place] = reason
        topic, offset = place
        log.error(
            log_events.PROCESSOR_SKIPPED,
            partition=self._partition,
            topic=topic,
            offset=offset,
            error=error,
        )

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
            self._convict(culprit, FAILED.format(name), name)

    def is_active(self, applied: Mapping[str, int]) -> bool:
        """Returns True while a suspect is not applied; forgets everything when none is left."""
        if not self._until:
            return False
        if any(applied.get(topic, 0) < end for topic, end in self._until.items()):
            return True
        self._until.clear()
        self._culprits.clear()
        self.commit_each = self.needs_trial = False
        return False

    def verdict(self, topic: str, offset: int) -> Rejected | None:
        """Returns the reason for the dead letter of a culprit; None for any other record."""
        reason = self._culprits.get((topic, offset))
        return Rejected(reason, "processor_failed") if reason else None
