"""The parts of a running console, as API and pages use them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from streams.console.commands.dispatcher import CommandDispatcher
from streams.console.commands.processing_status import ProcessingStatus
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.console.security.auth import Authenticator
from streams.kafka.broker_watch import BrokerWatch
from streams.metrics.families import Values
from streams.runtime.settings import Settings

RATE_OVER = 10


@dataclass(slots=True)
class Service:
    """A running console: its parts, and the figures that every page shows."""

    settings: Settings
    store: Store
    projector: ReadModelProjector
    processing: ProcessingStatus
    dispatcher: CommandDispatcher
    authenticator: Authenticator
    broker: BrokerWatch

    def health(self) -> dict[str, Any]:
        """Returns how fresh the read model is, and how far the workers are."""
        lag = self.projector.lag()
        problem = self.broker.problem() or lag.problem or self.processing.problem
        progress = self.projector.progress
        status = "broken" if problem else "ok" if progress.caught_up else "catching up"
        workers = self.processing.workers
        return {
            "status": status,
            "problem": problem,
            "lagSeconds": round(max(lag.seconds, self.broker.silent_seconds), 1),
            "lagRecords": lag.records,
            "recordsApplied": progress.applied,
            "processor": {
                "workers": None if workers is None else len(workers),
                "lagRecords": self.processing.records,
                "lagSeconds": round(self.processing.seconds, 1),
            },
        }

    def metrics(self) -> dict[str, Values]:
        """Returns the values of the metrics in ``streams.metrics.registry.CONSOLE``."""
        lag, unreadable = self.projector.lag(), self.projector.unreadable
        return {
            "broker_reachable": {None: not self.broker.is_away},
            "console_failures": {
                "topics": self.projector.progress.failures,
                "workers": self.processing.failures,
            },
            "console_lag_records": {None: lag.records},
            "console_lag_seconds": {None: max(lag.seconds, self.broker.silent_seconds)},
            "console_unreadable_records": {None: unreadable[0] if unreadable else 0},
        }

    def rates(self) -> dict[str, Any]:
        """Returns records per second over the last seconds, and second by second for the chart."""
        now = int(time.time())
        rates = self.projector.progress.rates
        inputs = rates["user-changes"] + rates["group-changes"]
        seconds = range(now - 60, now)
        return {
            "events": sum(inputs[s] for s in seconds[-RATE_OVER:]) / RATE_OVER,
            "states": sum(rates["user-licenses"][s] for s in seconds[-RATE_OVER:]) / RATE_OVER,
            "history": [inputs[s] + rates["user-licenses"][s] for s in seconds],
        }
