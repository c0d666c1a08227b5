"""Events of other partitions: forwarded by those who find them, applied by the owner of the key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
from structlog.testing import capture_logs

from engine.domain.partitioner import partition_of
from engine.partition_machine import PartitionMachine
from streams.contract.decoder import DECODERS
from streams.contract.topics import FORWARDED_EVENTS, INPUT_NAMES
from streams.kafka.dead_letters import DeadLetter
from streams.kafka.forwarding import ORIGIN, Forward
from streams.metrics.registry import WorkerMetrics
from streams.runtime.settings import load_settings
from streams.worker.forwarding_report import INTERVAL_SECONDS, ForwardingReport
from streams.worker.record_queues import RecordQueues
from streams.worker.record_reader import RecordReader

PARTITIONS = 4
USERS = [f"u{n}" for n in range(40)]
AT = 1_764_000_000_000


class Commits:
    """Takes what a reader adds to the next transaction."""

    def __init__(self) -> None:
        self.forwarded: list[Forward] = []
        self.letters: list[DeadLetter] = []
        self.timestamps: list[int] = []
        self.add_forwarded = self.forwarded.extend
        self.add_dead_letters = self.letters.extend
        self.add_input_timestamps = self.timestamps.extend


class Partition:
    """A machine with its reader, as a partition of a worker has them."""

    def __init__(self, number: int) -> None:
        self.metrics, self.commits = WorkerMetrics(), Commits()
        context: Any = SimpleNamespace(
            settings=load_settings(_env_file=None, partitions=PARTITIONS, topic_prefix="t."),
            metrics=self.metrics,
            decoders=DECODERS,
        )
        commits: Any = self.commits
        self.reader = RecordReader(number, context, commits)
        self.machine = PartitionMachine(number, PARTITIONS)

    def handle(self, topic: str, records: list[Any]) -> None:
        for part in self.reader.read(topic, records):
            self.reader.handled(part, self.machine.handle(part.topic, part.batch).misrouted)

    @property
    def users(self) -> list[str]:
        tenant = self.machine.configuration.tenants.get("contoso")
        return list(tenant.users) if tenant else []


def record(
    offset: int, key: str, body: dict[str, Any], at: int = AT, headers: Any = ()
) -> SimpleNamespace:
    value = orjson.dumps({"id": f"e{offset}", "tenant": "contoso", **body})
    return SimpleNamespace(
        offset=offset, timestamp=at, key=key.encode(), value=value, headers=headers
    )


def joins(offset: int, user: str, group: str, at: int = AT) -> SimpleNamespace:
    body = {"type": "membership.added", "user": user, "group": group}
    return record(offset, f"contoso/{user}", body, at)


def delivered(events: list[Forward], start: int = 0) -> list[Any]:
    """The records of the internal topic, as their reader gets them."""
    return [
        SimpleNamespace(
            offset=start + n, timestamp=AT + 5, key=e.key, value=e.value, headers=e.headers
        )
        for n, e in enumerate(events)
    ]


def test_an_event_is_applied_by_the_owner_of_its_key_only() -> None:
    finder = Partition(0)
    finder.handle("user-changes", [joins(n, user, "g") for n, user in enumerate(USERS)])
    mine = [user for user in USERS if partition_of(f"contoso/{user}", PARTITIONS) == 0]
    assert finder.users == mine
    assert not finder.commits.letters
    assert len(finder.commits.forwarded) == len(USERS) - len(mine)
    for number in range(1, PARTITIONS):
        owner = Partition(number)
        sent = [each for each in finder.commits.forwarded if each.partition == number]
        owner.handle(FORWARDED_EVENTS, delivered(sent))
        assert owner.users == [each.key.decode().partition("/")[2] for each in sent]
        assert not owner.commits.forwarded
        assert not owner.commits.letters


def test_each_event_is_counted_once() -> None:
    finder = Partition(0)
    finder.handle("user-changes", [joins(n, user, "g") for n, user in enumerate(USERS)])
    found = len(finder.users)
    counts = finder.metrics.counts
    assert counts["events_forwarded"] == {"user-changes": len(USERS) - found}
    assert sum(counts["events"].values()) == found == len(finder.commits.timestamps)
    owner = Partition(1)
    sent = [each for each in finder.commits.forwarded if each.partition == 1]
    owner.handle(FORWARDED_EVENTS, delivered(sent))
    assert sum(owner.metrics.counts["events"].values()) == len(sent)
    assert owner.commits.timestamps == [AT] * len(sent)


def test_the_order_of_the_partition_where_they_were_found_and_their_time_are_kept() -> None:
    user = next(u for u in USERS if partition_of(f"contoso/{u}", PARTITIONS) == 1)
    finder, owner = Partition(0), Partition(1)
    finder.handle("user-changes", [joins(n, user, f"g{n}", AT + 3 - n) for n in range(3)])
    finder.handle("user-changes", [joins(3, user, "g3", AT)])
    owner.handle(FORWARDED_EVENTS, delivered(finder.commits.forwarded))
    direct = Partition(1)
    direct.handle("user-changes", [joins(n, user, f"g{n}", AT + 3 - n) for n in range(4)])
    forwarded, produced = (
        p.machine.configuration.tenants["contoso"].users[user].memberships()
        for p in (owner, direct)
    )
    assert forwarded == produced
    assert len(forwarded) == 4


def test_a_repetition_is_recognised_on_any_way() -> None:
    """R24: the event arrives forwarded, and again from its own partition."""
    user = next(u for u in USERS if partition_of(f"contoso/{u}", PARTITIONS) == 1)
    finder, owner = Partition(0), Partition(1)
    finder.handle("user-changes", [joins(5, user, "g")])
    owner.handle(FORWARDED_EVENTS, delivered(finder.commits.forwarded * 2))
    owner.handle("user-changes", [joins(5, user, "g")])
    assert owner.machine.counters["duplicates"] == 2


def test_events_of_all_inputs_are_forwarded() -> None:
    product = {"type": "product.defined", "skuId": "e3", "servicePlans": []}
    units = {"type": "subscription.updated", "skuId": "e3", "prepaidUnits": {"enabled": 1}}
    wanted = {
        "catalog": record(0, "e3", product | {"tenant": None}),
        "tenants": record(1, "contoso", {"type": "tenant.updated"}),
        "subscriptions": record(2, "contoso/e3", units),
        "group-changes": record(3, "contoso/g", {"type": "group.deleted", "group": "g"}),
        "user-changes": joins(4, "ann", "g"),
    }
    assert set(wanted) == set(INPUT_NAMES)
    for topic, each in wanted.items():
        owner = partition_of(each.key, PARTITIONS)
        finder = Partition((owner + 1) % PARTITIONS)
        finder.handle(topic, [each])
        (sent,) = finder.commits.forwarded
        assert sent.partition == owner
        there = Partition(owner)
        there.handle(FORWARDED_EVENTS, delivered([sent]))
        assert sum(there.metrics.counts["events"].values()) == 1, topic


def test_events_that_cannot_be_read_are_dead_letters_where_they_are_found() -> None:
    finder = Partition(0)
    wrong = next(u for u in USERS if partition_of(f"contoso/{u}", PARTITIONS) != 0)
    bad = joins(1, wrong, "g")
    bad.key = b"contoso/somebody.else"
    finder.handle("user-changes", [joins(0, wrong, ""), bad])
    assert not finder.commits.forwarded
    codes = [dict(letter.headers)["dlq.code"] for letter in finder.commits.letters]
    assert codes == [b"bad_member", b"wrong_key"]


def test_nothing_is_forwarded_twice() -> None:
    user = next(u for u in USERS if partition_of(f"contoso/{u}", PARTITIONS) == 1)
    finder, wrong = Partition(0), Partition(2)
    finder.handle("user-changes", [joins(7, user, "g")])
    wrong.handle(FORWARDED_EVENTS, delivered(finder.commits.forwarded))
    assert not wrong.commits.forwarded
    assert not wrong.users
    (letter,) = wrong.commits.letters
    assert (
        dict(letter.headers).items()
        >= {
            "dlq.topic": b"t.user-changes",
            "dlq.partition": b"0",
            "dlq.offset": b"7",
            "dlq.code": b"wrong_partition",
        }.items()
    )
    assert wrong.metrics.counts["dead_letters"] == {(FORWARDED_EVENTS, "wrong_partition"): 1}


def test_what_no_worker_has_written_is_a_dead_letter_of_the_internal_topic() -> None:
    owner = Partition(1)
    event = joins(9, "ann", "g")
    owner.handle(FORWARDED_EVENTS, [event])
    event.headers = [(ORIGIN, orjson.dumps([1, "user-changes", 0, 7, AT]))]
    event.value = b"no JSON"
    event.key = next(f"contoso/{u}" for u in USERS if partition_of(f"contoso/{u}", 4) == 1).encode()
    owner.handle(FORWARDED_EVENTS, [event])
    places = [
        tuple(dict(letter.headers)[f"dlq.{name}"] for name in ("topic", "offset", "code"))
        for letter in owner.commits.letters
    ]
    assert places == [
        (b"t.internal.forwarded-events", b"9", b"bad_message"),
        (b"t.user-changes", b"7", b"not_json"),
    ]


def test_a_partition_that_receives_without_end_reads_its_own_input_too() -> None:
    queues = RecordQueues((FORWARDED_EVENTS, *INPUT_NAMES))
    forwarded = [joins(n, "ann", "g") for n in range(20)]
    queues.put(FORWARDED_EVENTS, forwarded, 20)
    assert [len(records) for _, records, _ in queues.take(6)] == [6]
    queues.put("user-changes", [joins(0, "bob", "g")], 1)
    assert [(t, len(records)) for t, records, _ in queues.take(6)] == [
        (FORWARDED_EVENTS, 3),
        ("user-changes", 1),
    ]
    assert not list(queues.take(6, (FORWARDED_EVENTS, "user-changes")))
    assert queues.has_backlog(11)


def test_the_log_names_each_topic_once_a_minute() -> None:
    report = ForwardingReport()
    with capture_logs() as logs:
        report.update({}, 0)
        report.update({"user-changes": 3}, 1)
        report.update({"user-changes": 5, "catalog": 1}, 2)
        report.update({"user-changes": 5, "catalog": 1}, 2 + INTERVAL_SECONDS)
        report.update({"user-changes": 9, "catalog": 1}, 3 + 2 * INTERVAL_SECONDS)
    assert [(line["topic"], line["events"]) for line in logs] == [
        ("user-changes", 3),
        ("catalog", 1),
        ("user-changes", 2),
        ("user-changes", 4),
    ]
