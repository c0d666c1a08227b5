"""Dropped objects are freed immediately; the collector does not traverse long-lived ones again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder

from engine.domain.effects import Effects
from streams.runtime import gc_tuning
from streams.worker.transaction import Transaction


@pytest.fixture
def collector() -> Iterator[None]:
    """Restores the settings of the garbage collector after the test."""
    was, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*was)
    (gc.enable if enabled else gc.disable)()


class Batch(BatchBuilder):
    """One that can be referred to weakly."""


def test_a_transaction_frees_its_batches_without_the_collector(collector: None) -> None:
    """In a reference cycle, megabytes per batch would wait for the collector, which runs rarely."""
    made: list[weakref.ref[Any]] = []

    def create_batch() -> Any:
        batch = Batch(1 << 20, 0, is_transactional=True)
        made.append(weakref.ref(batch))
        return batch

    gc.disable()
    transaction = Transaction(SimpleNamespace(create_batch=create_batch), "", 0)
    effects = Effects()
    effects.rows["users", "contoso/u1"] = [True]
    effects.emit("user-licenses", "contoso/u1", b"{}")
    transaction.add_effects(effects)
    transaction.add_applied({"user-changes": 1})
    assert sum(transaction.counts().values()) == 3
    freed = weakref.ref(transaction)
    del transaction
    assert freed() is None
    assert len(made) == 2
    assert [batch() for batch in made] == [None, None]


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_what_comes_in_a_backlog_is_not_gone_through(collector: None) -> None:
    gc_tuning.configure()
    gc.enable()
    gc.collect()
    before, stays = collections(), []
    for _ in range(4 * gc_tuning.THRESHOLD_OBJECTS // 1000):
        stays.append([[n] for n in range(1000)])
        gc_tuning.freeze_young_objects()
    assert collections() == before


def test_circles_are_still_collected_at_other_times(collector: None) -> None:
    gc_tuning.configure()
    gc.enable()

    class Circle:
        def __init__(self) -> None:
            self.itself = self

    lost = weakref.ref(Circle())
    stays = [[n] for n in range(gc_tuning.FREEZE_AFTER_OBJECTS // 2)]
    gc_tuning.freeze_young_objects()
    stays += [[n] for n in range(gc_tuning.THRESHOLD_OBJECTS + 1)]
    assert lost() is None


def test_effects_have_the_time_when_they_were_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of a transaction that was opened long before: causes would seem to come later."""
    times = iter([1.0, 2.0, 9.0])
    monkeypatch.setattr("streams.worker.transaction.time.time", lambda: next(times))
    added: list[int] = []

    def create_batch() -> Any:
        batch = BatchBuilder(1 << 20, 0, is_transactional=True)

        def append(offset: int, at: int, *rest: Any) -> Any:
            added.append(at)
            return batch._builder.append(offset, at, *rest)

        return SimpleNamespace(_builder=SimpleNamespace(append=append))

    transaction = Transaction(SimpleNamespace(create_batch=create_batch), "", 0)
    for user in ("contoso/u1", "contoso/u2"):
        effects = Effects()
        effects.rows["users", user] = [True]
        transaction.add_effects(effects)
    assert added == [2000, 9000]
