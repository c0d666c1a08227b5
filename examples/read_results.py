"""Prints who has which licence, and each reason why not, from the output topic.

    python examples/read_results.py 127.0.0.1:9092

The topic is compacted: the last record of a key is the present state, and a record without a value
means that the user was deleted. Read only committed records: a worker writes in transactions.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def main(brokers: str, prefix: str = "licensing.") -> None:
    """Reads the topic to its present end and prints one line per licence."""
    users = {}
    async with AIOKafkaConsumer(
        prefix + "user-licenses",
        bootstrap_servers=brokers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    ) as consumer:
        partitions = list(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            # By position: the markers of transactions have offsets too, and are no records.
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(partition, timeout_ms=500)).values():
                    for record in records:
                        users[record.key.decode()] = record.value and json.loads(record.value)
    for key, user in sorted(users.items()):
        for state in user["licenseAssignmentStates"] if user else ():
            group = state["assignedByGroup"] or "direct"
            print(key, state["skuId"], group, state["state"], state.get("message", ""))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
