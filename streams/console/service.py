"""The parts of a running console, and what API and pages ask of them."""

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
    settings: Settings
    store: Store
    projector: ReadModelProjector
    processor: ProcessingStatus
    commands: CommandDispatcher
    authenticator: Authenticator

    def health(self) -> dict[str, Any]:
        """How fresh and how complete what the console shows is."""
        lag = self.projector.lag()
        problem = lag.problem or self.processor.problem
        progress = self.projector.progress
        status = "broken" if problem else "ok" if progress.caught_up else "catching up"
        workers = self.processor.workers
        return {
            "status": status,
            "problem": problem,
            "lagSeconds": round(lag.seconds, 1),
            "lagRecords": lag.records,
            "recordsApplied": progress.applied,
            "processor": {
                "workers": None if workers is None else len(workers),
                "lagRecords": self.processor.records,
                "lagSeconds": round(self.processor.seconds, 1),
            },
        }

    def rates(self) -> dict[str, Any]:
        """Records a second over the last seconds, and second by second for a drawing."""
        now = int(time.time())
        rates = self.projector.progress.rates
        inputs = rates["user-changes"] + rates["group-changes"]
        seconds = range(now - 60, now)
        return {
            "events": sum(inputs[s] for s in seconds[-RATE_OVER:]) / RATE_OVER,
            "states": sum(rates["user-licenses"][s] for s in seconds[-RATE_OVER:]) / RATE_OVER,
            "history": [inputs[s] + rates["user-licenses"][s] for s in seconds],
        }
