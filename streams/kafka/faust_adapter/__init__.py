"""Faust's worker with our delivery: the one package that uses private names of the libraries.

Stock Faust hands agents one event at a time, keeps its own account of what was acknowledged, and
commits it. Here a ``Transport`` hands them one ``Batch`` per partition and poll, progress is the
applied offsets in each partition's state, and the group's offsets serve lag tools only. Faust still
provides the app, the group membership in its own thread, rebalances and agents.

May import ``streams.runtime``, ``streams.contract`` and the rest of ``streams.kafka``.
"""

from streams.kafka.faust_adapter.consumer_thread import ConsumerThread
from streams.kafka.faust_adapter.faust_app import App, create_app
from streams.kafka.faust_adapter.producer_batch import (
    RecordBatch,
    sender_failure,
    transaction_failure,
)
from streams.kafka.faust_adapter.protocols import Batch, ConsumerHost

__all__ = [
    "App",
    "Batch",
    "ConsumerHost",
    "ConsumerThread",
    "RecordBatch",
    "create_app",
    "sender_failure",
    "transaction_failure",
]
