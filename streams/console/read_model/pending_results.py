"""Futures of results that are expected, completed when the read model has stored them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

Result = dict[str, Any]


class PendingResults:
    """The futures of the first results of commands, by command id."""

    def __init__(self) -> None:
        self._futures: dict[str, asyncio.Future[Result]] = {}

    @contextmanager
    def expected(self, command_id: str) -> Iterator[asyncio.Future[Result]]:
        """Yields the future of a command's result; to be entered before the command is sent."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._futures[command_id] = future
        try:
            yield future
        finally:
            del self._futures[command_id]
            future.cancel()

    def complete(self, values: Iterable[bytes | None]) -> None:
        """Completes the futures whose results are among these records' values."""
        if not self._futures:
            return
        for value in values:
            if value is None:
                continue
            try:
                result = orjson.loads(value)
                future = self._futures.get(result["causedBy"])
            except (ValueError, KeyError, TypeError):
                continue  # a forged record: the projector reports it
            if future is not None and not future.done():
                future.set_result(result)
