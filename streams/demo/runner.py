"""Runs the demo: a broker, workers and a sample tenant on this machine, and a report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from streams.contract.topics import OUTPUTS
from streams.demo.console_process import console_running
from streams.demo.report import show
from streams.demo.scenario import Step, demo_steps
from streams.demo.summary import CompletedStep, Summary, summarize
from streams.ingest import FeedItem, publish
from streams.kafka.group_status import LagReader, wait_until_settled
from streams.kafka.topic_admin import create_topics
from streams.kafka.topic_reader import TopicReader
from streams.local.broker import Broker, die_with_parent
from streams.local.kafka_jars import KAFKA_VERSION
from streams.local.signals import signals_interrupt
from streams.runtime.deadline import Deadline
from streams.runtime.errors import MEANING, TEMPORARY, WorkerError
from streams.runtime.settings import PREFIX, Settings, load_settings

INTERRUPTED = 130
READY_TIMEOUT_SECONDS = 60.0
SETTLE_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 12.0
LOG_TAIL_LINES = 12
MAX_WIDTH = 100

# The topics that are read, and those of which every record is kept, not only the latest of a key.
TOPICS = (*(topic.name for topic in OUTPUTS if topic.name != "audit"), "subscriptions")
LOGGED = ("user-licenses", "product-seats", "subscriptions", "results", "dead-letters")


class _Process(NamedTuple):
    popen: subprocess.Popen[bytes]
    log: Path


class Workers:
    """Worker processes, each with a log file in the directory."""

    def __init__(self, settings: Settings, count: int, directory: Path) -> None:
        self._settings, self._count, self._directory = settings, count, directory
        self._processes: list[_Process] = []

    def __enter__(self) -> Self:
        for number in range(1, self._count + 1):
            path = self._directory / f"worker-{number}.log"
            with path.open("wb") as log:
                popen = subprocess.Popen(
                    [sys.executable, "-m", "streams", "worker"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environment(),
                    cwd=self._directory,  # so that a user's .env file is not read
                    # The demo handles Ctrl-C: it stops the workers before the broker.
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            self._processes.append(_Process(popen, path))
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.popen.send_signal(signal.SIGTERM)
        deadline = Deadline(STOP_TIMEOUT_SECONDS)
        for popen, _ in self._processes:
            try:
                popen.wait(max(0.1, deadline.remaining_seconds))
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()

    def environment(self) -> dict[str, str]:
        """Returns the environment of the demo's processes, without the user's settings."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        names = ("brokers", "app_id", "partitions", "topic_prefix", "log_level")
        given = {PREFIX + name.upper(): str(getattr(self._settings, name)) for name in names}
        return {**ours, **given, "PYTHONPATH": path}

    def check(self) -> None:
        """Raises WorkerError, with the end of the log, if a worker has ended."""
        for number, (popen, path) in enumerate(self._processes, start=1):
            code = popen.poll()
            if code is None:
                continue
            tail = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            why = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            meaning = f" ({MEANING[code]})" if code in MEANING else ""
            raise WorkerError(
                f"worker {number} {why}{meaning}. The end of its log, {path}:\n"
                + ("\n".join(f"  {line}" for line in tail) or "  (empty)"),
                code if code > 0 else TEMPORARY,
            )

    def metrics(self) -> list[str]:
        """Returns the metrics addresses of the workers that have started, from their logs."""
        found = []
        for _, path in self._processes:
            if match := re.search(
                r"metrics=\W*(http://[\w.:/]+)", path.read_text(errors="replace")
            ):
                found.append(match[1])
        return found

    def wait_until_ready(self) -> None:
        """Waits until each worker has restored its partitions. Raises: WorkerError."""
        deadline = Deadline(READY_TIMEOUT_SECONDS)
        while True:
            self.check()
            addresses = self.metrics()
            if len(addresses) == self._count and all(map(_ready, addresses)):
                return
            if deadline.has_passed:
                raise WorkerError(
                    f"the workers were not ready within {READY_TIMEOUT_SECONDS:.0f} s; their logs"
                    f" are in {self._directory}",
                    TEMPORARY,
                )
            time.sleep(0.1)


