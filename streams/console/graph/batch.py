"""``$batch``: up to twenty calls in one request, in the order that they depend on each other.

Each call is charged to its sender's rate as if it had come alone. Reads follow each other, so that
a batch takes no more of the console than a request; changes await their outcomes side by side.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import uuid
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from streams.console.graph import bodies, table
from streams.console.graph.calls import Answer, Call
from streams.console.graph.errors import GraphError, bad_request
from streams.console.graph.options import check_allowed, check_consistency, named
from streams.http_server import cancellation
from streams.http_server.guard import OVERDUE
from streams.runtime.deadline import Deadline

MOST_REQUESTS = 20
MOST_CHANGES_AT_A_TIME = 4
MOST_URL_CHARACTERS = 16_000
READS_SECONDS = 60.0
"""For all reads of a batch together."""
METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
PATH = "$batch"
DEPENDS_ON = ("dependsOn", "depends_on")
"""In Graph's spelling, and in that of msgraph-core 1.5 for Python."""
MEMBERS = ("id", "method", "url", "headers", "body", *DEPENDS_ON)
_ID = re.compile(r"[\x20-\x7e]{1,100}")


@dataclass(frozen=True, slots=True)
class Part:
    """One of the calls in a batch. ``depends_on``: the ids of calls that must succeed before."""

    id: str
    method: str
    url: str
    consistency: str | None
    body: Any
    depends_on: tuple[str, ...]


def parts_of(body: Any, root: str) -> list[Part]:
    """Returns the calls of a batch, each after those that it depends on. Raises: GraphError.

    ``root``: the address that absolute URLs must begin with, as some clients write them.
    """
    found = bodies.read(body, ("requests",), "a batch")
    given = bodies.items(found, "requests", MOST_REQUESTS)
    if not given:
        raise bad_request("requests is empty.")
    waiting = {part.id: part for part in (_part(item, root) for item in given)}
    if len(waiting) < len(given):
        raise bad_request("The ids of the requests of a batch must differ.")
    ordered: dict[str, Part] = {}
    while waiting:
        ready = [part for part in waiting.values() if ordered.keys() >= set(part.depends_on)]
        if not ready:
            raise bad_request(
                f"dependsOn of {', '.join(waiting)} leads in a circle, or to no request."
            )
        for part in ready:
            ordered[part.id] = waiting.pop(part.id)
    return list(ordered.values())


def _part(item: Any, root: str) -> Part:
    found = bodies.read(item, MEMBERS, "a request of a batch")
    id, method, url = found.get("id"), found.get("method"), found.get("url")
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise bad_request("id of a request of a batch must be text of 1 to 100 characters.")
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise bad_request(f"method of the request {id!r} must be one of {', '.join(METHODS)}.")
    if isinstance(url, str) and url.startswith(f"{root}/"):
        url = url.removeprefix(root)
    if not isinstance(url, str) or not url or len(url) > MOST_URL_CHARACTERS or "://" in url[:20]:
        raise bad_request(f"url of the request {id!r} must be a path, as in /users?$top=5.")
    depends_on = [id for name in DEPENDS_ON for id in bodies.texts(found, name, MOST_REQUESTS)]
    headers = {} if found.get("headers") is None else found["headers"]
    if not isinstance(headers, dict):
        raise bad_request(f"headers of the request {id!r} must be a JSON object.")
    level = {str(k).lower(): v for k, v in headers.items()}.get("consistencylevel")
    consistency = None if level is None else str(level)
    return Part(id, method.upper(), url, consistency, found.get("body"), tuple(depends_on))


class _Batch:
    """A batch at work."""

    def __init__(self, call: Call, parts: list[Part]) -> None:
        self.call, self.parts = call, parts
        self._changes = asyncio.Semaphore(MOST_CHANGES_AT_A_TIME)
        self._read = asyncio.Lock()
        self._deadline = Deadline(READS_SECONDS)
        loop = asyncio.get_running_loop()
        self._done: dict[str, asyncio.Future[Answer]] = {
            part.id: loop.create_future() for part in parts
        }

    async def run(self) -> list[Answer]:
        """Returns the answers, in the order of the parts."""
        async with asyncio.TaskGroup() as tasks:
            for part in self.parts:
                tasks.create_task(self._run(part))
        return [self._done[part.id].result() for part in self.parts]

    async def _run(self, part: Part) -> None:
        try:
            before = [await self._done[id] for id in part.depends_on]
            if any(answer.status >= 400 for answer in before):
                raise GraphError(424, "A request that this one depends on has failed.")
            answer = await self._answer(part)
        except GraphError as error:
            id = str(uuid.uuid4())
            answer = Answer(error.status, error.body(id, id), error.headers)
        self._done[part.id].set_result(answer)

    async def _answer(self, part: Part) -> Answer:
        check_consistency(part.consistency)
        target = urlsplit(part.url)
        segments = table.normalized(unquote(target.path))
        if segments == [PATH]:
            raise bad_request("A batch must not contain another one.")
        if not self.call.admit(part.method):
            message = "Too many requests; try again in a second."
            raise GraphError(429, message, headers={"retry-after": "1"})
        call = replace(
            self.call,
            method=part.method,
            path=segments,
            parameters=named(parse_qsl(target.query, keep_blank_values=True)),
            body=part.body,
        )
        if part.method != "GET":
            async with self._changes:
                return await table.answer(call)
        async with self._read:
            return await self._bounded(call)

    async def _bounded(self, call: Call) -> Answer:
        """Answers a read within what is left of the time for reads."""
        current = cancellation.begin()

        def cancel() -> None:
            """Ends the query, which looks at this while it runs."""
            current.is_set = True

        seconds = self._deadline.remaining_seconds
        timer = asyncio.get_running_loop().call_later(seconds, cancel)
        try:
            if seconds <= 0:
                raise GraphError(503, OVERDUE, headers={"retry-after": "1"})
            return await table.answer(call)
        except sqlite3.OperationalError:
            if not current.is_set:
                raise
            raise GraphError(503, OVERDUE, headers={"retry-after": "1"}) from None
        finally:
            timer.cancel()


async def answer_batch(call: Call) -> Answer:
    """Answers a batch. Raises: GraphError, if the batch itself cannot be read."""
    if call.method != "POST":
        raise GraphError(405, f"{call.method} is not supported for $batch; there is POST.")
    check_allowed(call.parameters, ())
    parts = parts_of(call.body, call.root)
    answers = await _Batch(call, parts).run()
    return Answer(200, {"responses": list(map(_response, parts, answers))})


def _response(part: Part, answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": part.id,
        "status": answer.status,
        "headers": dict(answer.headers),
    }
    if answer.body is not None:
        kind = "text/plain" if isinstance(answer.body, str) else "application/json"
        shown["headers"]["content-type"] = kind
        shown["body"] = answer.body
    return shown
