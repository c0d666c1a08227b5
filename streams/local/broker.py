"""A real single-node Apache Kafka (KRaft, from its published jars) as a child process.

For development, the demo, the benchmarks and the tests. It needs Java 17 or later, and Maven the
first time; with Docker, use `docker compose up` instead.

A `Broker` keeps its port over restarts, so that clients find it again, and all its data in one
directory, so that it continues after a kill.
"""

import atexit
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from streams.local.kafka_jars import (
    KAFKA_FILES,
    KAFKA_VERSION,
    BrokerError,
    Say,
    ensure_jars,
    find_java,
    say,
)
from streams.local.ports import can_bind, free_port, kafka_answers
from streams.local.signals import signals_interrupt
from streams.runtime.deadline import Deadline

__all__ = ["Broker", "BrokerError", "free_port", "kafka_answers", "run_in_foreground"]

# An input record over the contract's 1 MiB must still reach a worker to become a dead letter.
MESSAGE_MAX_BYTES = 4 * 1024 * 1024
START_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 30.0
POLL_INTERVAL_SECONDS = 0.05
LOG_TAIL_LINES = 15

BASE_CONFIG: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One node: every replica is this one.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Fewer partitions to create and load: a quick start.
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker can register again only when its old session has expired (default 9 s). Not
    # much shorter: on a busy machine a late heartbeat would fence the only broker.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.min.session.timeout.ms": "1000",
    # Interval at which transactions that timed out are aborted; they block readers (default 10 s).
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "message.max.bytes": str(MESSAGE_MAX_BYTES),
    "log.cleaner.enable": "true",
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
}


class PortInUseError(BrokerError):
    """Raised if another process took the chosen free port before the broker could."""


