"""The undocumented names of faust, mode and aiokafka that this package uses, with their versions.

``tests/streams/kafka/test_faust_adapter_guard.py`` fails when one of them changes or is missing
here. It also knows the lines of the libraries whose behaviour this package relies on.
"""

from __future__ import annotations

from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher, group_coordinator
from aiokafka.producer import message_accumulator, sender, transaction_manager
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from mode import Service
from mode.threads import ServiceThread

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

# Owner, name: attributes of classes, modules and finished objects.
PRIVATE: tuple[tuple[Any, str], ...] = (
    (fetcher, "PartitionRecords"),
    (fetcher, "MemoryRecords"),
    (message_accumulator.BatchBuilder(1, 0), "_builder"),
    (message_accumulator.BatchBuilder(1, 0), "_relative_offset"),
    (fetcher.PartitionRecords, "_consumer_record"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
    (driver.AIOKafkaConsumerThread, "on_partitions_assigned"),
    (driver.Consumer, "_new_consumer_thread"),
    (driver.Consumer, "_drain_messages"),
    (driver.Consumer, "on_partitions_revoked"),
    (driver.Consumer, "on_partitions_assigned"),
    (driver.Consumer, "perform_seek"),
    (driver.Consumer, "commit"),
    (driver.Consumer, "force_commit"),
    (driver.Consumer, "track_message"),
    (driver.Consumer, "ack"),
    (driver.Consumer, "verify_all_partitions_active"),
    (driver.Transport, "Consumer"),
    (faust.App, "_new_transport"),
    (faust.App, "_create_directories"),
    (faust.App, "BootStrategy"),
)

# Owner, name: attributes that a constructor sets, so that only its source shows them.
ASSIGNED: tuple[tuple[Any, str], ...] = (
    (AIOKafkaProducer, "_sender"),
    (AIOKafkaProducer, "_txn_manager"),
    (transaction_manager.TransactionManager, "_transaction_waiter"),
    (sender.Sender, "_sender_task"),  # behind the property sender_task
    (AIOKafkaConsumer, "_coordinator"),
    (AIOKafkaConsumer, "_subscription"),
    (AIOKafkaConsumer, "_client"),
    (group_coordinator.GroupCoordinator, "_pending_exception"),
    (fetcher.PartitionRecords, "_records_iterator"),
    (driver.AIOKafkaConsumerThread, "_consumer"),
    (ThreadDelegateConsumer, "_thread"),
    (faust.App, "_consumer"),
    (Service, "_stopped"),
    (ServiceThread, "thread_loop"),
)
