"""The minimal ACLs of each role at the brokers.

``docs/reference/acls.md`` is generated from this table; the security test grants exactly these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from streams.contract.topics import (
    ADDED,
    CHANGELOG,
    CONSUMED,
    DEAD_LETTERS,
    INPUT_NAMES,
    INTERNAL_NAMES,
    OUTPUT_NAMES,
    RECEIVED,
    TOPICS,
    USER_CHANGES,
)

TOPIC, GROUP, TRANSACTION = "topic", "group", "transactional-id"
READ, WRITE, DESCRIBE = "Read", "Write", "Describe"
CREATE, DESCRIBE_CONFIGS, ALTER_CONFIGS = "Create", "DescribeConfigs", "AlterConfigs"


class Grant(NamedTuple):
    """Operations on a resource; ``prefixed``: on all whose names begin so."""

    resource: str
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def _topics(names: tuple[str, ...], *operations: str) -> tuple[Grant, ...]:
    return tuple(Grant(TOPIC, f"{{prefix}}{name}", operations) for name in names)


_ALL = tuple(topic.name for topic in TOPICS)

ROLES: dict[str, tuple[Grant, ...]] = {
    "worker": (
        *_topics(INPUT_NAMES, READ, DESCRIBE, DESCRIBE_CONFIGS),
        *_topics(INTERNAL_NAMES, READ, WRITE, DESCRIBE),
        *_topics(ADDED, CREATE),
        *_topics(OUTPUT_NAMES, WRITE, DESCRIBE),
        *_topics((CHANGELOG.name,), READ, WRITE, DESCRIBE),
        Grant(GROUP, "{app}", (READ, DESCRIBE)),
        Grant(TRANSACTION, "{app}-", (WRITE, DESCRIBE), prefixed=True),
    ),
    "feed": _topics(INPUT_NAMES, WRITE, DESCRIBE),
    "reader": (
        *_topics(OUTPUT_NAMES, READ, DESCRIBE),
        *_topics(CONSUMED, DESCRIBE),
        Grant(GROUP, "{app}", (DESCRIBE,)),
    ),
    "console": (
        *_topics(INPUT_NAMES, READ, WRITE, DESCRIBE),
        *_topics(OUTPUT_NAMES, READ, DESCRIBE),
        *_topics(("audit",), WRITE),
        *_topics(INTERNAL_NAMES, DESCRIBE),
        Grant(GROUP, "{app}", (DESCRIBE,)),
        Grant(TRANSACTION, "{app}-console-", (WRITE, DESCRIBE), prefixed=True),
    ),
    "receiver": (
        *_topics(INPUT_NAMES, WRITE, DESCRIBE),
        *_topics((RECEIVED.name,), READ, WRITE, DESCRIBE, CREATE),
        Grant(TRANSACTION, "{app}-receiver", (WRITE, DESCRIBE)),
    ),
    "bridge": (
        Grant(TOPIC, "{source}", (READ, DESCRIBE)),
        *_topics((USER_CHANGES, DEAD_LETTERS), WRITE, DESCRIBE),
        Grant(GROUP, "{app}-{source}", (READ, DESCRIBE)),
        Grant(TRANSACTION, "{app}-{source}-bridge", (WRITE, DESCRIBE)),
    ),
    "topics": (*_topics(_ALL, CREATE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS),),
}
MEANING = {
    "worker": "`seatflow worker`",
    "feed": "`seatflow feed`, and whatever else sends events",
    "reader": "`seatflow status`, `seatflow read` of outputs, KEDA",
    "console": "`seatflow console`",
    "receiver": "`seatflow receive`",
    "bridge": "`seatflow feed debezium --topic`, here of a topic `hr.public.person`",
    "topics": "`seatflow topics create`",
}


def grants(role: str, prefix: str, app: str, source: str = "hr.public.person") -> Iterator[Grant]:
    """Yields the grants of a role with an installation's names; ``source`` is a topic to bridge."""
    for grant in ROLES[role]:
        yield grant._replace(name=grant.name.format(prefix=prefix, app=app, source=source))
