"""A deleted user on a real broker: no record of any topic, and no file, keeps the name or the mail.

The broker's own share of the timeline of docs/security.md, with seconds instead of days.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from streams.contract.topics import TOPICS, Topic
from streams.kafka import topic_admin
from streams.local.broker import Broker
from streams.runtime.deadline import Deadline
from tests.support.system import Event, Events, System, running

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(150)]

ERASED_WITHIN_SECONDS = 60
BROKER = {
    "log.retention.check.interval.ms": 500,
    "log.cleaner.backoff.ms": 200,
    "log.segment.delete.delay.ms": 0,
}
SHORT_RETENTION = {"retention.ms": 2000, "segment.ms": 500, "delete.retention.ms": 500}
SECRET = b"secretname"


def _short(topic: Topic) -> Topic:
    """Returns the topic with a retention of seconds; the compaction lag is a setting."""
    config = dict(topic.config)
    if "delete" in topic.cleanup:
        config |= SHORT_RETENTION
    else:
        config["delete.retention.ms"] = SHORT_RETENTION["delete.retention.ms"]
    return dataclasses.replace(topic, config=config)


def _story(events: Events) -> list[Event]:
    """Returns events that leave the name wherever it can be: states, claims, dead letters."""
    mail = "secretname@contoso.example"
    known: dict[str, Any] = {
        "displayName": "Secretname",
        "userPrincipalName": mail,
        "mailNickname": "secretname",
        "proxyAddresses": [f"SMTP:{mail}", "smtp:secretname.two@contoso.example"],
    }
    topic, key, value = events.user("u1", **known)
    return [
        events.product("e3"),
        events.seats("e3", 10),
        events.license("sales", "e3"),
        (topic, key, value),
        events.join("u1", "sales"),
        events.assign("u1", "e3"),
        events.user("u2", proxyAddresses=["SMTP:u2@contoso.example"]),
        (topic, key, json.dumps({**json.loads(value), "usageLocation": "nowhere"}).encode()),
    ]


def _traffic(events: Events, turn: int) -> list[Event]:
    """Returns events of somebody else that write to every topic, so that its segments roll."""
    user = f"other{turn % 3}"
    return [
        events.user(user, displayName=f"n{turn}", proxyAddresses=[f"SMTP:a{turn}@contoso.example"]),
        events.join(user, "sales"),
        events.assign(user, "e3"),
        events.leave(user, "sales"),
        events.product("e3"),
        events.seats("e3", 10 + turn % 2),
        events.tenant_settings(usageLocation=("US", "DE")[turn % 2]),
        events.license(f"g{turn % 3}", "e3"),
        ("user-changes", f"contoso/{user}", b"not an event"),
    ]


def _files_with_the_name(data: Path, prefix: str) -> list[str]:
    found = []
    for folder in data.rglob(f"{prefix}*"):
        for file in folder.iterdir() if folder.is_dir() else ():
            try:
                content = file.read_bytes().lower()
            except FileNotFoundError:  # the broker removes segments meanwhile
                continue
            if SECRET in content:
                found.append(f"{folder.name}/{file.name}")
    return found


def _records_with_the_name(system: System) -> set[str]:
    found = set()
    for topic in TOPICS:
        for record in system.records(topic.name, "read_uncommitted"):
            headers = b"".join(value or b"" for _, value in record.headers)
            if SECRET in ((record.key or b"") + (record.value or b"") + headers).lower():
                found.add(topic.name)
    return found


def test_no_topic_and_no_file_keeps_a_deleted_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_admin, "TOPICS", tuple(map(_short, TOPICS)))
    monkeypatch.setenv("SEATFLOW_COMPACTION_LAG", "1")
    with Broker(0, tmp_path, BROKER) as broker, running(broker.bootstrap, partitions=1) as system:
        system.worker()
        events = Events()
        system.publish(_story(events))
        system.settle()
        had = _records_with_the_name(system)
        assert {"user-changes", "user-licenses", "changelog", "dead-letters"} <= had
        system.publish([events._of_user("u1", "user.deleted")])
        deadline = Deadline(ERASED_WITHIN_SECONDS)
        for turn in itertools.count():
            system.publish(_traffic(events, turn))
            system.settle()
            # Records are compressed: the bytes of a file show a name only where it stands first.
            left = _files_with_the_name(tmp_path, system.prefix)
            left = left or sorted(_records_with_the_name(system))
            if not left:
                break
            assert not deadline.has_passed, left
        assert system.workers[0].stop() == 0
        assert SECRET not in "\n".join(system.workers[0].lines).encode().lower()
