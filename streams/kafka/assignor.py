"""Which worker gets which partitions: partition p of every topic goes to one worker.

aiokafka's own round robin deals out single topic partitions, and Faust's assignor insists on its
tables and URLs; neither keeps our machines' inputs together. This one deals out partition numbers,
evenly, and leaves them where they are as far as that allows: each member says what it owns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

# What a member owns, and the generation of the group that gave it: of two claims the later holds.
Claim = tuple[frozenset[int], int]
NO_CLAIM: Claim = (frozenset(), -1)


class Copartitioned(AbstractPartitionAssignor):
    name = "seatflow"

    def __init__(self, owned: Callable[[], Claim]) -> None:
        self._owned = owned

    def metadata(self, topics: Iterable[str]) -> Any:
        owned, generation = self._owned()
        claim = orjson.dumps({"owned": sorted(owned), "generation": generation})
        return ConsumerProtocolMemberMetadata(1, sorted(topics), claim)

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        topics = sorted({topic for member in members.values() for topic in member.subscription})
        partitions = {topic: cluster.partitions_for_topic(topic) or set() for topic in topics}
        claims = {name: _claim(member.user_data) for name, member in members.items()}
        dealt = deal(frozenset().union(*partitions.values()), claims)
        return {
            member: ConsumerProtocolMemberAssignment(
                1, [(topic, sorted(mine & partitions[topic])) for topic in topics], b""
            )
            for member, mine in dealt.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        pass


def deal(partitions: frozenset[int], claims: Mapping[str, Claim]) -> dict[str, set[int]]:
    """Evenly (counts differ by at most one), moving as few as that allows; deterministic."""
    owner: dict[int, str] = {}
    for member in sorted(claims, key=lambda name: (claims[name][1], name)):
        owner.update(dict.fromkeys(claims[member][0] & partitions, member))
    kept: dict[str, list[int]] = {member: [] for member in claims}
    for partition, member in sorted(owner.items()):
        kept[member].append(partition)
    least, extra = divmod(len(partitions), len(claims))
    # Those that own most get the odd ones, so that fewest move.
    ranked = sorted(claims, key=lambda name: (-len(kept[name]), name))
    quota = {member: least + (rank < extra) for rank, member in enumerate(ranked)}
    dealt = {member: set(kept[member][: quota[member]]) for member in claims}
    free = sorted(partitions.difference(*dealt.values()))
    for member in sorted(claims):
        while len(dealt[member]) < quota[member]:
            dealt[member].add(free.pop(0))
    return dealt


def _claim(user_data: bytes) -> Claim:
    if not user_data:
        return NO_CLAIM
    said = orjson.loads(user_data)
    return frozenset(said["owned"]), said["generation"]
