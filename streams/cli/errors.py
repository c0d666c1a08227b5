"""Errors at the command line: one line for people, and the exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

INTERRUPTED = 130


def fail(error: Exception) -> NoReturn:
    """Prints the error and exits; what is not an error of ours is internal (exit code 70)."""
    from streams.runtime.errors import SeatflowError
    from streams.runtime.visible_text import visible_line

    if not isinstance(error, SeatflowError):
        _fail_internally(error)
    print(f"seatflow: {visible_line(error)}", file=sys.stderr)
    sys.exit(error.exit_code)


def _fail_internally(error: Exception) -> NoReturn:
    """Prints a traceback for a worker, whose stderr is its log, and one line for people."""
    import traceback

    from streams.runtime.errors import SOFTWARE

    if "worker" in sys.argv or os.environ.get("SEATFLOW_LOG_LEVEL") == "debug":
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"seatflow: internal error: {error!r} at {frame.filename}:{frame.lineno}."
        " SEATFLOW_LOG_LEVEL=debug prints the traceback.",
        file=sys.stderr,
    )
    sys.exit(SOFTWARE)
