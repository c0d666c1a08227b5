"""Mistakes on the command line: each is named, with what to do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.contract.topics import TOPICS
from streams.runtime.deadline import Deadline
from streams.runtime.errors import CONFIGURATION
from tests.streams.cli.test_cli import Run, in_a_thread, line, seatflow, user, where
from tests.support.kafka import Kafka, end_offsets, produce
from tests.support.system import ROOT, running

__all__ = ["seatflow", "where"]

# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SEATFLOW_PARTITION", "SEATFLOW_PARTITIONS"),
        ("SEATFLOW_BROKER", "SEATFLOW_BROKERS"),
        ("SEATFLOW_APPID", "SEATFLOW_APP_ID"),
        ("SEATFLOW_TOPICPREFIX", "SEATFLOW_TOPIC_PREFIX"),
        ("SEATFLOW_LOGLEVEL", "SEATFLOW_LOG_LEVEL"),
        ("SEATFLOW_SASL_PASSWORT_FILE", "SEATFLOW_SASL_PASSWORD_FILE"),
    ],
)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_misspelt_setting_is_refused_with_the_one_meant(
    seatflow: Run, monkeypatch: pytest.MonkeyPatch, name: str, meant: str, where: str
) -> None:
    if where == "environment":
        monkeypatch.setenv(name, "4")
    else:
        Path(".env").write_text(f"# a comment\nexport {name} = 4\n")
    ended = seatflow("settings")
    assert ended.code == CONFIGURATION
    at = "the environment" if where == "environment" else ".env"
    assert line(ended) == f"seatflow: {name} ({at}) is no setting: did you mean {meant}?"


def test_an_unknown_setting_that_resembles_none_is_a_warning(
    seatflow: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATFLOW_COLOUR_OF_SKY", "blue")
    ended = seatflow("settings")
    assert ended.code == 0
    assert "SEATFLOW_COLOUR_OF_SKY (the environment) is no setting and has no effect" in ended.err


@pytest.mark.parametrize(
    "name",
    [
        "SEATFLOW_PURE", "SEATFLOW_CONSOLE_PORT", "SEATFLOW_TEST_BROKERS",
        # A service seatflow or seatflow-console in Kubernetes.
        "SEATFLOW_PORT", "SEATFLOW_SERVICE_HOST", "SEATFLOW_CONSOLE_SERVICE_PORT_HTTP",
        "SEATFLOW_PORT_8080_TCP_ADDR", "SEATFLOW_CONSOLE_PORT_8080_TCP",
    ],
)  # fmt: skip
def test_variables_that_are_no_settings_by_design_are_no_mistakes(
    seatflow: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    ended = seatflow("settings")
    assert (ended.code, ended.err) == (0, "")


def test_a_scheme_of_the_brokers_is_refused(seatflow: Run) -> None:
    ended = seatflow("status", "--brokers", "http://127.0.0.1:9092/")
    assert ended.code == CONFIGURATION
    assert "must be host:port without a scheme: 127.0.0.1:9092" in line(ended)


def test_other_settings_say_what_is_allowed(seatflow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATFLOW_HTTP_TRUSTED_PROXIES", "proxy.example")
    assert line(seatflow("settings")).endswith(
        "must be addresses or networks (10.1.0.0/16), separated by commas"
    )


# --- directories ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["broker"], ["console", "--port", "0"], ["demo", "--once"]])
@pytest.mark.parametrize("place", ["a-file", "/proc/seatflow"])
def test_a_data_directory_that_cannot_be_used(
    seatflow: Run, command: list[str], place: str
) -> None:
    Path("a-file").touch()
    ended = seatflow(*command, "--data-dir", place)
    assert ended.code == CONFIGURATION, ended
    assert "cannot be used" in line(ended)
    assert str(Path(place).resolve()) in line(ended)
    assert "--data-dir" in line(ended)
    assert "internal error" not in ended.err


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_a_data_directory_of_somebody_else(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from streams.runtime.data_directory import check_directory\n"
        "from streams.runtime.errors import WorkerError\n"
        "os.setuid(65534)\n"
        "try: check_directory(Path(sys.argv[1]) / 'data')\n"
        "except WorkerError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mine)], cwd=ROOT, capture_output=True, text=True
    )
    assert "cannot be used (Permission denied)" in done.stdout, done.stderr


def test_a_read_model_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.runtime.data_directory import check_directory
    from streams.runtime.errors import WorkerError

    (tmp_path / "console.sqlite3").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WorkerError, match=r"console\.sqlite3 may not be written"):
        check_directory(tmp_path, ["console.sqlite3"])


# --- with Kafka ----------------------------------------------------------------------------------


def test_another_number_of_partitions_is_one_line(seatflow: Run, where: list[str]) -> None:
    assert seatflow("topics", "create", *where, "--partitions", "2").code == 0
    ended = seatflow("topics", "create", *where, "--partitions", "3")
    assert ended.code == CONFIGURATION
    assert "partitions each" not in ended.out
    assert line(ended).startswith(
        f"seatflow: {len(TOPICS)} topics have 2 partitions, but SEATFLOW_PARTITIONS is 3: set it"
        " to 2, since the number is fixed when the topics are created"
    )


def test_topics_are_listed(seatflow: Run, where: list[str], topic_prefix: str) -> None:
    before = seatflow("topics", "list", *where)
    assert before.code == CONFIGURATION
    assert before.out.count("missing") == len(TOPICS)
    assert "seatflow topics create" in before.err
    seatflow("topics", "create", *where, "--partitions", "2")
    after = seatflow("topics", "list", *where)
    assert (after.code, after.err) == (0, "")
    assert f"{topic_prefix}user-licenses  2 partitions\n" in after.out


async def test_reading_names_topics_and_keys_that_are_none(
    seatflow: Run, where: list[str], kafka: Kafka, topic_prefix: str
) -> None:
    await in_a_thread(seatflow, "topics", "create", *where, "--partitions", "2")
    ended = await in_a_thread(seatflow, "read", "user-license", *where)
    assert ended.code == CONFIGURATION
    assert "user-license is no topic: did you mean user-licenses?" in line(ended)
    assert "group-status" in line(ended)
    ended = await in_a_thread(seatflow, "read", "users", *where)
    assert "users is no topic. The topics are user-changes" in line(ended)
    ended = await in_a_thread(seatflow, "read", "user-licenses", *where)
    assert (ended.code, ended.out) == (0, "")
    assert line(ended) == f"seatflow: {topic_prefix}user-licenses has no record yet"
    ended = await in_a_thread(seatflow, "read", "user-licenses", "--key", "t/nobody", *where)
    assert ended.code == 1
    assert "has no record with the key t/nobody" in line(ended)
    value = b"\0\0\0\0\7" + json.dumps(user("ann")).encode()
    await produce(kafka.bootstrap, f"{topic_prefix}user-changes", [(b"t/ann", value)])
    ended = await in_a_thread(seatflow, "read", "user-changes", *where)
    assert json.loads(ended.out)["value"]["user"] == "ann"


def test_ctrl_c_says_how_much_went_and_that_repeating_is_safe(
    seatflow: Run, where: list[str], topic_prefix: str, kafka: Kafka, tmp_path: Path
) -> None:
    seatflow("topics", "create", *where, "--partitions", "2")
    (tmp_path / "first").write_text("\n".join(json.dumps(user(f"u{n}")) for n in range(20_000)))
    read, write = os.pipe()
    feeding = subprocess.Popen(
        [sys.executable, "-m", "streams", "feed", "jsonl", "-", *where],
        cwd=ROOT,
        stdin=read,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        pipe.write((tmp_path / "first").read_bytes() + b"\n")
        pipe.flush()
        # Standard input stays open: the feed waits for more.
        deadline = Deadline(60)
        while not any(
            asyncio.run(end_offsets(kafka.bootstrap, f"{topic_prefix}user-changes")).values()
        ):
            assert not deadline.has_passed
        feeding.send_signal(signal.SIGINT)
        feeding.wait(60)
    _, told = feeding.communicate(timeout=60)
    assert feeding.returncode == 130
    assert "Interrupted: " in told
    assert "events are published. Feed the same file again to complete it" in told
    assert "Traceback" not in told


def test_status_counts_tenants_and_deferred_changes(kafka: Kafka) -> None:
    from tests.support.system import Events

    with running(kafka.bootstrap, partitions=2) as system:
        system.worker()
        make, other = Events("contoso"), Events("fabrikam")
        system.publish([make.license("staff", "e9"), other.license("all", "e9", "e8")])
        system.settle()
        found = subprocess.run(
            [sys.executable, "-m", "streams", "status"],
            cwd=ROOT,
            env={**os.environ, **system.env, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "2: contoso, fabrikam" in found.stdout
        assert "2 groups wait for products that the catalog does not define" in found.stdout
        assert "contoso/staff for e9" in found.stdout
