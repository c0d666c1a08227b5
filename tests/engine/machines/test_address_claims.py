"""Messages between users' partitions and the owners of addresses: from one entry to many."""

from __future__ import annotations

from engine.domain import events as ev
from engine.simulation.in_memory_cluster import InMemoryCluster

PARTITIONS = 2
USERS = 40


def test_partitions_that_have_heard_of_each_other_send_the_claims_of_a_slice_together() -> None:
    cluster = InMemoryCluster(PARTITIONS)

    def arrive(batch: str) -> dict[str, list[int]]:
        """Lets users with an address each arrive; returns the formats of the messages, by topic."""
        before = {place: len(log) for place, log in cluster.logs.items()}
        for n in range(USERS):
            user = f"{batch}{n}"
            event = ev.UserUpserted(f"e-{user}", "t", user, f"{user}@x", "US", f"{user}@y")
            cluster.publish("user-changes", f"t/{user}", event, 1)
        cluster.settle()
        found: dict[str, list[int]] = {}
        for (topic, p), log in sorted(cluster.logs.items()):
            if "address" in topic:
                messages = log[before.get((topic, p), 0) :]
                found.setdefault(topic, []).extend(message.event["format"] for message in messages)
        users = [u for m in cluster.machines for u in m.configuration.tenant("t").users.values()]
        assert not [user.id for user in users if user.waits]
        return found

    first = arrive("a")
    assert set(first["internal.address-claims"]) == {1, 2}  # 2 to the partition itself
    assert set(first["internal.address-verdicts"]) == {2}  # the claims say that it is read
    for topic, formats in arrive("b").items():
        assert set(formats) == {2}, topic
        assert len(formats) <= PARTITIONS * PARTITIONS, topic
