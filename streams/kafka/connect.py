"""Connecting clients: with retries while a broker is away for a moment, closing without waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from streams.kafka.closing import close_with_timeout
from streams.runtime.deadline import Deadline

RETRY_INTERVAL_SECONDS = 0.5


def closing(client: Any) -> Any:
    """Returns the coroutine that closes a client of aiokafka, whatever it calls that."""
    return client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop()


async def start_with_retry(
    make: Callable[[], Any],
    timeout_seconds: float,
    retry_on: type[KafkaError] = KafkaConnectionError,
    on_retry: Callable[[], None] | None = None,
) -> Any:
    """Makes a client and starts it; makes another one as long as no broker answers.

    Args:
        make: creates a client; one that failed to start is closed and not used again.
        timeout_seconds: after this time the last exception is raised.
        retry_on: the exceptions to retry; others are raised immediately.
        on_retry: called after each failure that is retried.
    """
    deadline = Deadline(timeout_seconds)
    while True:
        client = make()
        try:
            await client.start()
            return client
        except BaseException as error:
            await close_with_timeout(closing(client))
            if not isinstance(error, retry_on) or deadline.has_passed:
                raise
        if on_retry:
            on_retry()
        await asyncio.sleep(RETRY_INTERVAL_SECONDS)
