"""The settings of topics on a broker: as the table says, also on topics that existed before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaProducer, errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.contract.topics import INPUTS, MENDED, TOPICS
from streams.kafka.topic_admin import UNBOUNDED, check_topics, create_topics
from streams.runtime.settings import load_settings
from tests.support.kafka import Kafka, read_topic
from tests.support.kafka import create_topics as create_plain_topics


def test_inputs_have_the_brokers_clock_and_no_packed_batches() -> None:
    for topic in INPUTS:
        assert topic.config["message.timestamp.type"] == "LogAppendTime"
        assert topic.config["compression.type"] == "uncompressed"
        assert all(setting in topic.config for setting in MENDED[:2])


async def _until_set(bootstrap: str, topic: str) -> dict[str, Any]:
    """Returns the topic's settings once a broker knows of the change, which the controller made."""
    async with asyncio.timeout(15):
        while True:
            config = await _settings_of(bootstrap, topic)
            if config["message.timestamp.type"] == "LogAppendTime":
                return config
            await asyncio.sleep(0.1)


async def _settings_of(bootstrap: str, topic: str) -> dict[str, Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = await admin.describe_configs([resource])
        return {entry[0]: entry[1] for entry in response.resources[0][4]}
    finally:
        await admin.close()


@pytest.mark.kafka
async def test_topics_that_exist_are_mended_and_keep_their_own_settings(
    kafka: Kafka, topic_prefix: str
) -> None:
    settings = load_settings(
        _env_file=None, brokers=kafka.bootstrap, topic_prefix=topic_prefix, partitions=1
    )
    name = topic_prefix + "user-changes"
    own = {"retention.ms": "7200000", "cleanup.policy": "delete"}
    await create_plain_topics(kafka.bootstrap, name, config=own)
    report = await create_topics(settings)
    assert report.mended == [
        f"{name}: message.timestamp.type was CreateTime, now LogAppendTime",
        f"{name}: compression.type was producer, now uncompressed",
    ]
    assert not report.problems
    config = await _until_set(kafka.bootstrap, name)
    assert config["compression.type"] == "uncompressed"
    assert config["retention.ms"] == "7200000"
    created = await _settings_of(kafka.bootstrap, topic_prefix + "tenants")
    assert created["message.timestamp.type"] == "LogAppendTime"
    assert created["max.compaction.lag.ms"] == "604800000"
    assert (await create_topics(settings)).mended == []


@pytest.mark.kafka
async def test_a_worker_warns_of_topics_with_a_producers_clock(
    kafka: Kafka, topic_prefix: str
) -> None:
    settings = load_settings(
        _env_file=None, brokers=kafka.bootstrap, topic_prefix=topic_prefix, partitions=1
    )
    await create_plain_topics(kafka.bootstrap, topic_prefix + "user-changes")
    report = await create_topics(settings)
    assert report.mended
    await _until_set(kafka.bootstrap, topic_prefix + "user-changes")
    with structlog.testing.capture_logs() as logs:
        await check_topics(settings)
    assert not logs
    own = topic_prefix + "own."
    settings = settings.model_copy(update={"topic_prefix": own})
    await create_plain_topics(kafka.bootstrap, *(own + topic.name for topic in TOPICS))
    with structlog.testing.capture_logs() as logs:
        await check_topics(settings)
    assert {log["event"] for log in logs} == {"topic_unsafe"}
    assert any("message.timestamp.type is CreateTime" in log["why"] for log in logs)


@pytest.mark.kafka
async def test_what_was_replaced_or_deleted_is_compacted_in_time(
    kafka: Kafka, topic_prefix: str
) -> None:
    """An existing topic without a bound gets one; the operator's own bound stays."""
    settings = load_settings(
        _env_file=None,
        brokers=kafka.bootstrap,
        topic_prefix=topic_prefix,
        partitions=1,
        compaction_lag=3600,
    )
    unbounded, own = topic_prefix + "user-licenses", topic_prefix + "changelog"
    policy = {"cleanup.policy": "compact"}
    await create_plain_topics(kafka.bootstrap, unbounded, config=policy)
    days = {"max.compaction.lag.ms": "86400000"}
    await create_plain_topics(kafka.bootstrap, own, config=policy | days)
    report = await create_topics(settings)
    assert report.mended == [f"{unbounded}: max.compaction.lag.ms was {UNBOUNDED}, now 3600000"]
    assert not report.problems
    assert (await _settings_of(kafka.bootstrap, own)).items() >= days.items()
    results = await _settings_of(kafka.bootstrap, topic_prefix + "results")
    assert results["max.compaction.lag.ms"] == UNBOUNDED


@pytest.mark.kafka
async def test_a_batch_that_unpacks_to_more_than_a_worker_reads_is_refused_by_the_broker(
    kafka: Kafka, topic_prefix: str
) -> None:
    """40 MiB of zeros in 40 kB: the producer gets the error, and the log stays as it was."""
    settings = load_settings(
        _env_file=None, brokers=kafka.bootstrap, topic_prefix=topic_prefix, partitions=1
    )
    await create_topics(settings)
    topic = topic_prefix + "user-changes"
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type="gzip", max_request_size=64 << 20
    )
    await producer.start()
    try:
        with pytest.raises(errors.KafkaError) as refusal:
            await producer.send_and_wait(topic, bytes(40 << 20), b"contoso/u1", partition=0)
        assert isinstance(
            refusal.value, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError
        )
        await producer.send_and_wait(topic, b"{}", b"contoso/u1", partition=0)
    finally:
        await producer.stop()
    (record,) = await read_topic(kafka.bootstrap, topic)
    assert record.value == b"{}"
