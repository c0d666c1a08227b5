"""Sends records with confluent-kafka as it comes: ``confluent.py BROKERS < records.jsonl``."""

import importlib
import json
import sys
from typing import Any

failed: list[str] = []


def delivered(error: Any, _: Any) -> None:
    if error:
        failed.append(str(error))


producer = importlib.import_module("confluent_kafka").Producer({"bootstrap.servers": sys.argv[1]})
for line in sys.stdin:
    topic, key, value = json.loads(line)
    producer.produce(topic, value, key, on_delivery=delivered)
    producer.poll(0)
producer.flush(60)
sys.exit(failed[0] if failed else 0)
