"""The rows of a changelog, given to a machine."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from engine.partition_machine import PartitionMachine
from streams.kafka.changelog import ChangelogSnapshot
from streams.kafka.changelog_rows import APPLIED, ATTEMPTED, row_key


def snapshot(rows: dict[bytes, bytes]) -> ChangelogSnapshot:
    found = ChangelogSnapshot()
    records: list[Any] = [SimpleNamespace(key=key, value=value) for key, value in rows.items()]
    found.fold(records)
    return found


def test_a_machine_gets_the_rows_of_the_engine_alone() -> None:
    """The delivery layer's own rows are in the same log; a reader need not know all of them."""
    rows = {APPLIED: b'{"catalog": 3}', row_key(*ATTEMPTED): b'{"catalog": 2}'}
    rows[row_key("tenants", "t")] = b'["US", true, true]'
    machine = PartitionMachine(0, 1)
    asyncio.run(snapshot(rows).load_into(machine))
    assert machine.configuration.tenant("t").settings.location == "US"
    taken = snapshot(rows)
    assert (taken.applied(), taken.attempted()) == ({"catalog": 3}, {"catalog": 2})
