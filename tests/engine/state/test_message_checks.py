"""Internal messages: what a worker writes passes the check, and nothing else of another form."""

from __future__ import annotations

from typing import Any

import pytest

from engine.simulation.runner import config_for, run
from engine.simulation.simulated_broker import Broker
from engine.state import address_message_codecs, message_codecs
from engine.state.address_message_codecs import BATCH_FORMAT
from engine.state.formats import MESSAGE_FORMAT, NewerFormatError
from engine.state.message_checks import MEMBERS, problem_of
from engine.state.message_codecs import AddressVerdictMessage

Json = dict[str, Any]


@pytest.fixture(scope="module")
def written() -> dict[str, list[Json]]:
    """Messages that machines sent each other in the simulator, by topic."""
    found: dict[str, list[Json]] = {topic: [] for topic in MEMBERS}
    real = Broker._append

    def append(self: Broker, topic: str, p: int, event: Any, at: int, source: str = "") -> None:
        if topic in found:
            found[topic].append(event)
        real(self, topic, p, event, at, source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Broker, "_append", append)
        for seed in range(25):
            run(config_for(seed))
    return found


def test_every_member_on_the_wire_has_a_check() -> None:
    assert MEMBERS.keys() == message_codecs.MEMBERS.keys()


@pytest.mark.parametrize("topic", MEMBERS)
def test_what_machines_write_passes(written: dict[str, list[Json]], topic: str) -> None:
    assert written[topic]
    assert {problem_of(topic, message, 4) for message in written[topic]} == {""}


@pytest.mark.parametrize("topic", MEMBERS)
def test_a_member_that_is_missing_or_of_another_type_is_refused(
    written: dict[str, list[Json]], topic: str
) -> None:
    single = [message for message in written[topic] if message["format"] != BATCH_FORMAT]
    if topic == message_codecs.ADDRESS_VERDICTS:  # to workers of an earlier release only
        verdict = AddressVerdictMessage("t", "smtp:a", "ann", "bob", 3, 5, "e", batches=True)
        single = [message_codecs.encode_address_verdict(verdict)]
    message = max(single, key=len)
    for name, _, may_be_absent in MEMBERS[topic]:
        rest = {other: value for other, value in message.items() if other != name}
        kind = message.get("kind")
        if not may_be_absent or (kind != "product" and name == "tenant"):
            assert name in problem_of(topic, rest, 4), name
        assert problem_of(topic, message | {name: object()}, 4), name
        for wrong in (None, 1.5, -(1 << 64), 1 << 64):
            assert problem_of(topic, message | {name: wrong}, 4), (name, wrong)


@pytest.mark.parametrize("topic", [message_codecs.ADDRESS_CLAIMS, message_codecs.ADDRESS_VERDICTS])
def test_entries_of_another_form_are_refused(written: dict[str, list[Json]], topic: str) -> None:
    message = next(m for m in written[topic] if m["format"] == BATCH_FORMAT)
    assert problem_of(topic, message, 4) == ""
    for name in message.keys() - {"format"}:
        rest = {other: value for other, value in message.items() if other != name}
        assert problem_of(topic, rest, 4), name
        for wrong in (None, 1.5, -(1 << 64), 1 << 64, object()):
            assert problem_of(topic, message | {name: wrong}, 4), (name, wrong)
    (name,) = {address_message_codecs.CLAIMS, address_message_codecs.VERDICTS} & message.keys()
    entry = message[name][0]
    for n in range(len(entry)):
        for wrong in (None, 1.5, 1 << 64, [], {}):
            forged = [*entry[:n], wrong, *entry[n + 1 :]]
            found = problem_of(topic, message | {name: [entry, forged]}, 4)
            assert found == f"entry 1 of {name} has a value that no worker writes"
    for entries in ([], [entry[:-1]], [[*entry, 1]], [None], {"0": entry}):
        assert problem_of(topic, message | {name: entries}, 4), entries


@pytest.mark.parametrize("value", [None, [], "x", 1, True, {}])
@pytest.mark.parametrize("topic", MEMBERS)
def test_what_is_no_message_is_refused(topic: str, value: Any) -> None:
    assert problem_of(topic, value, 4)


def test_a_partition_that_is_not_there_is_refused(written: dict[str, list[Json]]) -> None:
    topic = message_codecs.SEAT_REQUESTS
    message = written[topic][0]
    assert problem_of(topic, message | {"partition": 4}, 4) == "partition 4 does not exist"
    assert problem_of(topic, message | {"partition": -1}, 4)


def test_a_partition_that_uses_more_than_it_has_is_refused(written: dict[str, list[Json]]) -> None:
    topic = message_codecs.SEAT_REQUESTS
    units = {"granted": 5, "returned": 1, "used": 4}
    message = {name: value for name, value in written[topic][0].items() if name != "adopted"}
    assert problem_of(topic, message | units, 4) == ""
    assert problem_of(topic, message | units | {"used": 6, "adopted": 2}, 4) == ""
    refused = problem_of(topic, message | units | {"used": 5}, 4)
    assert refused == "used has more units than the partition has"


def test_rows_of_configuration_are_read_before_they_are_applied(
    written: dict[str, list[Json]],
) -> None:
    topic = message_codecs.CONFIGURATION
    kinds = {message["kind"]: message for message in written[topic]}
    assert kinds.keys() == {"product", "tenant", "group"}
    for message in kinds.values():
        fields = len(message["row"])
        rows: tuple[list[Any], ...] = ([], [1] * 20, [object()] * fields, [{}] * fields)
        for row in rows:
            assert problem_of(topic, message | {"row": row}, 4), row


def test_a_message_of_a_later_release_is_for_the_operator(written: dict[str, list[Json]]) -> None:
    for topic, messages in written.items():
        newer = MESSAGE_FORMAT + 1
        decode = {
            message_codecs.CONFIGURATION: message_codecs.decode_configuration,
            message_codecs.SEAT_REQUESTS: message_codecs.decode_seat_request,
            message_codecs.SEAT_GRANTS: message_codecs.decode_seat_grant,
            message_codecs.GROUP_REPORTS: message_codecs.decode_group_report,
            message_codecs.ADDRESS_CLAIMS: address_message_codecs.decode_claims,
            message_codecs.ADDRESS_VERDICTS: address_message_codecs.decode_verdicts,
        }[topic]
        for form in {message["format"]: message for message in messages}.values():
            with pytest.raises(NewerFormatError):
                decode(form | {"format": newer})
