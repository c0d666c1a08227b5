"""Signals of commands that run in the foreground."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Handles SIGTERM and a closed terminal (SIGHUP) like Ctrl-C, which a shell may have disabled.

    They raise SIGINT, so that an event loop that has taken over SIGINT ends in its own way;
    otherwise the result is a KeyboardInterrupt.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
