"""Feeds: files in the formats of the ecosystem, as records for the input topics."""

from streams.ingest.items import Feed, FeedError, FeedItem, FeedProblem
from streams.ingest.jsonl import events_from_jsonl
from streams.ingest.product_catalog import events_from_catalog
from streams.ingest.publisher import FeedResult, partition_of, publish, write

__all__ = [
    "Feed",
    "FeedError",
    "FeedItem",
    "FeedProblem",
    "FeedResult",
    "events_from_catalog",
    "events_from_jsonl",
    "partition_of",
    "publish",
    "write",
]
