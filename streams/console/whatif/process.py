"""What-if: the outcome of events on a replica of the present state, in a process of its own.

Only the users whom the events can reach are in the replica. Nothing is written or sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from streams.runtime.errors import Actor, SeatflowError

SECONDS = 60.0
MOST_USERS = 100_000
MOST_EVENTS = 5_000
MOST_WAITING = 8
MOST_OF_CALLER = 2
NICENESS = 5  # questions do not make workers on the same machine wait
"""Questions of one caller, the one that is being answered included."""
_one_at_a_time = asyncio.Semaphore(1)
_asked: Counter[str] = Counter()


class WhatIfError(SeatflowError):
    """Raised if there is no outcome; with the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def actor(self) -> Actor:
        """SENDER for a status of 4xx: the events cannot be tried."""
        return Actor.SENDER if self.status < 500 else Actor.DEVELOPER


class TooManyQuestionsError(WhatIfError):
    """Raised if the caller, or all callers together, have asked too much already."""

    def __init__(self, whose: str) -> None:
        super().__init__(429, f"{whose} being answered already: try again when they are.")


async def what_if(path: Path, tenant: str, events: list[Any], caller: str = "") -> dict[str, Any]:
    """Returns the outcome of the events; ends with its process if the task is cancelled.

    Raises: WhatIfError.
    """
    if _asked[caller] >= MOST_OF_CALLER:
        raise TooManyQuestionsError("Questions of yours are")
    if _asked.total() > MOST_WAITING:
        raise TooManyQuestionsError("Many questions are")
    _asked[caller] += 1
    try:
        return await _answer(path, tenant, events)
    finally:
        _asked[caller] -= 1
        if not _asked[caller]:
            del _asked[caller]


async def _answer(path: Path, tenant: str, events: list[Any]) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    question = {"path": str(path), "tenant": tenant, "events": events, "now_ms": now_ms}
    asked = _question(question)
    async with _one_at_a_time:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing of the current directory is imported
            "-m",
            "streams.console.whatif.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, error = await asyncio.wait_for(process.communicate(asked), SECONDS)
        except TimeoutError:
            message = f"No outcome within {SECONDS:.0f} s: try fewer events."
            raise WhatIfError(422, message) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        last = error.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise WhatIfError(500, f"The simulation failed: {last[0]}")
    answer: dict[str, Any] = orjson.loads(out)
    if "refused" in answer:
        raise WhatIfError(answer["status"], answer["refused"])
    return answer


def _question(asked: dict[str, Any]) -> bytes:
    """Encodes the question for the other process.

    Raises:
        WhatIfError: the events contain values that a topic could not carry.
    """
    try:
        text = json.dumps(asked, allow_nan=False).encode()
        orjson.dumps(orjson.loads(text))  # TypeError: deeper than a record's value may be
    except (ValueError, TypeError, RecursionError) as error:
        raise WhatIfError(400, f"The events are not valid JSON: {error}.") from None
    return text


def read_events(text: str) -> list[Any]:
    """Reads events: JSON Lines, a JSON array, or an object with ``events``. Raises: WhatIfError."""
    text = text.strip()
    if not text:
        raise WhatIfError(400, "There are no events: paste some, or choose a file.")
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = [_line(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    else:
        listed = whole.get("events", [whole]) if isinstance(whole, dict) else whole
        found = listed if isinstance(listed, list) else [listed]
    if len(found) > MOST_EVENTS:
        raise WhatIfError(
            400, f"There are {len(found):,} events; at most {MOST_EVENTS:,} can be tried."
        )
    return found


def _line(number: int, line: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise WhatIfError(400, f"Line {number} is not JSON: {error}.") from None


def _main() -> None:
    from streams.console.whatif.affected_users import EventNotReadableError, ScopeTooLargeError
    from streams.console.whatif.answer import outcome

    os.nice(NICENESS)
    asked = orjson.loads(sys.stdin.buffer.read())
    db = sqlite3.connect(f"file:{asked['path']}?mode=ro", uri=True, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("BEGIN")  # one snapshot for all that is read
    try:
        answer = outcome(db, asked["tenant"], asked["events"], MOST_USERS, asked["now_ms"])
    except EventNotReadableError as wrong:
        answer = {"status": 400, "refused": str(wrong)}
    except ScopeTooLargeError as many:
        answer = {"status": 422, "refused": str(many)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
