"""Assignment of partitions to workers: partition p of every topic goes to the same worker.

aiokafka's round robin assigns single topic partitions, and Faust's assignor depends on its tables
and URLs; neither keeps the inputs of one partition's machines together. This assignor distributes
partition numbers evenly, and moves as few of them as that allows: each member states what it owns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

OwnedPartitions = tuple[frozenset[int], int]
"""What a member owns, and the generation of the group that assigned it: the later one wins."""
NOTHING_OWNED: OwnedPartitions = (frozenset(), -1)


class CopartitionedStickyAssignor(AbstractPartitionAssignor):
    """aiokafka's interface around :func:`assign_balanced`.

    Workers of the earlier release may be members of the group: as its leader they assign every
    topic that a member names to all members, and one that a member does not read ends that member.
    So topics that the earlier release does not know are ``unannounced``: each worker adds them to
    its assignment itself. It needs no leader for that, since it owns partitions of all topics by
    their number.

    ``owned`` returns the last assignment of this member; it is sent along with each join.
    ``extend`` takes the whole assignment, with the unannounced topics.
    """

    name = "seatflow"

    def __init__(
        self,
        owned: Callable[[], OwnedPartitions],
        unannounced: Iterable[str],
        extend: Callable[[list[TopicPartition]], None],
    ) -> None:
        self._owned, self._unannounced, self._extend = owned, frozenset(unannounced), extend

    def metadata(self, topics: Iterable[str]) -> Any:
        """Returns what this member sends with a join: its topics, and what it owns."""
        owned, generation = self._owned()
        user_data = orjson.dumps({"owned": sorted(owned), "generation": generation})
        return ConsumerProtocolMemberMetadata(1, sorted({*topics} - self._unannounced), user_data)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the topic partitions of each member; only the group's leader is asked."""
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        partitions = {topic: cluster.partitions_for_topic(topic) or set() for topic in topics}
        owned = {name: _owned_by(member.user_data) for name, member in members.items()}
        assigned = assign_balanced(frozenset().union(*partitions.values()), owned)
        return {
            member: ConsumerProtocolMemberAssignment(
                1, [(topic, sorted(mine & partitions[topic])) for topic in topics], b""
            )
            for member, mine in assigned.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """Adds the unannounced topics; the rebalance listener, which is called next, sees them."""
        assigned = assignment.partitions()
        numbers = sorted({tp.partition for tp in assigned})
        more = [TopicPartition(topic, n) for topic in sorted(self._unannounced) for n in numbers]
        self._extend([*assigned, *more])


def assign_balanced(
    partitions: frozenset[int], owned: Mapping[str, OwnedPartitions]
) -> dict[str, set[int]]:
    """Returns the partitions of each member: counts differ by at most one, and as few partitions
    move as that allows. Deterministic."""
    owner: dict[int, str] = {}
    for member in sorted(owned, key=lambda name: (owned[name][1], name)):
        owner.update(dict.fromkeys(owned[member][0] & partitions, member))
    kept: dict[str, list[int]] = {member: [] for member in owned}
    for partition, member in sorted(owner.items()):
        kept[member].append(partition)
    least, extra = divmod(len(partitions), len(owned))
    # The members that own most get the extra ones, so that fewest move.
    ranked = sorted(owned, key=lambda name: (-len(kept[name]), name))
    quota = {member: least + (rank < extra) for rank, member in enumerate(ranked)}
    assigned = {member: set(kept[member][: quota[member]]) for member in owned}
    free = sorted(partitions.difference(*assigned.values()))
    for member in sorted(owned):
        while len(assigned[member]) < quota[member]:
            assigned[member].add(free.pop(0))
    return assigned


def _owned_by(user_data: bytes) -> OwnedPartitions:
    if not user_data:
        return NOTHING_OWNED
    decoded = orjson.loads(user_data)
    return frozenset(decoded["owned"]), decoded["generation"]
