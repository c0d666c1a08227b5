"""Tells whether a broker answers: for readiness, metrics, and the banner of the console.

Clients of aiokafka retry in silence while the broker is away, so that an idle worker would look
well for ever. The watch asks with a client of its own, in a thread of its own: a busy event loop
neither delays it nor makes a broker look away.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from datetime import UTC, datetime
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from streams.contract.topics import INPUT_NAMES
from streams.kafka.closing import close_with_timeout
from streams.runtime.errors import log
from streams.runtime.log_events import BROKER_AWAY, BROKER_BACK
from streams.runtime.settings import Settings, client_options

ATTEMPT_SECONDS = 4.0
INTERVAL_SECONDS = 2.0
RETRY_SECONDS = 0.5
FAILED_ATTEMPTS = 2
"""Failures in a row from which on the broker counts as away: 11 s after its last answer at most."""


class BrokerWatch(threading.Thread):
    """Asks the broker for the metadata of one topic every two seconds.

    Each failed attempt closes the client: the next one starts at the bootstrap addresses, so that
    a cluster counts as away only when none of these answers.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="broker-watch", daemon=True)
        self._settings = settings
        self._topic = settings.topic_prefix + INPUT_NAMES[0]
        self._admin: AIOKafkaAdminClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._stopping = False
        self._answered_at = time.monotonic()
        self._answered_clock = datetime.now(UTC)

    @property
    def is_away(self) -> bool:
        """True if the last attempts failed."""
        return self._failures >= FAILED_ATTEMPTS

    @property
    def silent_seconds(self) -> float:
        """The seconds since the broker's last answer; 0 while it answers."""
        return time.monotonic() - self._answered_at if self.is_away else 0.0

    def problem(self) -> str | None:
        """Returns a sentence while the broker is away, otherwise None.

        It names a time and no duration, so that a page with it does not change each second.
        """
        if not self.is_away:
            return None
        return (
            f"no broker has answered at {self._settings.brokers} since"
            f" {self._answered_clock:%H:%M:%S} UTC: is it running, and is SEATFLOW_BROKERS right?"
        )

    def run(self) -> None:
        """Watches until ``stop``; runs in the thread."""
        asyncio.run(self._until_stopped())

    def stop(self) -> None:
        """Ends the thread; may be called at any time, also if it never started."""
        self._stopping = True
        if self.is_alive():
            if self._task is not None:
                with contextlib.suppress(RuntimeError):  # its loop has just closed
                    self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            self.join(timeout=5)

    async def _until_stopped(self) -> None:
        self._task = asyncio.create_task(self._watch())
        await asyncio.wait({self._task})
        await self._forget_client()

    async def _watch(self) -> None:
        while not self._stopping:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await self._ask()
            except Exception as error:  # of the client, the network, TLS or a certificate's file
                self._failed(error)
                await self._forget_client()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._answered()
                await asyncio.sleep(INTERVAL_SECONDS)

    async def _ask(self) -> None:
        if self._admin is None:
            timeout_ms = int(ATTEMPT_SECONDS * 1000)
            self._admin = AIOKafkaAdminClient(
                **client_options(self._settings), request_timeout_ms=timeout_ms
            )
            await self._admin.start()
        await self._admin.describe_topics([self._topic])  # of one: those of all may be megabytes

    async def _forget_client(self) -> None:
        admin: Any
        admin, self._admin = self._admin, None
        if admin is not None:
            with contextlib.suppress(Exception):
                await close_with_timeout(admin.close())

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == FAILED_ATTEMPTS:
            log.warning(
                BROKER_AWAY,
                brokers=self._settings.brokers,
                seconds=round(self.silent_seconds, 1),
                error=repr(error),
            )

    def _answered(self) -> None:
        seconds, was_away = self.silent_seconds, self.is_away
        self._answered_at, self._answered_clock = time.monotonic(), datetime.now(UTC)
        self._failures = 0
        if was_away:
            log.info(BROKER_BACK, brokers=self._settings.brokers, seconds=round(seconds, 1))
