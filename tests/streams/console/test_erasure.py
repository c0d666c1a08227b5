"""The console's file after the deletion of users: no page has their names or addresses."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streams.console.read_model import projector, store
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.runtime.settings import load_settings
from tests.streams.console.local import World
from tests.support.system import Event, Events

USERS = 3000
NAME = re.compile(rb"secretname(\d+)", re.IGNORECASE)


def people(events: Events, numbers: list[int], dice: Random) -> list[Event]:
    """Makes users whose rows grow and move: name, mail, and an address that they share in pairs."""
    made = []
    for n in numbers:
        name = f"Secretname{n} " + "x" * dice.randrange(80)
        mail = f"secretname{n}@contoso.example"
        made.append(
            events.user(f"u{n}", displayName=name, mail=mail, mailNickname=f"secretname{n}")
        )
        if n % 3 == 0:
            addresses = [f"SMTP:{mail}", f"smtp:secretname{n}.box@contoso.example"]
            made.append(events.user(f"u{n}", displayName=name * 2, proxyAddresses=addresses))
        if n % 5 == 0:
            made.append(events.join(f"u{n}", "sales"))
    return made


def names_in(path: Path) -> set[int]:
    """Returns the numbers of the users whose names are in any byte of the file or its journal."""
    found: set[int] = set()
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            found.update(int(n) for n in NAME.findall(part.read_bytes()))
    return found


def test_no_byte_of_the_file_has_a_deleted_user(tmp_path: Path) -> None:
    """Rows, indexes, search texts, shapes, the journal, freed pages and moved rows' old places."""
    path, dice = tmp_path / "console.sqlite3", Random(5)
    made = Store(path, "licensing.")
    world, events = World(made), Events()
    world.publish([events.product("e3"), events.seats("e3", USERS), events.license("sales", "e3")])
    numbers = list(range(USERS))
    dice.shuffle(numbers)
    for start in range(0, USERS, 500):
        world.publish(people(events, numbers[start : start + 500], dice))
    dice.shuffle(numbers)
    gone = set(numbers[: USERS // 2])
    assert gone < names_in(path)
    bin_first = [e for n in sorted(gone) if n % 2 for e in [_deleted(events, n, restorable=True)]]
    world.publish(bin_first)
    world.publish([_deleted(events, n) for n in sorted(gone)])
    now = time.time()
    made.prune(now)
    assert made.erase_deleted(now + (store.VACUUM_DAYS + 1) * 86_400)
    left = names_in(path)
    assert not left & gone
    assert left == set(range(USERS)) - gone
    made.close()


def test_a_reader_defers_the_truncation_and_does_not_block_it(tmp_path: Path) -> None:
    made = Store(tmp_path / "console.sqlite3", "licensing.")
    world, events = World(made), Events()
    reader = made.read_connection()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM users").fetchall()
    world.publish([events.user("u1", displayName="Secretname1")])
    world.publish([_deleted(events, 1)])
    assert not made.erase_deleted(time.time())
    reader.execute("COMMIT")
    assert made.erase_deleted(time.time())
    assert names_in(made.path) == set()
    made.close()


async def test_the_projector_erases_when_it_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while nothing comes in: deletion may be the last thing that happened."""
    made = Store(tmp_path / "console.sqlite3", "licensing.")
    world, events = World(made), Events()
    world.publish([events.user("u1", displayName="Secretname1")])
    world.publish([_deleted(events, 1)])
    assert names_in(made.path) == {1}  # in the journal
    monkeypatch.setattr(projector, "ERASE_INTERVAL_SECONDS", 0.0)

    class Quiet:
        """A consumer to which nothing comes."""

        def __init__(self) -> None:
            self.polls = 0

        async def getmany(self, **_: Any) -> dict[Any, Any]:
            self.polls += 1
            if self.polls > 2:
                raise asyncio.CancelledError
            return {}

    follower = ReadModelProjector(load_settings(), made)
    with pytest.raises(asyncio.CancelledError):
        await follower._read(Quiet(), [])
    assert names_in(made.path) == set()
    follower.close()
    made.close()


def _deleted(events: Events, number: int, **body: Any) -> Event:
    return events._of_user(f"u{number}", "user.deleted", **body)