def _ready(metrics: str) -> bool:
    try:
        with urlopen(metrics.replace("/metrics", "/readyz"), timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def run_demo(once: bool, workers: int = 2, data_dir: Path | None = None) -> int:
    """Runs the demo and returns the exit code. Raises: BrokerError, WorkerError."""
    console = _console()
    finished = False
    try:
        with (
            signals_interrupt(),
            _directory(data_dir) as directory,
            _running(console, workers, directory) as (settings, processes),
        ):
            show(asyncio.run(run_scenario(settings, processes, console)), console)
            finished = True
            if not once:
                _keep_running(settings, processes, directory, console)
    except KeyboardInterrupt:
        return 0 if finished else INTERRUPTED
    return 0


def _keep_running(
    settings: Settings, workers: Workers, directory: Path, console: Console
) -> NoReturn:
    """Keeps running, with the web console, until Ctrl-C or until a worker ends."""
    with console_running(workers.environment(), settings.http_port, directory) as address:
        _print_instructions(settings, workers, directory, console)
        console.print(f"\nConsole  [bold]{address}[/]", soft_wrap=True)
        while True:
            workers.check()
            time.sleep(0.3)


def _console() -> Console:
    console = Console(highlight=False)
    # Long lines are hard to read, and a pipe has no width.
    if console.width > MAX_WIDTH or not console.is_terminal:
        console.width = MAX_WIDTH
    return console


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    """Yields a new directory for this demo. A temporary one is kept only after an error."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="seatflow-demo-", dir=given)).resolve()
    wrong = False
    try:
        yield directory
    except Exception:
        wrong = any(directory.iterdir())
        raise
    finally:
        if given is None and not wrong:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _running(console: Console, count: int, directory: Path) -> Iterator[tuple[Settings, Workers]]:
    """Runs Kafka on a free port, with the topics, and the workers; stops them in reverse order."""
    broker = Broker(0, directory / "broker", progress=console.print)
    with contextlib.ExitStack() as stack:
        with console.status(f"Starting Apache Kafka {KAFKA_VERSION} …"):
            began = time.monotonic()
            stack.enter_context(broker)
            kafka = time.monotonic()
        settings = load_settings(
            brokers=broker.bootstrap, security_protocol="PLAINTEXT", replication=1
        )
        with console.status(f"Creating the topics and starting {count} workers …"):
            asyncio.run(create_topics(settings))
            workers = stack.enter_context(Workers(settings, count, directory))
            workers.wait_until_ready()
        console.print(
            f"Apache Kafka {KAFKA_VERSION} at [bold]{broker.bootstrap}[/] ({kafka - began:.1f} s),"
            f" topics and {count} workers ({time.monotonic() - kafka:.1f} s), data in {directory}",
            soft_wrap=True,
        )
        try:
            yield settings, workers
        finally:
            stack.enter_context(console.status("Stopping the workers and Kafka …"))


# --- the scenario --------------------------------------------------------------------------------


async def run_scenario(settings: Settings, workers: Workers, console: Console) -> Summary:
    """Publishes the sample tenant, each step when the previous one has settled."""
    console.print()
    completed = []
    async with TopicReader(settings, TOPICS, LOGGED) as seen, LagReader(settings) as lag:
        for step in demo_steps():
            with console.status(step.sentence) as line:
                completed.append(await _run_step(step, settings, workers, seen, lag, line))
            console.print(_step_line(completed[-1], console.width))
    return summarize(seen, completed)


async def _run_step(
    step: Step, settings: Settings, workers: Workers, seen: TopicReader, lag: LagReader, line: Any
) -> CompletedStep:
    async def look(left: int) -> None:
        workers.check()
        line.update(f"{step.sentence} [dim]{left:,} records left[/]")
        await seen.read(0.0)

    silent = Console(quiet=True)
    before, began = seen.records, time.monotonic()
    items = [FeedItem(*record) for record in step.records]
    published = await publish(items, settings.brokers, settings.topic_prefix, console=silent)
    done = await wait_until_settled(lag, SETTLE_TIMEOUT_SECONDS, look)
    if seen.records > before:
        # Committed offsets lag behind: the last output is the better measure.
        done = seen.last_arrival
    await seen.catch_up()
    return CompletedStep(step.name, step.sentence, published.events, done - began)


def _step_line(step: CompletedStep, width: int) -> Table:
    line = Table.grid(padding=(0, 1), expand=True)
    line.width = width
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True, style="dim")
    line.add_column(justify="right", no_wrap=True, min_width=7)
    events = f"{step.events:,} event{'s' if step.events != 1 else ''}"
    line.add_row(step.sentence, events, f"{step.seconds:.2f} s")
    return line


def _print_instructions(
    settings: Settings, workers: Workers, directory: Path, console: Console
) -> None:
    command = shlex.quote(os.path.relpath(sys.argv[0])) if sys.argv[0] else "seatflow"
    console.print()
    console.rule("[bold]Running[/]", align="left")
    console.print(f"Kafka    {settings.brokers}")
    for number, address in enumerate(workers.metrics(), start=1):
        console.print(f"Worker   {address}, log {directory}/worker-{number}.log", soft_wrap=True)
    console.print("\nSend events from another terminal, and see the result:\n")
    lines = f"""\
export SEATFLOW_BROKERS={settings.brokers}
{command} feed jsonl - <<'END'
{{"type":"user.upserted","id":"my-1","tenant":"contoso","user":"me","usageLocation":"US"}}
{{"type":"membership.added","id":"my-2","tenant":"contoso","user":"me","group":"new-joiners"}}
END
{command} status --wait
{command} read user-licenses --key contoso/me
{command} status"""
    console.print(lines, style="cyan", markup=False, soft_wrap=True)
    console.print("\nCtrl-C stops everything.")
