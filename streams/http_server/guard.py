"""The guard of every request: bodies, concurrency and time are bounded for each caller.

Plain ASGI. A body is read before the application runs, and before that the caller is known: nothing
is read of a body that nobody may send, and no part of a body that is too large is carried out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from streams.http_server import cancellation
from streams.runtime.deadline import Deadline
from streams.runtime.errors import SenderError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refusal(NamedTuple):
    """An answer without the application: status, code in Graph's manner, and a sentence."""

    status: int
    code: str
    message: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of requests; times in seconds."""

    requests_of_caller: int = 50
    reads_of_caller: int = 8
    """At work at the same time; further ones wait."""
    body_seconds: float = 30.0
    buffered_bytes: int = 128 << 20
    buffered_bytes_of_caller: int = 32 << 20
    buffered_bytes_of_unknown: int = 16 << 20
    """Of all callers without a token together."""


class Caller(NamedTuple):
    """The sender of a request. ``most_body_bytes``: None if it may send no body at all."""

    name: str
    known: bool
    most_body_bytes: int | None


class Work(NamedTuple):
    """A request's work. ``seconds``: until the response begins; None without a bound of the guard.

    ``cancellable``: ends when the client leaves. ``is_read``: counts as a read of its caller.
    """

    seconds: float | None
    cancellable: bool
    is_read: bool = False


class Policy(Protocol):
    """The questions that the guard asks the console or the receiver."""

    def caller(self, scope: Scope) -> Caller:
        """Returns who sends a request, by its head."""
        ...

    def work(self, scope: Scope) -> Work:
        """Returns what a request's work is."""
        ...

    def unknown_caller(self, scope: Scope) -> Refusal:
        """Returns the refusal of a body from a caller who may send none."""
        ...

    def body_of(self, refusal: Refusal, scope: Scope) -> tuple[str, bytes]:
        """Returns media type and body of a refusal."""
        ...


class _RefusedError(SenderError):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class _DisconnectedError(SenderError):
    pass


