"""All producers of Seatflow: idempotent and transactional ones, with their settings in one place.

Compression is snappy everywhere: aiokafka compresses in the thread that computes, and its lz4 has a
fixed level that takes nine times as long for a sixth less. docs/performance.md has the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from streams.contract.topics import MIB
from streams.kafka.connect import start_with_retry
from streams.runtime.settings import Settings, client_options

COMPRESSION: Final = "snappy"
BATCH_BYTES: Final = MIB
MAX_REQUEST_BYTES: Final = 4 * MIB  # of an input topic's record, at most
TRANSACTION_TIMEOUT_MS: Final = 15_000


def idempotent_producer(client: Settings | Mapping[str, Any], **overrides: Any) -> AIOKafkaProducer:
    """Creates a producer whose retries write no duplicates.

    Args:
        client: the settings, or the client's options as :func:`client_options` returns them.
        overrides: further options of aiokafka's producer.
    """
    options: dict[str, Any] = {
        "enable_idempotence": True,
        "compression_type": COMPRESSION,
        "max_request_size": MAX_REQUEST_BYTES,
        **(client_options(client) if isinstance(client, Settings) else client),
        **overrides,
    }
    return AIOKafkaProducer(**options)


def transactional_producer(
    settings: Settings, transactional_id: str, **overrides: Any
) -> AIOKafkaProducer:
    """Creates a producer of transactions; starting it fences every earlier one of the same id."""
    options: dict[str, Any] = {
        "transactional_id": transactional_id,
        "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS,
        "linger_ms": 0,
        "max_batch_size": BATCH_BYTES,
        "compression_type": COMPRESSION,
        **overrides,
    }
    return AIOKafkaProducer(**client_options(settings), **options)


async def start_transactional_producer(
    settings: Settings, transactional_id: str, timeout_seconds: float
) -> Any:
    """Returns a started producer, which has fenced every earlier one of the same id.

    Raises:
        KafkaConnectionError: if no broker answers within the timeout.
    """
    return await start_with_retry(
        lambda: transactional_producer(settings, transactional_id), timeout_seconds
    )
