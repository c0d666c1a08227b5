"""The address machine: shared addresses, told in slices, and their rows (R18)."""

from __future__ import annotations

import json
from typing import Any

import orjson

from engine.domain.effects import Effects
from engine.domain.events import Delivered
from engine.domain.limits import Limits
from engine.machines.address_machine import AddressMachine
from engine.machines.address_messages import MAX_ENTRIES
from engine.state.address_message_codecs import decode_verdicts, encode_claims
from engine.state.message_codecs import (
    AddressClaimMessage,
    AddressVerdictMessage,
    decode_address_verdict,
    encode_address_claim,
)
from engine.state.row_codecs import ADDRESS_CLAIMS, CLAIMS, OWNER_CHANGES

USERS = 1000


class Partition:
    """One address machine, its rows as they would be in the changelog, and all it has sent."""

    def __init__(self, rows: dict[tuple[str, str], Any] | None = None, **limits: int) -> None:
        self.effects = Effects()
        self.machine = AddressMachine(self.effects, Limits(**limits))
        self.rows = dict(rows or {})
        self.sent: list[Any] = []
        for (table, key), row in self.rows.items():
            self.machine.load(table, key, json.loads(json.dumps(row)))
        self.machine.start()

    def say(self, user: str, claim: int, since: int = 0, derived: bool = False) -> None:
        message = AddressClaimMessage(
            "t", "smtp:a/b@x", user, 0, claim, since, 0, since, f"{user}-{claim}", derived
        )
        encoded = json.loads(json.dumps(encode_address_claim(message)))
        self.machine.handle([Delivered(encoded, since, 0)])
        self._collect()

    def notify(self, limit: int) -> None:
        self.machine.notify(limit)
        self._collect()

    def _collect(self) -> None:
        for place, row in self.effects.rows.items():
            if row is None:
                self.rows.pop(place, None)
            else:
                self.rows[place] = row
        self.sent += self.effects.records
        self.effects.rows, self.effects.records = {}, []

    def owners(self) -> dict[str, str]:
        """The owner of the address, as each user was last told."""
        return {
            verdict.user: verdict.owner
            for topic, _, _, value in self.sent
            if topic.endswith("verdicts")
            for verdict in decode_verdicts(value)
        }


def claimed_by(users: int) -> Partition:
    partition = Partition()
    for n in range(users):
        partition.say(f"u{n:04}", 1, since=n)
    return partition


def test_a_claim_writes_one_row_and_answers_one_user() -> None:
    partition = claimed_by(USERS)
    assert len(partition.sent) == USERS
    assert len(partition.rows) == USERS
    assert set(partition.owners().values()) == {"u0000"}
    assert max(len(json.dumps(row)) for row in partition.rows.values()) < 100


