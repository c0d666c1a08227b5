"""`seatflow console`: reports a missing extra, then serves."""

from __future__ import annotations

from streams.runtime import log_events
from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.settings import Settings


def start(settings: Settings) -> int:
    """Serves until stopped; returns the exit code.

    Raises: WorkerError, if it cannot start.
    """
    log_events.configure(settings.log_level, settings.log_format)
    try:
        from streams.console.app import run_console
    except ModuleNotFoundError as missing:
        raise WorkerError(
            f"the console needs {missing.name}: install Seatflow with its extra `console`"
            " (docs/deployment.md)",
            CONFIGURATION,
        ) from None
    return run_console(settings, lambda url: print(f"Console  {url}", flush=True))
