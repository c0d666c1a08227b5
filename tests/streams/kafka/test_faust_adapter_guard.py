"""Fails when a library changes what ``streams/kafka/faust_adapter`` relies on.

Before an upgrade: read the diff of everything named here, run the Kafka tests, then change
``VERSIONS``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher, group_coordinator
from aiokafka.producer import message_accumulator, sender
from faust.app import base as app
from faust.tables import recovery
from faust.transport import conductor, consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage
from mode import threads

from streams.kafka.faust_adapter.private_names import ASSIGNED, PRIVATE, VERSIONS

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "streams" / "kafka" / "faust_adapter"


@pytest.mark.parametrize(("package", "pinned"), VERSIONS.items())
def test_the_version_is_the_one_that_was_read(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize(("owner", "name"), PRIVATE)
def test_the_name_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone"


@pytest.mark.parametrize(("owner", "name"), ASSIGNED)
def test_the_attribute_is_assigned(owner: Any, name: str) -> None:
    assert re.search(rf"self\.{name}\b[^=\n]* = ", inspect.getsource(owner)), f"{owner}.{name}"


def _private_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            yield node.attr


def _own_names(tree: ast.AST) -> Iterator[str]:
    """Yields the names that the package itself defines: methods, and attributes of ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def test_every_private_name_is_listed() -> None:
    trees = [ast.parse(path.read_text()) for path in PACKAGE.glob("*.py")]
    used = {name for tree in trees for name in _private_names(tree)}
    own = {name for tree in trees for name in _own_names(tree)}
    listed = {name for _, name in (*PRIVATE, *ASSIGNED)}
    assert used - own <= listed


def test_no_private_name_hides_in_a_string() -> None:
    """``getattr(x, "_name", default)`` would go on silently after a library renamed it."""
    for path in (ROOT / "streams").rglob("*.py"):
        hidden = re.findall(r"""getattr\([^()]*,\s*["']_[a-z]\w*["']""", path.read_text())
        assert not hidden, path


@pytest.mark.parametrize(
    ("where", "what"),
    [
        # The fetcher runs the consumer's drain loop, and nothing else asks for records.
        (consumer.Fetcher, "await consumer._drain_messages(self)"),
        (consumer.ThreadDelegateConsumer, "self._thread = self._new_consumer_thread()"),
        (consumer.Consumer, "can_resume_flow"),
        (threads.ServiceThread, "self.thread_loop = thread_loop or asyncio.new_event_loop()"),
        # The thread makes its consumer when it starts, in its own loop.
        (driver.AIOKafkaConsumerThread.on_start, "self._create_consumer(loop=self.thread_loop)"),
        (driver.AIOKafkaConsumerThread._create_consumer, "self._create_worker_consumer(transport)"),
        (driver.ConsumerRebalanceListener, "await self._thread.on_partitions_assigned("),
        # Rebalances: what is dropped on the way, and that Faust seeks with perform_seek only.
        (app.App._on_partitions_revoked, "self.flow_control.clear"),
        (recovery.Recovery._resume_streams, "consumer.perform_seek()"),
        (recovery.Recovery._resume_streams, "consumer.resume_flow()"),
        # The conductor hands on what the drain loop gives it, undecoded by the raw codec.
        (conductor.Conductor, "return await callback(message)"),
        # The transport and the boot strategy are ours to choose.
        (app.App, "self.boot_strategy = self.BootStrategy(self)"),
        (app.BootStrategy, "enable_kafka_producer"),
        # aiokafka: a position is that of the records just taken, and is read without waiting.
        (fetcher.FetchResult.getall, "self._update_position()"),
        # Records as they are parsed go through, and the loop over them may be the parser's own.
        (fetcher.FetchResult.getall, "for msg in self._partition_records"),
        (fetcher.PartitionRecords, "self._records_iterator = self._unpack_records()"),
        (fetcher.PartitionRecords._unpack_records, "consumer_record = self._consumer_record("),
        (fetcher.Fetcher, "partition_records = PartitionRecords("),
        (AIOKafkaConsumer.position, "return tp_state.position"),
        (fetcher.Fetcher.seek_to, "del self._records[tp]"),
        (fetcher.Fetcher._get_actions_per_node, "elif tp_state.paused:"),
        # aiokafka: the assignment may be extended before anybody acts on it.
        (
            group_coordinator.GroupCoordinator._on_join_complete,
            "assign_from_subscribed(assignment.partitions())\n        # The await",
        ),
        (
            group_coordinator.GroupCoordinator._on_join_complete,
            "assignor.on_assignment(assignment)\n\n        # We need to start this task",
        ),
        # aiokafka: callbacks' exceptions are swallowed, heartbeats wait for the second one.
        (group_coordinator.GroupCoordinator._on_join_complete, "log.exception("),
        (group_coordinator.GroupCoordinator.ensure_active_group, "self._start_heartbeat_task()"),
        # aiokafka: an idempotent producer retries for ever, a commit does not ask its batches.
        (sender.SendProduceReqHandler._can_retry, "return error.retriable"),
        (sender.Sender._do_txn_commit, "flush_for_commit()"),
        (AIOKafkaProducer.__init__, "self._sender = Sender("),
        (sender.Sender, "def sender_task(self)"),
        (sender.EndTxnHandler.handle_response, "raise ProducerFenced()"),
        (message_accumulator.MessageAccumulator.add_batch, "return asyncio.shield(batch.future)"),
        (AIOKafkaProducer.commit_transaction, "wait_for_transaction_end()"),
    ],
)
def test_the_code_does_what_it_did(where: Any, what: str) -> None:
    assert what in inspect.getsource(where)


def test_a_message_has_the_fields_that_are_filled() -> None:
    given = list(inspect.signature(ConsumerMessage.__init__).parameters)[1:]
    assert given[:12] == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "headers",
        "key",
        "value",
        "checksum",
        "serialized_key_size",
        "serialized_value_size",
        "tp",
    ]
    assert "generation_id" in given