def test_releases_one_after_another_tell_each_claimant_a_few_times() -> None:
    """There were half a million messages, each of 1,000 releases telling all who were left."""
    partition = claimed_by(USERS)
    partition.sent.clear()
    for n in range(USERS // 2):
        partition.say(f"u{n:04}", 0)
        if n % 50 == 0:
            partition.notify(100)
    while partition.machine.has_unnotified:
        partition.notify(100)
    assert len(partition.sent) < 3 * USERS
    told = partition.owners()
    assert {told[f"u{n:04}"] for n in range(USERS // 2, USERS)} == {f"u{USERS // 2:04}"}
    assert {table for table, _ in partition.rows} == {CLAIMS}


def test_what_was_not_told_is_told_after_a_restart() -> None:
    partition = claimed_by(10)
    partition.say("u0000", 0)
    partition.notify(3)
    assert (OWNER_CHANGES, "t/smtp:a/b@x") in partition.rows
    again = Partition(partition.rows)
    again.notify(100)
    assert not again.machine.has_unnotified
    assert set(again.owners().values()) == {"u0001"}
    assert len(again.owners()) >= 8


def test_an_owner_with_a_derived_address_stays_the_owner_over_a_restart() -> None:
    partition = Partition()
    partition.say("b", 1, since=5, derived=True)
    partition.say("a", 1, since=1)
    again = Partition(partition.rows)
    again.say("c", 1, since=0)
    assert again.owners() == {"c": "b"}
    again.say("b", 0)
    assert again.owners()["c"] == "c"


def test_claims_of_an_earlier_build_in_one_row_are_read_and_split() -> None:
    old = {(ADDRESS_CLAIMS, "t/smtp:a/b@x"): [[5, 0, "b", 0, True], [1, 0, "a", 0], [2, 0, "c", 0]]}
    partition = Partition(old)
    partition.say("d", 1, since=9)
    assert partition.owners() == {"d": "b"}
    assert {table for table, _ in partition.rows} == {CLAIMS}
    assert len(partition.rows) == 4
    again = Partition(partition.rows)
    again.say("b", 0)
    again.notify(10)
    assert again.owners() == {"a": "a", "c": "a", "d": "a"}


def test_the_claim_last_in_line_beyond_the_limit_is_rejected() -> None:
    """The limit keeps the first in the order of R18, in whatever order they come."""
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [3, 0, 2, 1]):
        partition = Partition(address_claims=3)
        for n in order:
            partition.say(f"u{n}", 1, since=n)
        claims = sorted(key for table, key in partition.rows if table == CLAIMS)
        assert claims == [f"t/u{n}/smtp:a/b@x" for n in range(3)]
        rejected = [(key, value) for topic, _, key, value in partition.sent if topic == "results"]
        assert len(rejected) == 1
        assert rejected[0][0] == "t/u3"
        assert rejected[0][1]["error"] == "LimitExceeded"
        assert rejected[0][1]["details"]["maximum"] == 3
        assert partition.owners()["u3"] != "u3" or order[0] == 3


def test_a_derived_claim_beyond_the_limit_is_given_up_without_a_result() -> None:
    """Its event may be a command, which is answered once."""
    partition = Partition(address_claims=2)
    for n in range(3):
        partition.say(f"u{n}", 1, since=n, derived=True)
    assert not [topic for topic, _, _, _ in partition.sent if topic == "results"]
    assert partition.owners() == dict.fromkeys(("u0", "u1", "u2"), "u0")
    assert len(partition.rows) == 2


def test_an_owner_who_gives_way_beyond_the_limit_is_given_up_with_its_row() -> None:
    partition = Partition(address_claims=1)
    partition.say("late", 1, since=5)
    partition.say("early", 1, since=3)
    assert [key for table, key in partition.rows if table == CLAIMS] == ["t/early/smtp:a/b@x"]
    assert partition.owners() == {"late": "early", "early": "early"}


def test_the_only_claim_that_the_limit_left_can_be_released() -> None:
    partition = Partition(address_claims=1)
    partition.say("a", 1, since=1)
    partition.say("b", 1, since=2)
    partition.say("a", 0, since=3)
    assert not [key for table, key in partition.rows if table == CLAIMS]
    partition.say("b", 2, since=4)
    assert partition.owners()["b"] == "b"


# -- one message for all that a slice has for a partition
def claims_of(users: range, partition: int = 3) -> Any:
    """A message with a claim of each of these users, every one of another address."""
    return encode_claims(
        "t", partition, [(f"smtp:{n}@x", f"u{n}", 1, n + 1, n, f"e{n}", False) for n in users]
    )


def verdicts_after(*messages: Any) -> list[tuple[str, Any]]:
    """The key and the value of each message that one machine answers, all handled in one slice."""
    effects = Effects()
    batch = [Delivered(json.loads(json.dumps(m)), 1, n) for n, m in enumerate(messages)]
    AddressMachine(effects).handle(batch)
    assert {partition for _, partition, _, _ in effects.records} == {3}
    return [(key, value) for _, _, key, value in effects.records]


def test_the_claims_of_a_slice_are_answered_in_one_message() -> None:
    ((key, value),) = verdicts_after(claims_of(range(50)), claims_of(range(50, 100)))
    assert key == "t"
    found = [(v.address, v.user, v.owner, v.answers, v.caused_by) for v in decode_verdicts(value)]
    assert found == [(f"smtp:{n}@x", f"u{n}", f"u{n}", 1, f"e{n}") for n in range(100)]
    assert len(json.dumps(value)) < 100 * 70


def test_a_message_has_a_bounded_number_of_entries() -> None:
    assert len(verdicts_after(*[claims_of(range(n, n + 100)) for n in range(0, 600, 100)])) == 3


def test_a_worker_of_an_earlier_release_gets_messages_that_it_reads() -> None:
    """Its claims do not say that it reads more than one entry at a time."""
    claim = AddressClaimMessage("t", "smtp:a@x", "ann", 3, 7, 5, 0, 5, "e")
    (key, value), (_, other) = verdicts_after(
        encode_address_claim(claim), encode_address_claim(claim._replace(user="bob"))
    )
    assert key == "t/ann"
    assert decode_address_verdict(value) == AddressVerdictMessage(
        "t", "smtp:a@x", "ann", "ann", 7, 5, "e", batches=True
    )
    assert (other["format"], other["owner"]) == (1, "ann")


def test_a_partition_that_says_so_gets_many_entries_in_a_message() -> None:
    claim = AddressClaimMessage("t", "smtp:a@x", "ann", 3, 7, 5, 0, 5, "e", batches=True)
    more = claim._replace(user="bob", batches=False)
    ((_, value),) = verdicts_after(encode_address_claim(claim), encode_address_claim(more))
    assert [(v.user, v.owner) for v in decode_verdicts(value)] == [("ann", "ann"), ("bob", "ann")]


def test_a_message_of_the_longest_claims_is_below_a_mebibyte() -> None:
    """A text has at most 1,024 characters, an id 128, the id of an event 256."""
    entry = ("smtp:" + "\U0001f600" * 1024, "u" * 128, 2**53, 2**53, 2**53, "e" * 256, True)
    message = encode_claims("t" * 128, 9999, [entry] * MAX_ENTRIES)
    assert len(orjson.dumps(message)) < 1 << 20
