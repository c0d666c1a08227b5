"""One line of the log for each topic whose producers use another partitioner, and not for ever."""

from __future__ import annotations

from collections.abc import Mapping

from streams.runtime import log_events
from streams.runtime.errors import log

INTERVAL_SECONDS = 60.0


class ForwardingReport:
    """Logs the events that were forwarded, for each topic at most once a minute."""

    def __init__(self) -> None:
        self._reported: dict[str, int] = {}
        self._next_at: dict[str, float] = {}

    def update(self, forwarded: Mapping[str, int], now: float) -> None:
        """Takes the number of events forwarded so far, by topic; ``now``: monotonic seconds."""
        for topic, count in forwarded.items():
            new = count - self._reported.get(topic, 0)
            if new and now >= self._next_at.get(topic, now):
                self._reported[topic], self._next_at[topic] = count, now + INTERVAL_SECONDS
                log.info(log_events.EVENTS_FORWARDED, topic=topic, events=new)
