"""Faust's consumer and transport: one message for each batch, no acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.kafka.faust_adapter.consumer_thread import ConsumerThread
from streams.kafka.faust_adapter.protocols import Batch

T = TypeVar("T")


class Consumer(driver.Consumer):
    """Hands batches to the agents; keeps no account of acknowledgements and commits nothing.

    Progress is the applied offsets in each partition's state.
    """

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` in the consumer's thread."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop)
        )

    @property
    def thread(self) -> ConsumerThread:
        """The consumer's thread; its coroutines run through ``call``."""
        thread: ConsumerThread = self._thread
        return thread

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Holds the partitions before Faust stops its flow."""
        await self.app.host.hold()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Tells the worker its partitions first, so that Faust's resuming finds them settled."""
        self.app.host.assigned({tp.partition for tp in assigned}, generation_id)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _drain_messages(self, fetcher: Any) -> None:
        ended = (self._stopped.is_set, fetcher._stopped.is_set)
        try:
            while not any(is_set() for is_set in ended):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                for batch in await self.call(
                    self._thread.poll(*self.app.host.pollable_partitions())
                ):
                    # A rebalance may drop a batch on its way. The next batch of that log then
                    # leaves a gap, and the partition fetches the missing records again.
                    await self.callback(_message(batch, self.app.consumer_generation_id))
        except (ConsumerStoppedError, IllegalStateError) as error:
            if not self.app.should_stop:
                self.app.host.failed(error)
        except Exception as error:
            self.app.host.failed(error)

    async def perform_seek(self) -> None:
        """Does nothing: Faust would seek to the group's offsets; ours are set after a restore."""

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Does nothing: offsets are committed with the state."""
        return False

    force_commit = commit

    def track_message(self, message: Any) -> None:
        """Does nothing: acknowledgements have no meaning here."""

    def ack(self, message: Any) -> bool:
        """Marks the message for Faust; nothing follows from it."""
        message.acked = True
        return True

    async def verify_all_partitions_active(self) -> None:
        """Does nothing: Faust would report idle partitions; the watchdog measures progress."""


def _message(batch: Batch, generation: int) -> ConsumerMessage:
    last = batch.records[-1]
    return ConsumerMessage(
        batch.topic,
        batch.partition,
        last.offset,
        last.timestamp / 1000,
        last.timestamp_type,
        (),
        b"",
        batch,
        None,
        0,
        0,
        TP(batch.topic, batch.partition),
        generation_id=generation,
    )


class Transport(driver.Transport):
    """Faust's aiokafka driver with our consumer."""

    Consumer = Consumer
