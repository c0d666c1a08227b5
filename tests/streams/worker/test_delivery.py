"""The delivery layer under faults, with a machine that only counts (tests/lab/counting_worker.py).

Each test has topics of its own. The counts that the machine keeps, of what it read and of what it
heard over an internal topic, are the verdict: nothing lost, nothing applied twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.contract.topics import TOPICS
from streams.local.broker import Broker
from streams.runtime import errors
from streams.runtime.settings import load_settings
from tests.lab.counting_lab import PARTITIONS, SESSION, Lab, Toy, until
from tests.lab.counting_worker import HOP
from tests.support.fault_points import DELIVERY, KILLS
from tests.support.kafka import Kafka
from tests.support.raw_headers import produce_raw_header


@pytest.fixture
def lab(kafka: Kafka, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(kafka.bootstrap, tmp_path)
    yield lab
    lab.close()


# --- without faults -------------------------------------------------------------------------------


def test_stops_cleanly_and_restores_the_same(lab: Lab) -> None:
    first = lab.toy()
    lab.send(3000)
    lab.settles_exactly()
    # Noted within a second, trailing control records included.
    time.sleep(1)
    assert lab.lag() == {}

    asked = time.monotonic()
    first.signal(signal.SIGTERM)
    first.ends(errors.OK)
    assert time.monotonic() - asked < 10

    second = lab.toy(ready=False)
    restored = second.wait_for("partition_restored", PARTITIONS)
    assert sum(event["rows"] for event in restored) == 400  # seen and heard of each key
    assert lab.counts() == (3000, 3000)
    lab.send(100)
    lab.settles_exactly()


def test_the_load_of_a_stopped_worker_moves_at_once(lab: Lab) -> None:
    """A dynamic member leaves the group: nobody waits for the session timeout."""
    first = lab.toy()
    second = lab.toy(ready=False)
    second.wait_for("partition_restored", PARTITIONS // 2)
    lab.send(2000)
    first.signal(signal.SIGINT)
    first.ends(errors.OK)
    lab.settles_exactly(timeout=30)
    assert sorted(second.events("assigned")[-1]["partitions"]) == list(range(PARTITIONS))


def test_a_rebalance_keeps_what_stays(lab: Lab) -> None:
    first = lab.toy()
    lab.send(5000)
    second = lab.toy()
    lab.send(5000)
    lab.settles_exactly()
    ours, theirs = (toy.events("assigned")[-1] for toy in (first, second))
    assert not set(ours["partitions"]) & set(theirs["partitions"])
    assert len(ours["partitions"]) == len(theirs["partitions"]) == PARTITIONS // 2
    assert ours["kept"] == ours["partitions"]
    assert len(first.events("partition_fenced")) == PARTITIONS


def test_a_static_member_comes_back_without_a_rebalance(lab: Lab) -> None:
    # Long enough for a restart on a busy machine.
    session = "30"
    first, second = (
        lab.toy(SEATFLOW_WORKER_ID=name, SEATFLOW_SESSION_TIMEOUT=session) for name in ("w1", "w2")
    )
    lab.send(1000)
    lab.settles_exactly()
    rebalances, mine = len(second.events("assigned")), first.events("assigned")[-1]["partitions"]
    first.process.kill()
    first.process.wait()
    lab.send(1000)
    again = lab.toy(SEATFLOW_WORKER_ID="w1", SEATFLOW_SESSION_TIMEOUT=session)
    lab.settles_exactly()
    assert again.events("assigned")[-1]["partitions"] == mine
    assert len(second.events("assigned")) == rebalances


def test_a_long_fan_out_lets_other_events_through(lab: Lab) -> None:
    lab.toy()
    users = 200_000
    lab.produce("user-changes", [(b"key0", json.dumps({"fan": users}).encode())])
    lab.sent += 1
    time.sleep(0.3)
    lab.send(1, keys=1)  # the same partition
    until(lambda: len(lab.read("user-licenses")) == users + 2, 60, lab.logs)
    places = [at for at, record in enumerate(lab.read("user-licenses")) if record.key == b"key0"]
    assert places[-1] < users, "the event came after the whole fan-out"
    assert lab.counts() == (2, 2)


def test_metrics_and_health_are_served(lab: Lab) -> None:
    toy = lab.toy(ready=False)
    toy.wait_for("partition_restored", PARTITIONS)
    lab.send(500)
    lab.settles_exactly()
    url = toy.events("worker_started")[0]["metrics"]
    text = urllib.request.urlopen(url).read().decode()
    assert f"seatflow_partitions_owned {PARTITIONS:.1f}" in text
    assert 'seatflow_records_in_total{topic="user-changes"} 500.0' in text
    assert 'seatflow_events_total{type="tuple"} 500.0' in text
    assert "seatflow_transaction_seconds_count" in text
    assert urllib.request.urlopen(url.replace("/metrics", "/healthz")).read() == b"ok\n"


# --- bad input, bad set-up ------------------------------------------------------------------------


def test_poison_becomes_a_dead_letter_byte_for_byte(lab: Lab) -> None:
    poison: list[tuple[bytes | None, bytes | None]] = [
        (b"key1", b"\xff\x00not json"),
        (None, b"{}"),
        (b"key2", None),
        (b"key3", b"x" * (1_200_000)),
        (b"\xfe\xfd", b"{}"),
    ]
    lab.toy()
    for topic in ("user-changes", "catalog", "group-changes"):
        # A compacted topic refuses a record without a key.
        lab.produce(topic, [(k, v) for k, v in poison if k or topic != "catalog"])
    lab.send(1000)
    lab.settles_exactly()
    dead = lab.read("dead-letters")
    assert len(dead) == 14
    for letter in dead:
        headers = {name: value.decode() for name, value in letter.headers}
        names = ("topic", "partition", "offset", "code", "reason")
        assert set(headers) == {f"dlq.{name}" for name in names}
        assert int(headers["dlq.partition"]) == letter.partition
        assert headers["dlq.reason"].startswith("not the toy's")
        originals = lab.read(headers["dlq.topic"].removeprefix(lab.settings.topic_prefix))
        place = (letter.partition, int(headers["dlq.offset"]))
        (original,) = [r for r in originals if (r.partition, r.offset) == place]
        assert (letter.key, letter.value) == (original.key, original.value)


def test_says_that_topics_are_missing(kafka: Kafka, tmp_path: Path) -> None:
    settings = load_settings(brokers=kafka.bootstrap, app_id="none", topic_prefix="none.")
    toy = Toy(settings, tmp_path / "log")
    toy.ends(errors.CONFIGURATION)
    (stop,) = toy.events("fail_stop")
    assert f"{len(TOPICS)} topics are missing" in stop["why"]
    assert "seatflow topics create" in stop["why"]


def test_says_that_the_partition_count_is_another(lab: Lab) -> None:
    toy = lab.toy(ready=False, SEATFLOW_PARTITIONS="8")
    toy.ends(errors.CONFIGURATION)
    (stop,) = toy.events("fail_stop")
    assert f"topics have {PARTITIONS} partitions, but SEATFLOW_PARTITIONS is 8" in stop["why"]


def test_an_exception_in_the_machine_costs_one_record(lab: Lab) -> None:
    """A planted exception on a real worker: the culprit is a dead letter, nothing is half done."""
    toy = lab.toy()
    lab.send(500)
    lab.settles_exactly()
    lab.produce("user-changes", [(b"key0", b"{}"), (b"key0", b'{"crash":true}'), (b"key0", b"{}")])
    lab.sent += 2
    lab.send(500)
    lab.settles_exactly()
    (failed,) = toy.events("processor_failed")
    assert (failed["error"], failed["level"]) == ("RuntimeError", "error")
    assert "the toy crashes as asked" in failed["exception"]
    (skipped,) = toy.events("processor_skipped")
    (letter,) = lab.read("dead-letters")
    headers = {name: value.decode() for name, value in letter.headers}
    assert (letter.key, letter.value) == (b"key0", b'{"crash":true}')
    assert headers["dlq.reason"].startswith("processor_failed: RuntimeError")
    assert headers["dlq.offset"] == str(skipped["offset"])
    assert toy.process.poll() is None
    # A successor meets the dead letter's record no more.
    toy.process.kill()
    lab.toy()
    lab.send(500)
    lab.settles_exactly()
    assert len(lab.read("dead-letters")) == 1


@pytest.mark.timeout(500)  # three times the CPU time of a session, on whatever machine
def test_a_record_whose_processing_never_ends_costs_one_record(lab: Lab) -> None:
    """A planted stall in compiled code: the worker ends, twice; the next one finds the culprit."""
    with lab.supervised():
        lab.toys[0].wait_for("partition_restored")
        lab.send(500)
        lab.settles_exactly()
        stall = (b"key0", b'{"stall":true}')
        lab.produce("user-changes", [(b"key0", b"{}"), stall, (b"key0", b"{}")])
        lab.sent += 2
        lab.send(500)
        lab.settles_exactly(timeout=400)
        ended = [toy.process.poll() for toy in lab.toys]
        (letter,) = lab.read("dead-letters")
        skipped = [event for toy in lab.toys for event in toy.events("processor_skipped")]
    assert ended == [-signal.SIGPROF, -signal.SIGPROF, None]
    assert (letter.key, letter.value) == stall
    headers = {name: value.decode() for name, value in letter.headers}
    assert headers["dlq.reason"].startswith("processor_failed: its processing does not end")
    assert [event["error"] for event in skipped] == ["stalled"]
    assert "Fatal Python error" not in lab.toys[0].log.read_text()
    assert "in handle" in lab.toys[0].log.read_text()  # where it stalled


def test_hostile_records_stop_nothing(lab: Lab) -> None:
    """Header names of any bytes, times in no calendar, and messages that no worker wrote."""
    toy = lab.toy()
    lab.produce(HOP, [(b"key1", b"{}"), (b"key1", b"\xff"), (b"key1", None)])
    topic = lab.settings.topic_prefix + "user-changes"
    for _ in range(3):
        asyncio.run(
            produce_raw_header(lab.settings.brokers, topic, 0, b"key1", b"{}", b"\xff\xfe\x00\x80")
        )
    lab.sent += 3
    lab.send(1000)
    lab.settles_exactly()
    assert len(lab.read("dead-letters")) == 3
    assert toy.process.poll() is None


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "visit"), KILLS[DELIVERY].items())
def test_killed_at_each_point(lab: Lab, point: str, visit: int) -> None:
    """The worker dies by SIGKILL at a named point under load; its successor goes on exactly."""
    first = lab.toy()
    lab.send(2000)
    lab.settles_exactly()
    first.process.kill()
    first.process.wait()
    victim = lab.toy(ready=False, SEATFLOW_FAULT=f"{point}:{visit}")
    while victim.process.poll() is None:
        lab.send(300)
    victim.ends(-signal.SIGKILL)
    lab.toy(ready=False)
    lab.send(300)
    lab.settles_exactly()


def test_killed_again_and_again_under_load(lab: Lab) -> None:
    """Three workers, one of which is killed every second or so and started again."""
    workers = [lab.toy(ready=False) for _ in range(3)]
    for kill in range(8):
        lab.send(2000)
        time.sleep(1.0)
        victim = workers.pop(0)
        victim.process.kill()
        victim.process.wait()
        lab.send(500, keys=37)
        workers.append(lab.toy(ready=kill % 2 == 0))
    lab.settles_exactly()


def test_a_zombie_is_fenced(lab: Lab) -> None:
    """SIGSTOP beyond the session timeout, then SIGCONT: what it still has to write is refused.

    Its watchdog is off, so that it lives long enough to try; it is stopped in a long fan-out,
    which only it knows of, so that it has something to write.
    """
    zombie = lab.toy(TOY_WATCH="0")
    zombie.wait_for("partition_restored", PARTITIONS)
    lab.send(20, fan=100_000)
    until(lambda: _fanned(lab) > 0, 20, lab.logs)
    zombie.signal(signal.SIGSTOP)
    lab.send(3000)
    heir = lab.toy(ready=False)
    heir.wait_for("partition_restored", PARTITIONS, timeout=60)
    lab.settles_exactly()
    # The heir fans out again what the zombie had not committed a part of; that must be over.
    before = -1
    while before != (before := _fanned(lab)):
        time.sleep(2)
    assert before < 20 * 100_000, "nothing was left for the zombie to write"

    zombie.signal(signal.SIGCONT)
    lab.send(3000)
    zombie.ends(errors.TEMPORARY)
    assert "another worker owns the partition" in zombie.events("fenced")[0]["why"]
    lab.settles_exactly()
    assert _fanned(lab) == before, "a late write of the zombie was accepted"
    assert heir.process.poll() is None


def _fanned(lab: Lab) -> int:
    return sum(record.value == b'{"fan":true}' for record in lab.read("user-licenses"))


def test_the_watchdog_ends_a_paused_worker(lab: Lab) -> None:
    toy = lab.toy()
    toy.signal(signal.SIGSTOP)
    time.sleep(SESSION + 1.5)
    toy.signal(signal.SIGCONT)
    toy.ends(errors.TEMPORARY, timeout=5)
    assert toy.events("stalled") or toy.events("fenced")


def test_a_second_worker_with_the_same_id_takes_over(lab: Lab) -> None:
    first = lab.toy(SEATFLOW_WORKER_ID="w1")
    lab.send(1000)
    second = lab.toy(SEATFLOW_WORKER_ID="w1")
    lab.send(1000)
    first.ends(errors.TEMPORARY)
    assert "SEATFLOW_WORKER_ID" in first.events("fenced")[0]["why"]
    lab.settles_exactly()
    assert second.process.poll() is None


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_goes_and_comes_back(tmp_path: Path, how: str, kafka: Kafka) -> None:
    """It is away for a while in the middle of a load; a worker that ends is started again."""
    with contextlib.closing(_OwnBroker(tmp_path)) as broker:
        lab = Lab(broker.bootstrap, tmp_path)
        with lab.supervised():
            lab.toys[0].wait_for("partition_restored")
            lab.send(20_000)
            broker.away(how, 5.0)
            lab.send(1000)
            lab.settles_exactly(timeout=100)
        assert {toy.process.poll() for toy in lab.toys[:-1]} <= {errors.TEMPORARY}
        lab.close()


class _OwnBroker:
    def __init__(self, directory: Path) -> None:
        self._broker = Broker(0, directory / "kafka-data")
        self._broker.start()
        self.bootstrap = self._broker.bootstrap

    def away(self, how: str, seconds: float) -> None:
        getattr(self._broker, how)()
        time.sleep(seconds)
        self._broker.start()

    def close(self) -> None:
        self._broker.kill()
