"""Creation and checking of the topics of ``streams/contract/topics.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.contract.topics import ADDED, MENDED, TOPICS, Topic
from streams.kafka.closing import close_with_timeout
from streams.kafka.connect import start_with_retry
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION, TEMPORARY, WorkerError, log
from streams.runtime.log_events import BROKER_AWAITED, TOPIC_UNSAFE, TOPICS_CHECKED
from streams.runtime.settings import Settings, client_options

START_TIMEOUT_SECONDS = 30.0
REQUEST_TIMEOUT_MS = 20_000
LEADERS_TIMEOUT_SECONDS = 10.0
COMPACTION_LAG = "max.compaction.lag.ms"
UNBOUNDED = str((1 << 63) - 1)  # Kafka's default of that setting
OWN_SETTING = 1  # DYNAMIC_TOPIC_CONFIG in Kafka: set on the topic, not a default

HIDDEN = "; or this user may not see them (docs/security.md, Rights)"
SECURE = (
    "; or it refuses the certificates or the password of the SEATFLOW_SSL_… and SASL_… settings"
)


@dataclass(slots=True)
class TopicsReport:
    """The outcome of ``create_topics``; topics by their full names."""

    created: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)  # sentences
    problems: list[str] = field(default_factory=list)


async def create_topics(settings: Settings) -> TopicsReport:
    """Creates missing topics, checks existing ones and mends their settings; safe to repeat.

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
        configs = await _configs(admin, report.found)
        report.problems += _wrong_cleanup(configs, settings)
        await _mend(admin, settings, configs, report)
    return report


async def list_topics(settings: Settings) -> dict[str, int | None]:
    """Returns the partitions of each topic of the table, by full name; None if it is missing.

    Raises:
        WorkerError: if no broker answers.
    """
    async with _admin(settings) as admin:
        counts = await _partition_counts(admin, settings)
    names = [settings.topic_prefix + topic.name for topic in TOPICS]
    return {name: counts.get(name) for name in names}


async def check_topics(settings: Settings, topics: Iterable[Topic] = TOPICS) -> None:
    """Checks that a worker can run on the existing topics; warns of settings to be mended.

    Where only topics are missing that the earlier release did not have, an upgrade is under way:
    they are created, if this user may.

    Raises:
        WorkerError: if a topic is missing or has another number of partitions.
    """
    async with _admin(settings) as admin:
        counts = await _partition_counts(admin, settings)
        new = [t for t in topics if settings.topic_prefix + t.name not in counts]
        if new and all(topic.name in ADDED for topic in new):
            report = TopicsReport()
            await _create(admin, settings, new, report)
            await until_led(admin, settings, report.found)  # of another worker that starts
            if made := len(report.created):
                of = {"brokers": settings.brokers, "partitions": settings.partitions}
                log.info(TOPICS_CHECKED, made=made, found=len(counts), **of)
            counts = await _partition_counts(admin, settings)
        configs = await _configs(admin, counts)
    for name, setting, found, wanted in _unsafe(configs, settings):
        remedy = f"but {wanted} is needed: run `seatflow topics create`"
        log.warning(TOPIC_UNSAFE, why=f"{name}: {setting} is {found}, {remedy}")
    missing = [t.name for t in topics if settings.topic_prefix + t.name not in counts]
    if missing:
        hidden = "" if settings.security_protocol == "PLAINTEXT" else HIDDEN
        raise WorkerError(
            f"{len(missing)} topics are missing (first {settings.topic_prefix}{missing[0]}):"
            f" make them with `seatflow topics create`{hidden}",
            CONFIGURATION,
        )
    if wrong := _wrong_counts(counts, settings):
        raise WorkerError(wrong[0], CONFIGURATION)


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
    """Returns the request to create a topic as the table and the settings define it."""
    return NewTopic(
        settings.topic_prefix + topic.name,
        settings.partitions,
        settings.replication,
        topic_configs={"cleanup.policy": topic.cleanup, **_config(topic, settings)},
    )


