"""`seatflow dead-letters` on a real Kafka: shown, mended, sent again, and applied."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kafka import Kafka, latest
from tests.support.system import Event, Events, System, running

USERS = ("ann", "bob", "cem")


@pytest.fixture(scope="module")
def system(kafka: Kafka) -> Iterator[System]:
    with running(kafka.bootstrap) as system:
        system.worker()
        yield system


def run(system: System, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    flags = ("--brokers", system.bootstrap, "--topic-prefix", system.prefix)
    return subprocess.run(
        [sys.executable, "-m", "streams", "dead-letters", *arguments, *flags],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def held(system: System, tenant: str) -> set[str]:
    """The users of the tenant who have a licence."""
    return {
        key.decode().partition("/")[2]
        for key, value in latest(system.records("user-licenses")).items()
        if key and key.startswith(f"{tenant}/".encode()) and json.loads(value)["assignedLicenses"]
    }


def spoilt(event: Event, **members: object) -> Event:
    topic, key, value = event
    return topic, key, json.dumps({**json.loads(value), **members}).encode()


def publish(system: System, tenant: str) -> None:
    """A tenant with one good user and two whose events are dead letters."""
    make = Events(tenant, tenant)
    sku = f"{tenant}-suite"
    good = [make.product(sku), make.seats(sku, 5), make.license("sales", sku)]
    joins = [make.join(user, "sales") for user in USERS]
    users = [make.user(user) for user in USERS]
    bad = [spoilt(users[1], usageLocation="usa"), spoilt(users[2], type="user.inserted")]
    system.publish([*good, *joins, users[0], *bad])
    system.settle()
    assert held(system, tenant) == {"ann"}


def test_letters_are_listed_by_code_tenant_topic_and_time(system: System) -> None:
    publish(system, "listed")
    everything = run(system, "list", "--tenant", "listed")
    assert everything.returncode == 0
    assert "2 dead letters." in everything.stderr
    assert "bad_member  user-changes" in everything.stdout
    assert "usageLocation is 'usa'" in everything.stdout
    one = run(system, "list", "--tenant", "listed", "--code", "unknown_type", "--json")
    (line,) = one.stdout.splitlines()
    letter = json.loads(line)
    assert (letter["code"], letter["topic"], letter["key"]) == (
        "unknown_type",
        "user-changes",
        "listed/cem",
    )
    assert letter["value"]["type"] == "user.inserted"
    assert "No dead letters" in run(system, "list", "--topic", "catalog").stderr
    assert "No dead letters" in run(system, "list", "--since", "2099-01-01T00:00:00Z").stderr
    assert "2 dead letters" in run(system, "list", "--tenant", "listed", "--since", "1h").stderr


def test_mended_letters_are_sent_after_a_question_and_applied(
    system: System, tmp_path: Path
) -> None:
    publish(system, "mended")
    listed = run(system, "list", "--tenant", "mended", "--json").stdout
    letters = [json.loads(line) for line in listed.splitlines()]
    letters[0]["value"]["usageLocation"] = "US"
    letters[1]["value"]["type"] = "user.upserted"
    file = tmp_path / "mended.jsonl"
    file.write_text("".join(json.dumps(letter) + "\n" for letter in letters))
    refused = run(system, "resend", str(file), stdin="n\n")
    assert refused.returncode == 1
    assert "Send 2 events again (2 to user-changes)?" in refused.stderr
    assert "Nothing was sent." in refused.stderr
    sent = run(system, "resend", str(file), stdin="y\n")
    assert sent.returncode == 0, sent.stderr
    assert "2 events sent." in sent.stderr
    system.settle()
    assert held(system, "mended") == set(USERS)


def test_a_repetition_changes_nothing(system: System, tmp_path: Path) -> None:
    """R24: its id is among the last 64 of the user."""
    publish(system, "again")
    letters = run(system, "list", "--tenant", "again", "--code", "bad_member", "--json").stdout
    file = tmp_path / "mended.jsonl"
    file.write_text(letters.replace('"usa"', '"US"'))
    for _ in range(2):
        assert run(system, "resend", str(file), "--yes").returncode == 0
        system.settle()
    records = [r for r in system.records("user-licenses") if r.key == b"again/bob"]
    assert json.loads(records[-1].value or b"")["revision"] == 1 == len(records)


def test_what_would_be_a_dead_letter_again_is_not_sent(system: System) -> None:
    publish(system, "unmended")
    ended = run(system, "resend", "--tenant", "unmended", "--yes")
    assert ended.returncode == 1
    assert "2 would be dead letters again:" in ended.stderr
    assert "usageLocation is 'usa'" in ended.stderr
    assert "Nothing to send." in ended.stderr


def test_mistakes_have_an_answer(system: System, tmp_path: Path) -> None:
    assert "wrong_key" in run(system, "list", "--code", "wrongkey").stderr
    assert "90m" in run(system, "list", "--since", "yesterday").stderr
    missing = run(system, "resend", str(tmp_path / "nowhere"))
    assert "cannot be read: No such file" in missing.stderr
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"value":1}\n')
    ended = run(system, "resend", str(bad), "--yes")
    assert ended.returncode == 1
    assert f"{bad}:1: value is neither" in ended.stderr
