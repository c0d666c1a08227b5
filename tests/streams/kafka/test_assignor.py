"""Partitions are assigned evenly, stay where they are, and go to their last owner."""

from __future__ import annotations

from types import SimpleNamespace

from aiokafka import TopicPartition

from streams.kafka.assignor import (
    CopartitionedStickyAssignor,
    OwnedPartitions,
    assign_balanced,
)


def _owned(*partitions: int, generation: int = 1) -> OwnedPartitions:
    return frozenset(partitions), generation


def test_partitions_are_assigned_evenly_and_stay() -> None:
    eight = frozenset(range(8))
    fresh = assign_balanced(eight, {"a": _owned(), "b": _owned(), "c": _owned()})
    assert sorted(len(mine) for mine in fresh.values()) == [2, 3, 3]
    assert set().union(*fresh.values()) == eight

    joined = assign_balanced(
        eight, {"a": _owned(0, 1, 2, 3), "b": _owned(4, 5, 6, 7), "c": _owned()}
    )
    assert joined["a"] < {0, 1, 2, 3}
    assert joined["b"] < {4, 5, 6, 7}
    assert len(joined["c"]) == 2

    left = assign_balanced(eight, {"a": _owned(0, 1, 2), "c": _owned(3, 7)})
    assert left["a"] > {0, 1, 2}
    assert left["c"] > {3, 7}


def test_the_later_generation_wins() -> None:
    assigned = assign_balanced(
        frozenset(range(4)), {"a": _owned(0, 1, generation=5), "z": _owned(0, 1, generation=3)}
    )
    assert assigned["a"] == {0, 1}


def test_more_workers_than_partitions() -> None:
    assigned = assign_balanced(frozenset(range(2)), {"a": _owned(), "b": _owned(), "c": _owned()})
    assert sorted(len(mine) for mine in assigned.values()) == [0, 1, 1]


def test_a_topic_is_read_that_the_group_does_not_know() -> None:
    """A leader of the earlier release would assign it to members that cannot read it."""
    taken: list[list[TopicPartition]] = []
    assignor = CopartitionedStickyAssignor(lambda: _owned(), ["new"], taken.append)
    metadata = assignor.metadata(["new", "b", "a"])
    assert metadata.subscription == ["a", "b"]
    cluster = SimpleNamespace(partitions_for_topic=lambda _: {0, 1, 2, 3})
    assigned = assignor.assign(cluster, {"x": metadata, "y": metadata})
    for member, numbers in (("x", (0, 1)), ("y", (2, 3))):
        assignor.on_assignment(assigned[member])
        assert set(taken.pop()) == {
            TopicPartition(t, n) for t in ("a", "b", "new") for n in numbers
        }