def _config(topic: Topic, settings: Settings) -> dict[str, str]:
    """Returns the topic's settings beside its cleanup policy."""
    config = {name: str(value) for name, value in topic.config.items()}
    if "compact" in topic.cleanup:
        config[COMPACTION_LAG] = str(settings.compaction_lag * 1000)
    return config


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
    await until_led(admin, settings, report.created)


async def until_led(admin: Any, settings: Settings, names: Iterable[str]) -> None:
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
    """Returns a sentence if topics have another number of partitions than the setting says."""
    wrong = {name: count for name, count in counts.items() if count != settings.partitions}
    if not wrong:
        return []
    found = sorted(set(wrong.values()))
    first = next(iter(wrong))
    which = f"{len(wrong)} topics have" if len(wrong) > 1 else f"{first} has"
    if len(found) == 1 and len(wrong) == len(counts):
        remedy = f"set it to {found[0]}, since the number is fixed when the topics are created"
    else:
        remedy = (
            "all topics need the same number, which is fixed when they are created: delete those"
            f" that are wrong (first {first}), or name others with SEATFLOW_TOPIC_PREFIX"
        )
    return [
        f"{which} {' or '.join(map(str, found))} partitions, but SEATFLOW_PARTITIONS is"
        f" {settings.partitions}: {remedy}"
    ]


Configs = dict[str, dict[str, tuple[str, int]]]
"""By full name of the topic and name of the setting: the value, and its source."""


async def _configs(admin: Any, names: Iterable[str]) -> Configs:
    """Returns the settings of topics; a topic is missing that this user may not see."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    return {
        name: {entry[0]: (entry[1] or "", entry[3]) for entry in entries}
        for response in (await admin.describe_configs(resources) if resources else ())
        for error, _, _, name, entries in response.resources
        if not error
    }


def _wrong_cleanup(configs: Configs, settings: Settings) -> Iterator[str]:
    wanted = {settings.topic_prefix + topic.name: topic.cleanup for topic in TOPICS}
    for name, config in configs.items():
        policy, _ = config.get("cleanup.policy", ("", 0))
        if set(policy.split(",")) != set(wanted[name].split(",")):
            yield f"{name} has cleanup.policy={policy}, but {wanted[name]} is needed"


def _unsafe(configs: Configs, settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """Yields the settings to be mended, as topic, setting, value found, value needed."""
    for topic in TOPICS:
        name = settings.topic_prefix + topic.name
        config = _config(topic, settings)
        for setting in MENDED:
            found, _ = configs.get(name, {}).get(setting, ("", 0))
            wanted = config.get(setting, found)
            if setting == COMPACTION_LAG and found != UNBOUNDED:
                continue  # a bound of the operator's own
            if found and found != wanted:
                yield name, setting, found, wanted


async def _mend(admin: Any, settings: Settings, configs: Configs, report: TopicsReport) -> None:
    """Sets the settings on which delivery and erasure rely.

    A request replaces all settings of a topic (KIP-133), so that it also carries those that the
    topic has of its own.
    """
    changes: dict[str, dict[str, str]] = {}
    sentences: dict[str, list[str]] = {}
    for name, setting, found, wanted in _unsafe(configs, settings):
        own = {key: text for key, (text, source) in configs[name].items() if source == OWN_SETTING}
        changes[name] = {**own, **changes.get(name, {}), setting: wanted}
        sentences.setdefault(name, []).append(f"{name}: {setting} was {found}, now {wanted}")
    resources = [ConfigResource(ConfigResourceType.TOPIC, n, c) for n, c in changes.items()]
    for response in await admin.alter_configs(resources) if resources else ():
        for code, message, _, name in response.resources:
            if code == 0:
                report.mended += sentences[name]
            else:
                reason = message or errors.for_code(code).__name__
                report.problems.append(f"{name} could not be mended: {reason}")
