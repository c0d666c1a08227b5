"""Work off the event loop that keeps its caller's locks until it has ended."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(pool: ThreadPoolExecutor, call: Callable[..., T], *arguments: Any) -> T:
    """Runs a call in a thread, with the caller's context variables.

    A caller that is cancelled gets the cancellation when the thread has ended: a thread cannot be
    stopped, and what the caller has locked is its until then.
    """
    context = contextvars.copy_context()
    running = asyncio.get_running_loop().run_in_executor(pool, context.run, call, *arguments)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # nobody waits for it any more
        raise


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that awaits nothing but others of its kind, without an event loop.

    Raises: RuntimeError, if it waits for something.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("the coroutine waits for an event loop")