class RequestGuard:
    """Guards an application with a policy."""

    def __init__(self, app: Any, policy: Policy, limits: Limits | None = None) -> None:
        self.app, self.policy, self.limits = app, policy, limits or Limits()
        self._requests: Counter[str] = Counter()
        self._buffered: Counter[str] = Counter()  # bytes by caller
        self._reads: dict[str, asyncio.Semaphore] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = self.policy.caller(scope)
        if self._requests[caller.name] >= self.limits.requests_of_caller:
            busy = f"At most {self.limits.requests_of_caller} requests of a caller are at work."
            await self._refuse(Refusal(429, "TooManyRequests", busy), scope, send)
            return
        self._requests[caller.name] += 1
        held = 0
        try:
            body = await self._body(caller, scope, receive)
            held = len(body)
            await self._serve(caller, scope, body, receive, send)
        except _RefusedError as refused:
            await self._refuse(refused.refusal, scope, send)
        except _DisconnectedError:
            pass
        finally:
            self._release(caller, held)

    def _release(self, caller: Caller, held: int) -> None:
        self._requests[caller.name] -= 1
        self._buffered[caller.name] -= held
        if not self._requests[caller.name]:
            del self._requests[caller.name], self._buffered[caller.name]
            self._reads.pop(caller.name, None)

    # -- bodies
    async def _body(self, caller: Caller, scope: Scope, receive: Receive) -> bytes:
        """Reads a request's body. Raises: _RefusedError, _DisconnectedError."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if length == b"0" and b"transfer-encoding" not in headers:
            return b""
        if caller.most_body_bytes is None:
            raise _RefusedError(self.policy.unknown_caller(scope))
        if not length.isdigit() or int(length) > caller.most_body_bytes:
            raise _RefusedError(too_large(caller.most_body_bytes))
        parts: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _DisconnectedError
                    part = message.get("body", b"")
                    more = message.get("more_body", False)
                    self._buffered[caller.name] += len(part)
                    held += len(part)
                    self._check(caller, held)
                    parts.append(part)
        except TimeoutError:
            self._buffered[caller.name] -= held
            raise _RefusedError(Refusal(408, "RequestTimeout", SLOW_BODY)) from None
        except BaseException:
            self._buffered[caller.name] -= held
            raise
        return b"".join(parts)

    def _check(self, caller: Caller, held: int) -> None:
        """Refuses a body that exceeds a bound of its own, of its caller or of all."""
        most = caller.most_body_bytes or 0
        if held > most:
            raise _RefusedError(too_large(most))
        limits = self.limits
        if caller.known:
            full = self._buffered[caller.name] > limits.buffered_bytes_of_caller
        else:
            unknown = sum(n for name, n in self._buffered.items() if is_address(name))
            full = unknown > limits.buffered_bytes_of_unknown
        if full or self._buffered.total() > limits.buffered_bytes:
            raise _RefusedError(Refusal(503, "ServiceNotAvailable", BUSY))

    # -- work
    async def _serve(
        self, caller: Caller, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        work = self.policy.work(scope)
        exchange = _Exchange(body, receive, send)
        watch = asyncio.create_task(exchange.watch())
        task = asyncio.create_task(self._run(caller, work, scope, exchange))
        try:
            overdue = await exchange.wait(task, watch, work)
            if task.done():
                task.result()  # what the application raised is uvicorn's to report
            elif overdue:
                await _end(exchange, task)
                if not exchange.started:
                    await self._refuse(Refusal(503, "ServiceNotAvailable", OVERDUE), scope, send)
        finally:
            watch.cancel()
            if not task.done():
                await _end(exchange, task)

    async def _run(self, caller: Caller, work: Work, scope: Scope, exchange: _Exchange) -> None:
        exchange.cancellation = cancellation.begin()
        if not work.is_read:
            await self.app(scope, exchange.receive, exchange.send)
            return
        most = self.limits.reads_of_caller
        turn = self._reads.setdefault(caller.name, asyncio.Semaphore(most))
        async with turn:
            await self.app(scope, exchange.receive, exchange.send)

    async def _refuse(self, refusal: Refusal, scope: Scope, send: Send) -> None:
        media, body = self.policy.body_of(refusal, scope)
        headers = [("content-type", media), ("content-length", str(len(body)))]
        if header(scope, b"expect") is not None:
            # The client will not send its body: the next bytes would be taken for it.
            headers.append(("connection", "close"))
        if refusal.status == 401:
            headers.append(("www-authenticate", "Bearer"))
        if refusal.location is not None:
            headers.append(("location", refusal.location))
        if refusal.status in (429, 503):
            headers.append(("retry-after", "1"))
        await send(
            {
                "type": "http.response.start",
                "status": refusal.status,
                "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            }
        )
        await send({"type": "http.response.body", "body": body})


NO_TOKEN = "The bearer token is missing or unknown."
SLOW_BODY = "The request's body did not come in time."
BUSY = "Too much is being sent; try again in a second."
OVERDUE = "The request takes too long; narrow it, or try again."


def too_large(most: int) -> Refusal:
    """Returns the refusal of a body beyond a bound."""
    shown = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most:,} bytes"
    return Refusal(413, "RequestTooLarge", f"A request body may have at most {shown}.")


def address_of(scope: Scope) -> str:
    """Returns the name of a caller of whom only the address is known."""
    return f"\0{(scope.get('client') or ('',))[0]}"


def is_address(name: str) -> bool:
    """Returns True for a name that ``address_of`` made; no principal or source has such a one."""
    return name.startswith("\0")


def header(scope: Scope, name: bytes) -> str | None:
    """Returns a header of a request, or None."""
    found: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value.decode("latin-1") for key, value in found if key == name), None)


class _Exchange:
    """A request whose body has been read, and its response."""

    def __init__(self, body: bytes, receive: Receive, send: Send) -> None:
        self._body: bytes | None = body
        self._receive, self._send = receive, send
        self._gone = asyncio.Event()
        self.started = self.complete = False
        self.cancellation: cancellation.Cancellation | None = None

    async def receive(self) -> Message:
        """Returns the body, then the end of the connection."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends a part of the response."""
        self.started = True
        await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body")

    async def watch(self) -> None:
        """Returns when the client has left, or has its response."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    async def wait(self, task: asyncio.Task[None], watch: asyncio.Task[None], work: Work) -> bool:
        """Waits for the work, or for a reason to end it; returns True if it takes too long."""
        deadline = Deadline(work.seconds)
        waiting = {task, watch} if work.cancellable else {task}
        while True:
            bounded = work.seconds is not None and not self.started
            await asyncio.wait(
                waiting,
                timeout=deadline.remaining_seconds if bounded else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done():
                return False
            if work.cancellable and watch.done():
                if not self.complete:
                    return False
                waiting = {task}  # has answered, and tidies up
            if bounded and not self.started:
                return True


async def _end(exchange: _Exchange, task: asyncio.Task[None]) -> None:
    """Cancels the work, in its threads too, and waits until it has ended."""
    if exchange.cancellation is not None:
        exchange.cancellation.is_set = True
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # of no use to anybody: the work was cancelled
