"""Bounded connections: none that is idle or slow keeps others out.

uvicorn's ``limit_concurrency`` counts idle connections like busy ones and then answers everybody
with 503; it has no time limit for a request's head or for a client that does not read. Here a new
connection beyond a bound takes the place of the one that has been idle for longest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the first byte that may be a request's, or from the connection, to the end of its head."""
DISCARDED_BYTES = 1 << 20
"""Of a body whose request has been refused: read and dropped, so that the client gets the answer.

A connection that is closed with unread bytes is reset, and the response may be lost.
"""
WRITE_SECONDS = 30.0
"""For which a client may leave a response unread."""


class ConnectionTable:
    """The open connections in the order in which they became idle, and their bounds.

    ``most``: of all clients; ``most_of_client``: of one address. ``is_proxy``: tells whether an
    address is that of a trusted proxy, whose connections are of many clients.
    """

    def __init__(self, most: int, most_of_client: int, is_proxy: Callable[[str], bool]) -> None:
        self.most, self.most_of_client, self.is_proxy = most, most_of_client, is_proxy
        self._by_client: dict[str, dict[BoundedConnection, None]] = {}
        self._all: dict[BoundedConnection, None] = {}

    def admit(self, one: BoundedConnection) -> bool:
        """Adds a connection; returns False if it has to be refused, as all others are busy."""
        own = self._by_client.setdefault(one.address, {})
        if len(own) >= self.most_of_client and not self.is_proxy(one.address):
            return self._replace(own, one)
        if len(self._all) >= self.most:
            return self._replace(self._all, one)
        self._add(one)
        return True

    def _replace(self, among: dict[BoundedConnection, None], one: BoundedConnection) -> bool:
        idle = next((each for each in among if each.is_idle), None)
        if idle is None:
            return False
        self.remove(idle)
        idle.end()
        self._add(one)
        return True

    def _add(self, one: BoundedConnection) -> None:
        self._all[one] = None
        self._by_client.setdefault(one.address, {})[one] = None

    def used(self, one: BoundedConnection) -> None:
        """Moves a connection behind the others: it is the one that was idle last."""
        if one in self._all:
            self._all[one] = self._all.pop(one)
            own = self._by_client[one.address]
            own[one] = own.pop(one)

    def remove(self, one: BoundedConnection) -> None:
        """Removes a connection that has ended."""
        self._all.pop(one, None)
        own = self._by_client.get(one.address)
        if own is not None:
            own.pop(one, None)
            if not own:
                del self._by_client[one.address]


class BoundedConnection(H11Protocol):
    """An HTTP/1.1 connection with time limits and a place in a table."""

    table: ConnectionTable
    _discarded_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """The address of the other end, the proxy's if there is one."""
        return self.client[0] if self.client else ""

    @property
    def is_idle(self) -> bool:
        """True while no request has come completely, or its response has gone."""
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        return cycle is None or cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """Admits the connection, or closes it."""
        super().connection_made(transport)
        if self.table.admit(self):
            self._await_head()
        else:
            self.connections.discard(self)
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Removes the connection."""
        self.table.remove(self)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes; the head that they begin or continue must end in time."""
        if self.is_idle and self.conn.their_state is h11.SEND_BODY:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > DISCARDED_BYTES:
                self.end()
                return
        super().data_received(data)
        if not self.is_idle:
            self._discarded_bytes = 0
            self.table.used(self)
            self._stop_timer()
        elif self._timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._head_overdue)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_overdue(self) -> None:
        self._timer = None
        if self.is_idle:
            self.end()

    def end(self) -> None:
        """Ends the connection without a response."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Notes that the client does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.end)

    def resume_writing(self) -> None:
        """Notes that the client reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def protocol(table: ConnectionTable) -> type[BoundedConnection]:
    """Returns uvicorn's ``http`` for a server whose connections are in this table."""
    return type("TableConnection", (BoundedConnection,), {"table": table})