class Broker:
    """One Kafka process: `with Broker(0, directory) as broker: use(broker.bootstrap)`.

    `port`: 0 chooses a free port and keeps it. `overrides`: lines of server.properties. `log`: the
    file for Kafka's own log, by default broker.log in the data directory. The process dies with
    the *thread* that started it (Linux's PR_SET_PDEATHSIG), so start it in a lasting thread.
    """

    def __init__(
        self,
        port: int,
        data_dir: Path,
        overrides: Mapping[str, str | int] = {},
        log: Path | None = None,
        *,
        host: str = "127.0.0.1",
        heap: tuple[str, ...] = ("-Xms256m", "-Xmx1g"),
        progress: Say = say,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.overrides = dict(overrides)
        self.log = log or self.data_dir / "broker.log"
        self.host = host
        self.heap = heap
        self.cluster = ""  # the id that the brokers of one cluster share; a new one unless set
        self.format_options: tuple[str, ...] = ()  # of kafka-storage.sh, say --add-scram
        self._say = progress
        self._chosen = port == 0
        self._port = port or free_port(host)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients, host:port."""
        return f"{self._reachable_host}:{self._port}"

    @property
    def pid(self) -> int:
        """The id of the running process. Raises: BrokerError, if there is none."""
        if self._process is None:
            raise BrokerError("The broker is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tells whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def _reachable_host(self) -> str:
        # "All interfaces" is where to listen, not where to connect to.
        return "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, timeout: float = START_TIMEOUT_SECONDS) -> None:
        """Starts the broker and waits until it answers.

        Raises: BrokerError, with the end of Kafka's log, after `timeout` seconds.
        """
        attempts = 3
        while not self.running:
            attempts -= 1
            try:
                self._start(timeout)
            except PortInUseError:
                if not attempts:
                    raise
                self._port = free_port(self.host)

    def _start(self, timeout: float) -> None:
        java = find_java()
        if not can_bind(self.host, self._port):
            raise self._port_in_use()
        jars = ensure_jars(self._say)
        with self._locked_data() as lock:
            properties = self._write_properties()
            self._format_storage(java, jars, properties)
            # Only the first JIT compiler: the second takes half of the CPU time of a broker that
            # lives for minutes, and its gain pays only after hours.
            command = [
                str(java),
                "-XX:TieredStopAtLevel=1",
                *self.heap,
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
            ]
            command += ["-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]
            command += _java_tail(jars, "kafka.Kafka", str(properties))
            log_start = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # The parent handles Ctrl-C: it stops the clients first.
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                    pass_fds=[lock],
                )
        atexit.register(self.kill)
        self._wait_until_it_answers(timeout, log_start)

    @contextlib.contextmanager
    def _locked_data(self) -> Iterator[int]:
        """Yields the descriptor of the data directory's lock, which Kafka inherits and keeps.

        Kafka takes its own lock too late: a second broker damages the metadata log before.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "broker.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BrokerError(
                    f"Another Kafka runs on the data in {self.data_dir}: stop it, or choose another"
                    " directory with SEATFLOW_DATA_DIR."
                ) from None
            yield lock.fileno()

    def _wait_until_it_answers(self, timeout: float, log_start: int) -> None:
        assert self._process is not None
        deadline = Deadline(timeout)
        while not kafka_answers(self._reachable_host, self._port):
            code = self._process.poll()
            if code is None and not deadline.has_passed:
                time.sleep(POLL_INTERVAL_SECONDS)
                continue
            self.kill()
            tail = self._log_since(log_start)
            if "Address already in use" in tail:
                raise self._port_in_use()
            what = (
                f"did not answer within {timeout:.0f} s" if code is None else f"ended (code {code})"
            )
            raise BrokerError(f"Kafka {what}. The end of its log, {self.log}:\n{tail}")

    def _port_in_use(self) -> BrokerError:
        if self._chosen:
            return PortInUseError(f"Port {self._port} was taken a moment ago.")
        by = "a running Kafka" if kafka_answers(self._reachable_host, self._port) else "a program"
        return BrokerError(
            f"Port {self._port} on {self.host or 'this machine'} is in use by {by}: stop it, or set"
            f" SEATFLOW_BROKERS to another address, e.g. {self._reachable_host}:{self._port + 1}."
        )

    def _log_since(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"

    def _write_properties(self) -> Path:
        # Only the process itself uses the controller, so its port may change.
        controller = f"127.0.0.1:{free_port()}"
        config = {
            **BASE_CONFIG,
            "listeners": f"PLAINTEXT://{self.host}:{self._port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            # The static form: unlike a quorum kept in the data, it survives a change of ports.
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.data_dir / "kafka"),
            **self.overrides,
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in config.items()))
        return properties

    def _format_storage(self, java: Path, jars: Path, properties: Path) -> None:
        if (self.data_dir / "kafka" / "meta.properties").exists():
            return
        # Kafka's format of a random id; its tools would take a leading dash for an option.
        fresh = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        cluster = self.cluster or fresh
        arguments = ["format", "--ignore-formatted", "-t", cluster, "-c", str(properties)]
        arguments += self.format_options
        # Short-lived: the first compiler and the serial collector start faster.
        command = [str(java), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        command += _java_tail(jars, "kafka.tools.StorageTool", *arguments)
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            complaint = (run.stderr or run.stdout).strip()
            raise BrokerError(f"Kafka could not prepare its data in {self.data_dir}:\n{complaint}")

    def stop(self, timeout: float = STOP_TIMEOUT_SECONDS) -> None:
        """Stops the broker cleanly; kills it after `timeout` seconds. Safe to repeat."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._say(f"Kafka did not stop within {timeout:.0f} s: killing it.")
        self.kill()

    def kill(self) -> None:
        """Kills the process (SIGKILL), like a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        atexit.unregister(self.kill)

    def pause(self) -> None:
        """Pauses the process (SIGSTOP): connections stay open, requests get no response."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continues a paused process (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Waits until the process ends; returns its exit code."""
        return self._process.wait() if self._process is not None else 0


def _java_tail(jars: Path, main_class: str, *arguments: str) -> list[str]:
    log_config = f"-Dlog4j2.configurationFile={KAFKA_FILES / 'log4j2.xml'}"
    return [log_config, "-cp", f"{jars}/*", main_class, *arguments]


# Looked up here, since little is safe between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """To be called in the child: makes the kernel kill it when the parent ends, in any way.

    Linux only; elsewhere, `atexit` stops the child, but not if the parent is killed.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_in_foreground(bootstrap: str, data_dir: Path) -> int:
    """Runs a broker until Ctrl-C or SIGTERM; returns the exit code."""
    try:
        host, port = _one_address(bootstrap)
        broker = Broker(port, data_dir, host=host)
        with signals_interrupt():
            try:
                say(f"Starting Apache Kafka {KAFKA_VERSION} ...")
                broker.start()
                say(f"Kafka listens on {broker.bootstrap}. Ctrl-C stops it.")
                say(f"Data: {broker.data_dir}. Log: {broker.log}.")
                code = broker.wait()
            except KeyboardInterrupt:
                say("\nStopping Kafka ...")
                broker.stop()
                return 0
        raise BrokerError(f"Kafka ended unexpectedly (exit code {code}); its log is {broker.log}.")
    except BrokerError as error:
        say(f"seatflow broker: {error}")
        return 1


def _one_address(bootstrap: str) -> tuple[str, int]:
    host, colon, port = bootstrap.strip().rpartition(":")
    if "," in bootstrap or not colon or not port.isdigit() or int(port) > 65_535:
        raise BrokerError(
            f"SEATFLOW_BROKERS is {bootstrap!r}: to run a broker it must be one address,"
            " host:port, e.g. 127.0.0.1:9092."
        )
    return host, int(port)
