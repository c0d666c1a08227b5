"""Ingestion: input events from files (CSV, Graph, SCIM, Debezium, JSON Lines) and over HTTP.

May import ``contract``, ``kafka`` and ``catalog``. The formats that need an extra (SCIM, HTTP) are
imported from their modules, not from here.
"""

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
