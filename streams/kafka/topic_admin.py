"""Creation and checking of the topics of ``streams/contract/topics.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.contract.topics import TOPICS, Topic
from streams.kafka.closing import close_with_timeout
from streams.kafka.connect import start_with_retry
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError, log
from streams.runtime.log_events import BROKER_AWAITED
from streams.runtime.settings import Settings, client_options

START_TIMEOUT_SECONDS = 30.0
REQUEST_TIMEOUT_MS = 20_000
LEADERS_TIMEOUT_SECONDS = 10.0

HIDDEN = "; or this user may not see them (docs/security.md, Rights)"
SECURE = (
    "; or it refuses the certificates or the password of the SEATFLOW_SSL_… and SASL_… settings"
)


@dataclass(slots=True)
class TopicsReport:
    """The outcome of ``create_topics``; topics by their full names."""

    created: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


async def create_topics(settings: Settings) -> TopicsReport:
    """Creates missing topics and checks existing ones; safe to repeat, also concurrently.

    Raises:
        WorkerError: if no broker answers.
    """
    report = TopicsReport()
    async with _admin(settings) as admin:
        report.found = list(await _partition_counts(admin, settings))
        missing = [t for t in TOPICS if settings.topic_prefix + t.name not in report.found]
        if missing:
            await _create(admin, settings, missing, report)
        report.problems += _wrong_counts(await _partition_counts(admin, settings), settings)
        report.problems += await _wrong_cleanup(admin, settings, report.found)
    return report


async def check_topics(settings: Settings, topics: Iterable[Topic] = TOPICS) -> None:
    """Checks that a worker can run on the existing topics.

    Raises:
        WorkerError: if a topic is missing or has another number of partitions.
    """
    async with _admin(settings) as admin:
        counts = await _partition_counts(admin, settings)
    missing = [t.name for t in topics if settings.topic_prefix + t.name not in counts]
    if missing:
        hidden = "" if settings.security_protocol == "PLAINTEXT" else HIDDEN
        raise WorkerError(
            f"{len(missing)} topics are missing (first {settings.topic_prefix}{missing[0]}):"
            f" make them with `seatflow topics create`{hidden}",
            CONFIGURATION,
        )
    if wrong := _wrong_counts(counts, settings):
        raise WorkerError(
            wrong[0] + (f" (and {len(wrong) - 1} more)" if wrong[1:] else ""), CONFIGURATION
        )


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[Any]:
    """Yields an admin client; waits for a broker that is just starting.

    Raises:
        WorkerError: if no broker answers in time.
    """
    warned = False

    def warn() -> None:
        nonlocal warned
        if not warned:
            log.warning(BROKER_AWAITED, brokers=settings.brokers, at_most=START_TIMEOUT_SECONDS)
        warned = True

    try:
        admin = await start_with_retry(
            lambda: AIOKafkaAdminClient(
                **client_options(settings), request_timeout_ms=REQUEST_TIMEOUT_MS
            ),
            START_TIMEOUT_SECONDS,
            errors.KafkaError,
            warn,
        )
    except errors.KafkaError as error:
        secure = "" if settings.security_protocol == "PLAINTEXT" else SECURE
        raise WorkerError(
            f"no broker answers at {settings.brokers} (SEATFLOW_BROKERS): {error}{secure}",
            TEMPORARY,
        ) from None
    try:
        yield admin
    finally:
        await close_with_timeout(admin.close())


async def _partition_counts(admin: Any, settings: Settings) -> dict[str, int]:
    """Returns the partition counts of the existing topics of the table, by full name."""
    ours = {settings.topic_prefix + topic.name for topic in TOPICS}
    return {
        found["topic"]: len(found["partitions"])
        for found in await admin.describe_topics()
        if found["topic"] in ours and not found["error_code"]
    }


def new_topic(topic: Topic, settings: Settings) -> NewTopic:
    """Returns the request to create a topic as the table defines it."""
    return NewTopic(
        settings.topic_prefix + topic.name,
        settings.partitions,
        settings.replication,
        topic_configs={
            "cleanup.policy": topic.cleanup,
            **{name: str(value) for name, value in topic.config.items()},
        },
    )


async def _create(
    admin: Any, settings: Settings, topics: Iterable[Topic], report: TopicsReport
) -> None:
    response = await admin.create_topics([new_topic(topic, settings) for topic in topics])
    for name, code, *message in response.topic_errors:
        if code == 0:
            report.created.append(name)
        elif errors.for_code(code) is errors.TopicAlreadyExistsError:
            report.found.append(name)
        else:
            reason = message[0] if message and message[0] else errors.for_code(code).__name__
            report.problems.append(f"{name} could not be created: {reason}")
    await _until_led(admin, settings, report.created)


async def _until_led(admin: Any, settings: Settings, names: Iterable[str]) -> None:
    """Waits until every partition of the new topics has a leader, so that clients can use them."""
    waiting, deadline = set(names), Deadline(LEADERS_TIMEOUT_SECONDS)
    while not deadline.has_passed:
        for topic in await admin.describe_topics():
            led = [p for p in topic["partitions"] if p["leader"] >= 0 and not p["error_code"]]
            if len(led) == settings.partitions:
                waiting.discard(topic["topic"])
        if not waiting:
            return
        await asyncio.sleep(0.1)


def _wrong_counts(counts: Mapping[str, int], settings: Settings) -> list[str]:
    return [
        f"{name} has {count} partitions, but SEATFLOW_PARTITIONS is {settings.partitions}"
        for name, count in counts.items()
        if count != settings.partitions
    ]


async def _wrong_cleanup(admin: Any, settings: Settings, names: Iterable[str]) -> list[str]:
    wanted = {settings.topic_prefix + topic.name: topic.cleanup for topic in TOPICS}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, configs={"cleanup.policy": None})
        for name in names
    ]
    problems = []
    for response in await admin.describe_configs(resources) if resources else ():
        for _, _, _, name, entries in response.resources:
            policy = {entry[0]: entry[1] for entry in entries}.get("cleanup.policy", "")
            if set(policy.split(",")) != set(wanted[name].split(",")):
                problems.append(f"{name} has cleanup.policy={policy}, but {wanted[name]} is needed")
    return problems
