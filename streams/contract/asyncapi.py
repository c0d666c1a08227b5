"""The topics as AsyncAPI 3.0: keys, settings and the messages of streams/contract/schemas.py."""

from __future__ import annotations

from streams.contract.decoder import REGISTRY_PREFIX_BYTES
from streams.contract.schemas import MESSAGES, VERSION, Message, Schema
from streams.contract.topics import INPUTS, OUTPUTS, Topic


def asyncapi(prefix: str = "licensing.", partitions: int = 8) -> Schema:
    """Returns the AsyncAPI document: topics with their keys, settings and messages."""
    channels, operations = {}, {}
    for topic in (*INPUTS, *OUTPUTS):
        id = topic.name
        channels[id] = _channel(topic, prefix, partitions)
        sends = topic in OUTPUTS
        operations[("publish-" if sends else "read-") + id] = {
            "action": "send" if sends else "receive",
            "channel": {"$ref": f"#/channels/{id}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Seatflow",
            "version": f"{VERSION}.0.0",
            "description": "Group-based licensing as a stream processor. Seatflow receives the"
            " inputs and sends the outputs. All values are JSON. Inputs may be on any partition:"
            " what is not on that of its key (murmur2) is forwarded. A schema registry's prefix of"
            f" {REGISTRY_PREFIX_BYTES} bytes and CloudEvents 1.0 in both modes are read, too.",
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": {m.file.split(".v")[0]: _message(m) for m in MESSAGES}},
    }


def _channel(topic: Topic, prefix: str, partitions: int) -> Schema:
    listed = [m.file.split(".v")[0] for m in MESSAGES if m.topic == topic.name]
    if not listed:
        note = "The record as it came, with its key, and the headers dlq.topic, dlq.partition,"
        described = f"{note} dlq.offset, dlq.code and dlq.reason."
    else:
        described = " ".join(dict.fromkeys(m.summary for m in MESSAGES if m.topic == topic.name))
    names = ("max.message.bytes", "retention.ms")
    return {
        "address": prefix + topic.name,
        "description": described,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in listed},
        "bindings": {
            "kafka": {
                "partitions": partitions,
                "topicConfiguration": {
                    "cleanup.policy": topic.cleanup.split(","),
                    **{name: topic.config[name] for name in names if name in topic.config},
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(message: Message) -> Schema:
    return {
        "name": message.name,
        "summary": message.summary,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": {"title": message.title, **message.schema},
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": message.key},
                "bindingVersion": "0.5.0",
            },
        },
    }
