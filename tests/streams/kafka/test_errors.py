"""Each exception that a worker may meet has one action."""

from __future__ import annotations

import pytest
from aiokafka import errors as kafka_errors

from engine.state.formats import NewerFormatError
from streams.contract.rejection import DecodeError
from streams.kafka.errors import Action, classify
from streams.runtime.errors import CONFIGURATION, SOFTWARE, TEMPORARY, WorkerError
from streams.runtime.settings import SettingsError


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (kafka_errors.ProducerFenced(), Action.FENCED),
        (kafka_errors.InvalidProducerEpoch(), Action.FENCED),
        (kafka_errors.TopicAuthorizationFailedError(), Action.RECONFIGURE),
        (kafka_errors.GroupAuthorizationFailedError(), Action.RECONFIGURE),
        (kafka_errors.KafkaConnectionError(), Action.RESTART),
        (kafka_errors.RequestTimedOutError(), Action.RESTART),
        (ConnectionResetError(), Action.RESTART),
        (TimeoutError(), Action.RESTART),
        (WorkerError("no broker"), Action.RESTART),
        (WorkerError("no topics", CONFIGURATION), Action.RECONFIGURE),
        (SettingsError("SEATFLOW_PARTITIONS is 'x'"), Action.RECONFIGURE),
        (DecodeError("user is missing"), Action.REPORT),  # it should be a dead letter
        (NewerFormatError("row format 9"), Action.RECONFIGURE),
        (AssertionError(), Action.REPORT),
        (KeyError("key"), Action.REPORT),
    ],
)
def test_an_exception_has_one_action(error: Exception, action: Action) -> None:
    assert classify(error) is action


def test_the_exit_code_says_who_acts() -> None:
    assert {action.name: action.exit_code for action in Action} == {
        "FENCED": TEMPORARY,
        "RESTART": TEMPORARY,
        "RECONFIGURE": CONFIGURATION,
        "REPORT": SOFTWARE,
    }
