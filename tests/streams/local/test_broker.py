"""The development broker: a real Kafka that keeps its data, and errors that say what to do."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.local.broker import Broker, BrokerError, kafka_answers, run_in_foreground
from streams.local.kafka_jars import KAFKA_FILES, KAFKA_VERSION, ensure_jars
from streams.runtime.deadline import Deadline
from tests.support.kafka import Kafka, create_topics, latest, produce, read_topic

ROOT = Path(__file__).resolve().parents[3]

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, to be killed and paused; not started."""
    broker = Broker(0, tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.kafka
@needs_java
async def test_a_record_survives_a_kill_and_a_restart(broker: Broker) -> None:
    broker.start()
    await create_topics(broker.bootstrap, "letters")
    await produce(broker.bootstrap, "letters", [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    address = broker.bootstrap

    broker.kill()
    assert not broker.running
    broker.start()

    assert broker.bootstrap == address
    records = await read_topic(address, "letters")
    assert [(r.key, r.value) for r in records] == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert latest(records) == {b"a": b"3", b"b": b"2"}


@pytest.mark.kafka
@needs_java
def test_a_paused_broker_does_not_answer_until_it_is_resumed(broker: Broker) -> None:
    broker.start()
    host, port = broker.bootstrap.split(":")
    broker.pause()
    assert not kafka_answers(host, int(port), timeout=0.5)
    broker.resume()
    assert kafka_answers(host, int(port), timeout=10)
    broker.pause()
    broker.stop()  # even then
    assert not broker.running
    assert not kafka_answers(host, int(port))


@pytest.mark.kafka
@needs_java
def test_a_failed_start_shows_the_end_of_kafkas_log(tmp_path: Path) -> None:
    broker = Broker(0, tmp_path, overrides={"log.retention.bytes": "plenty"})
    with pytest.raises(BrokerError, match="plenty"):
        broker.start()
    assert not broker.running


@pytest.mark.kafka
@needs_java
async def test_a_second_broker_on_its_data_is_refused(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    with pytest.raises(BrokerError, match=rf"Another Kafka runs on the data in {tmp_path}"):
        Broker(0, tmp_path).start()
    # ... before it did any harm
    await create_topics(broker.bootstrap, "letters")
    broker.kill()
    broker.start()
    assert await read_topic(broker.bootstrap, "letters") == []


@pytest.mark.kafka
@needs_java
def test_the_broker_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from streams.local.broker import Broker\n"
        "broker = Broker(0, Path(sys.argv[1])); broker.start()\n"
        "print(broker.bootstrap, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        host, port = parent.stdout.readline().strip().split(":")
        assert kafka_answers(host, int(port))
        parent.kill()
    deadline = Deadline(5)
    while kafka_answers(host, int(port), timeout=0.5) and not deadline.has_passed:
        time.sleep(0.05)
    assert not kafka_answers(host, int(port), timeout=0.5)


@pytest.mark.kafka
@needs_java
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_stops_it_cleanly(tmp_path: Path, number: int) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from streams.local.broker import free_port, run_in_foreground\n"
        "sys.exit(run_in_foreground(f'127.0.0.1:{free_port()}', Path(sys.argv[1])))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert any(line.startswith("Kafka listens on 127.0.0.1:") for line in said)
        process.send_signal(number)
        assert process.wait(20) == 0
    assert "Kafka Server started" in (tmp_path / "broker.log").read_text()


async def test_the_shared_broker_takes_records_over_a_mebibyte(
    kafka: Kafka, topic_prefix: str
) -> None:
    topic = topic_prefix + "large"
    await create_topics(kafka.bootstrap, topic, partitions=3)
    value = b"x" * (1024 * 1024 + 1000)
    await produce(kafka.bootstrap, topic, [(b"k", value)], headers=[("why", b"large")])
    (record,) = await read_topic(kafka.bootstrap, topic)
    assert record.value == value
    assert record.headers == (("why", b"large"),)


def test_no_java_is_one_line_that_says_what_to_install(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(BrokerError) as refusal:
        broker.start()
    message = str(refusal.value)
    assert message.startswith("No Java found: install Java 17 or later")
    assert "docker compose up" in message
    assert "\n" not in message


def test_an_old_java_is_named(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=r"too old \(openjdk version \"1\.8\.0_392\"\)"):
        broker.start()


def test_no_maven_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MAVEN_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    with pytest.raises(BrokerError, match=r"^No Maven found, .*install it .*docker compose up"):
        ensure_jars()


def test_a_failed_fetch_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho '[ERROR] Unknown host'; exit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("MAVEN_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    with pytest.raises(BrokerError, match="Unknown host"):
        ensure_jars(said.append)
    assert said == [f"Fetching Apache Kafka {KAFKA_VERSION} (about 55 MB, once) ..."]
    assert [path.name for path in (tmp_path / "cache" / "seatflow").iterdir()] == ["fetch.lock"]


def test_two_at_once_fetch_the_jars_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    # The output directory is the last argument: -DoutputDirectory=...
    maven.write_text(
        "#!/bin/sh\nfor last; do :; done; directory=${last#*=}\n"
        f"echo called >> {tmp_path}/calls; sleep 0.3; mkdir $directory; touch $directory/a.jar\n"
    )
    maven.chmod(0o755)
    monkeypatch.setenv("MAVEN_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(ensure_jars) for _ in range(4)]}
    (jars,) = found
    assert [path.name for path in jars.iterdir()] == ["a.jar"]
    assert (tmp_path / "calls").read_text() == "called\n"


@needs_java
def test_a_port_in_use_is_named_with_a_way_out(
    taken_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in_foreground(f"127.0.0.1:{taken_port}", tmp_path) == 1
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert f"Port {taken_port} on 127.0.0.1 is in use by a program" in last_line
    assert f"SEATFLOW_BROKERS to another address, e.g. 127.0.0.1:{taken_port + 1}" in last_line


@pytest.mark.parametrize("bootstrap", ["a:9092,b:9092", "9092", "localhost", "localhost:kafka"])
def test_the_address_must_be_one(
    bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_in_foreground(bootstrap, tmp_path) == 1
    assert f"SEATFLOW_BROKERS is '{bootstrap}'" in capsys.readouterr().err


def test_the_version_is_the_one_of_the_pom_and_of_compose() -> None:
    pom = xml.etree.ElementTree.parse(KAFKA_FILES / "pom.xml")
    assert pom.findtext(".//{*}kafka.version") == KAFKA_VERSION
    compose = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"apache/kafka:(\S+)", compose)) == {KAFKA_VERSION}
