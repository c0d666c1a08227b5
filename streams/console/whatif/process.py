"""What-if: the outcome of events on a replica of the present state, in a process of its own.

Only the users whom the events can reach are in the replica. Nothing is written or sent.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from streams.runtime.errors import Actor, SeatflowError

SECONDS = 60.0
MOST_USERS = 100_000
MOST_EVENTS = 5_000
_one_at_a_time = asyncio.Semaphore(1)


class WhatIfError(SeatflowError):
    """Raised if there is no outcome; with the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def actor(self) -> Actor:
        """SENDER for a status of 4xx: the events cannot be tried."""
        return Actor.SENDER if self.status < 500 else Actor.DEVELOPER


async def what_if(path: Path, tenant: str, events: list[Any]) -> dict[str, Any]:
    """Returns the outcome of the events. Raises: WhatIfError."""
    now_ms = int(time.time() * 1000)
    question = {"path": str(path), "tenant": tenant, "events": events, "now_ms": now_ms}
    asked = _question(question)
    async with _one_at_a_time:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
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
        orjson.loads(text)
    except (ValueError, RecursionError) as error:
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
