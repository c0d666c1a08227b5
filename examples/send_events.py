"""Sends a user and a membership with an ordinary Kafka client.

    python examples/send_events.py 127.0.0.1:9092

The key is that of the object: `tenant/user`. Any client does with its default settings, whatever
its partitioner. `acks="all"` makes the broker confirm that the event is replicated.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiokafka import AIOKafkaProducer

EVENTS = [
    {"type": "user.upserted", "id": "hr-1", "user": "ann", "usageLocation": "US"},
    {"type": "membership.added", "id": "hr-2", "user": "ann", "group": "sales"},
]


async def main(brokers: str, prefix: str = "licensing.") -> None:
    """Sends the events and waits for the acknowledgement of the broker."""
    async with AIOKafkaProducer(bootstrap_servers=brokers, acks="all") as producer:
        for event in EVENTS:
            body = {"tenant": "contoso", **event}
            key = f"contoso/{event['user']}".encode()
            await producer.send_and_wait(prefix + "user-changes", json.dumps(body).encode(), key)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
