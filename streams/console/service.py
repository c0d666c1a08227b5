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

    def health(self) -> dict[str, Any]:
        """Returns how fresh the read model is, and how far the workers are."""
        lag = self.projector.lag()
        problem = lag.problem or self.processing.problem
        progress = self.projector.progress
        status = "broken" if problem else "ok" if progress.caught_up else "catching up"
        workers = self.processing.workers
        return {
            "status": status,
            "problem": problem,
            "lagSeconds": round(lag.seconds, 1),
            "lagRecords": lag.records,
            "recordsApplied": progress.applied,
            "processor": {
                "workers": None if workers is None else len(workers),
                "lagRecords": self.processing.records,
                "lagSeconds": round(self.processing.seconds, 1),
            },
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
