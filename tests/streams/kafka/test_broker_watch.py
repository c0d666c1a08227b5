"""The watch of the broker, against ports where nobody listens or nobody answers.

`tests/system/test_outage.py` has a real broker that goes and comes back.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from streams.kafka import broker_watch
from streams.kafka.broker_watch import BrokerWatch
from streams.runtime.deadline import Deadline
from streams.runtime.settings import load_settings
from tests.support.timing import limit_seconds


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def until_away(watch: BrokerWatch, seconds: float) -> None:
    deadline = Deadline(limit_seconds(seconds))
    while not watch.is_away:
        assert not deadline.has_passed
        watch.join(0.05)


def test_nobody_listens() -> None:
    watch = BrokerWatch(load_settings(brokers="127.0.0.1:1"))
    assert (watch.is_away, watch.problem(), watch.silent_seconds) == (False, None, 0.0)
    watch.start()
    until_away(watch, 15)
    problem = watch.problem()
    assert problem is not None
    assert "no broker has answered at 127.0.0.1:1 since" in problem
    assert "SEATFLOW_BROKERS" in problem
    assert watch.problem() == problem  # a page with it does not change each second
    assert watch.silent_seconds > 0
    watch.stop()
    assert not watch.is_alive()


def test_nobody_answers(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_watch, "ATTEMPT_SECONDS", 0.3)
    watch = BrokerWatch(load_settings(brokers=silent))
    watch.start()
    until_away(watch, 15)
    watch.stop()
    assert not watch.is_alive()


def test_one_failed_attempt_is_no_outage() -> None:
    watch = BrokerWatch(load_settings())
    states = []
    for has_failed in (True, False, True, True, False):
        if has_failed:
            watch._failed(OSError("a broken connection"))
        else:
            watch._answered()
        states.append(watch.is_away)
    assert states == [False, False, False, True, False]


def test_it_may_be_stopped_before_it_started() -> None:
    watch = BrokerWatch(load_settings())
    watch.stop()
    assert not watch.is_alive()
