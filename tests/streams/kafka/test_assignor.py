"""Partitions are dealt out evenly, stay where they are, and go to whoever had them last."""

from __future__ import annotations

from streams.kafka.assignor import Claim, deal


def _owned(*partitions: int, generation: int = 1) -> Claim:
    return frozenset(partitions), generation


def test_partitions_are_dealt_evenly_and_stay() -> None:
    eight = frozenset(range(8))
    fresh = deal(eight, {"a": _owned(), "b": _owned(), "c": _owned()})
    assert sorted(len(mine) for mine in fresh.values()) == [2, 3, 3]
    assert set().union(*fresh.values()) == eight

    joined = deal(eight, {"a": _owned(0, 1, 2, 3), "b": _owned(4, 5, 6, 7), "c": _owned()})
    assert joined["a"] < {0, 1, 2, 3}
    assert joined["b"] < {4, 5, 6, 7}
    assert len(joined["c"]) == 2

    left = deal(eight, {"a": _owned(0, 1, 2), "c": _owned(3, 7)})
    assert left["a"] > {0, 1, 2}
    assert left["c"] > {3, 7}


def test_the_later_claim_holds() -> None:
    dealt = deal(
        frozenset(range(4)), {"a": _owned(0, 1, generation=5), "z": _owned(0, 1, generation=3)}
    )
    assert dealt["a"] == {0, 1}


def test_more_workers_than_partitions() -> None:
    dealt = deal(frozenset(range(2)), {"a": _owned(), "b": _owned(), "c": _owned()})
    assert sorted(len(mine) for mine in dealt.values()) == [0, 1, 1]
