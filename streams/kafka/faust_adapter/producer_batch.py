"""aiokafka's producer from inside: filling batches directly, and why a transaction failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class RecordBatch:
    """A batch of a producer, filled without the layer that aiokafka puts around each record.

    ``append(offset, timestamp, key, value, headers)`` with offsets from 0 on returns None if the
    batch is full; the batch must then be sealed.
    """

    __slots__ = ("append", "builder")

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.append: Callable[..., Any] = builder._builder.append

    def seal(self, records: int) -> Any:
        """Returns the batch to send; ``records`` is the number of records appended to it."""
        self.builder._relative_offset = records
        self.builder.close()
        return self.builder


def sender_failure(producer: Any, error: BaseException) -> BaseException:
    """Returns the exception that ended aiokafka's sender, or ``error`` if the sender still runs.

    A producer that is fenced during a call may raise an assertion about its own state instead of
    the fencing.
    """
    task = producer._sender.sender_task
    if task is None or not task.done() or task.cancelled():
        return error
    return task.exception() or error


def transaction_failure(producer: Any) -> BaseException | None:
    """Returns why the whole transaction failed, or None if aiokafka does not know.

    The first batch to fail may be one of another topic, which was refused as a consequence: the
    transaction knows the cause, for instance a topic that this user may not write.
    """
    waiter = producer._txn_manager._transaction_waiter
    if waiter is None or not waiter.done() or waiter.cancelled():
        return None
    cause: BaseException | None = waiter.exception()
    return cause
