"""One worker: the Faust app, the partitions that the group assigns to it, start and stop."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NoReturn

import uvloop
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from prometheus_client import CollectorRegistry, ProcessCollector

from engine.domain.limits import Limits
from streams.contract.decoder import DECODERS
from streams.contract.topics import CONSUMED, INPUT_NAMES, INTERNAL_NAMES
from streams.kafka.assignor import NOTHING_OWNED, OwnedPartitions
from streams.kafka.broker_watch import BrokerWatch
from streams.kafka.errors import DENIAL, Action, classify
from streams.kafka.faust_adapter import App, Batch, create_app
from streams.kafka.topic_admin import check_topics
from streams.metrics import http_endpoint, registry
from streams.metrics.collector import Collector
from streams.runtime import errors, gc_tuning, log_events
from streams.runtime.errors import WorkerError, exit_now, log
from streams.runtime.settings import Settings
from streams.worker.agents import define_agents
from streams.worker.consumer_lag import ConsumerLag
from streams.worker.forwarding_report import ForwardingReport
from streams.worker.partition_task import PartitionTask
from streams.worker.protocols import BatchDecoder, Bounds, Machine
from streams.worker.watchdog import ProgressProbe, Watchdog

OFFSET_COMMIT_INTERVAL_SECONDS = 0.2  # of the group's offsets, for lag tools
MONITOR_INTERVAL_SECONDS = 0.2
LAG_INTERVAL_SECONDS = 1.0
PARALLEL_RESTORES = 2  # more would only take turns on the same core, and need the memory
STOP_TIMEOUT_SECONDS = 8.0
KILL_TIMEOUT_SECONDS = 9.5  # a supervisor's usual patience is 10 s

NewMachine = Callable[[int, int], Machine]
Decoders = Mapping[str, BatchDecoder]


def run_worker(
    settings: Settings,
    machine: NewMachine | None = None,
    decoders: Decoders | None = None,
    watch: bool = True,
) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the exit code (``streams/runtime/errors.py``).

    ``machine`` and ``decoders`` default to the engine's and the contract's; tests pass their own.
    """
    log_events.configure(settings.log_level, settings.log_format)
    if machine is None:
        partition_machine = importlib.import_module("engine.partition_machine").PartitionMachine
        machine = functools.partial(partition_machine, limits=engine_limits(settings))
    if decoders is None:
        decoders = DECODERS
    gc_tuning.configure()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        return asyncio.run(_run(settings, machine, decoders, watch))
    except WorkerError as error:
        log.error(log_events.FAIL_STOP, why=str(error), exit=error.exit_code)
        return error.exit_code


def engine_limits(settings: Settings) -> Limits:
    """Returns the limits that the settings ``limit_…`` give the engine."""
    return Limits(
        **{field.name: getattr(settings, f"limit_{field.name}") for field in fields(Limits)}
    )


async def _run(settings: Settings, machine: NewMachine, decoders: Decoders, watch: bool) -> int:
    return await Worker(settings, machine, decoders, watch).run()


class Worker:
    """The partitions that the consumer group assigns to this process, in one Faust app.

    Start: check the topics, serve the metrics, start the watchdog, join the group. Each assignment
    opens and closes partitions. Stop: hold all partitions (their last commit), commit the group's
    offsets, close, leave the group.

    Implements :class:`streams.kafka.faust_adapter.ConsumerHost` for Faust and
    :class:`streams.worker.protocols.PartitionContext` for the partitions.
    """

    def __init__(
        self, settings: Settings, machine: NewMachine, decoders: Decoders, watch: bool = True
    ) -> None:
        self.settings, self.decoders = settings, decoders
        self.metrics = registry.WorkerMetrics()
        self.partitions: dict[int, PartitionTask] = {}
        self.restore_slots = asyncio.Semaphore(PARALLEL_RESTORES)
        self.compute_lock = asyncio.Lock()
        self.rebalancing = False
        self._new_machine, self._watch = machine, watch
        self._owned: OwnedPartitions = NOTHING_OWNED
        self._unread: dict[TopicPartition, int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._short = {settings.topic_prefix + name: name for name in CONSUMED}
        self._tps = {
            number: {
                name: TopicPartition(settings.topic_prefix + name, number) for name in CONSUMED
            }
            for number in range(settings.partitions)
        }
        self.lag = ConsumerLag(self._short)
        self.broker = BrokerWatch(settings)
        self._app: App = create_app(settings, self)
        define_agents(self._app, self.deliver)
        self._watchdog = Watchdog(
            settings.session_timeout, settings.stall_timeout, self._progress_probes
        )

    # --- start and stop --------------------------------------------------------------------------

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        if await self._unless_stopped(check_topics(self.settings)):
            return errors.OK
        self.broker.start()
        port = self._serve()
        log.info(
            log_events.WORKER_STARTED,
            app=self.settings.app_id,
            worker=self.settings.worker_id or "dynamic",
            pid=os.getpid(),
            brokers=self.settings.brokers,
            metrics=f"http://127.0.0.1:{port}/metrics",
        )
        if self._watch:
            self._watchdog.start()
        # Faust's start returns only with the first assignment.
        tasks = [
            asyncio.create_task(work)
            for work in (self._app.start(), self._commit_offsets_loop(), self._monitor_loop())
        ]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        await self._stop.wait()
        await self._leave_group(tasks)
        self.broker.stop()
        self._watchdog.stop_timer()
        log.info(log_events.WORKER_STOPPED)
        return errors.OK

    def _serve(self) -> int:
        registry = CollectorRegistry()
        registry.register(Collector(self.metrics, self, self.settings.metrics_max_products))
        ProcessCollector(registry=registry)
        port, _ = http_endpoint.serve(
            registry, self.settings.metrics_port, self._watchdog.unhealthy_reasons, self._unready
        )
        return port

    def _asked_to_stop(self) -> None:
        if not self._stop.is_set():
            log.info(log_events.WORKER_STOPPING)
            self._stop.set()
            self._watchdog.stop_within(KILL_TIMEOUT_SECONDS)

    async def _unless_stopped(self, work: Any) -> bool:
        """Returns whether the worker was asked to stop before ``work`` was done."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
            return self._stop.is_set()
        task.cancel()
        return True

    async def _leave_group(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Finishes the open transactions, commits the group's offsets, leaves the group.

        A static member (SEATFLOW_WORKER_ID) stays a member for the session timeout: if it returns
        within that time, no partition moves.
        """
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await self.hold()
                await self._commit_offsets()
                while self.partitions:
                    self._close(self.partitions.popitem()[1].revoke())
                await asyncio.gather(*self._closing)
                for task in tasks:
                    task.cancel()
                await self._app.stop()
        except TimeoutError:
            log.warning(log_events.STOP_TIMED_OUT, why="the next owner aborts what is open")
            exit_now(errors.OK)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and not self._stop.is_set() and (error := task.exception()):
            self.failed(error)

    # --- ConsumerHost ----------------------------------------------------------------------------

    def pollable_partitions(self) -> tuple[list[TopicPartition], list[TopicPartition]]:
        """Returns the topic partitions with room: internal topics, then inputs."""
        internal, inputs = [], []
        for number, partition in self.partitions.items():
            tps = self._tps[number]
            internal += [tps[name] for name in INTERNAL_NAMES if partition.can_accept(name)]
            inputs += [tps[name] for name in INPUT_NAMES if partition.can_accept(name)]
        return internal, inputs

    def deliver(self, batch: Batch) -> None:
        """Queues a batch at its partition; one of a partition that has left is dropped."""
        try:
            if partition := self.partitions.get(batch.partition):
                partition.deliver(self._short[batch.topic], batch)
        except Exception as error:
            self.failed(error)  # Faust would log it, and start the agent again

    async def hold(self) -> None:
        """Begins a rebalance: every partition commits what is computed, and pauses."""
        self.rebalancing = True
        await asyncio.gather(*[partition.hold() for partition in self.partitions.values()])

    def assigned(self, partitions: set[int], generation: int) -> None:
        """Ends a rebalance: resumes what stays, closes what was revoked or lost, opens the rest.

        A partition stays only if nobody could own it in between. If the group went through a
        generation without this worker, every partition is lost, and opened again if it is assigned.
        A worker that is leaving the group takes nothing more.
        """
        if self._stop.is_set():
            return
        self.rebalancing = False
        missed_a_generation = generation - self._owned[1] > 1
        for number in set(self.partitions):
            if missed_a_generation:
                self._close(self.partitions.pop(number).lose())
            elif number not in partitions:
                self._close(self.partitions.pop(number).revoke())
        kept = set(self.partitions)
        for number in partitions - kept:
            self.partitions[number] = PartitionTask(number, self)
        for number in kept:
            self.partitions[number].resume()
            if self.partitions[number].is_open:
                self.read_from(self.partitions[number].positions())
        self._owned = frozenset(partitions), generation
        self.metrics.add("rebalances")
        log.info(
            log_events.ASSIGNED,
            generation=generation,
            partitions=sorted(partitions),
            kept=sorted(kept),
        )

    def owned(self) -> OwnedPartitions:
        """Returns the last assignment and its generation."""
        return self._owned

    def _close(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # --- PartitionContext ------------------------------------------------------------------------

    def new_machine(self, partition: int) -> Machine:
        """Creates the machine of a partition."""
        return self._new_machine(partition, self.settings.partitions)

    async def bounds(self, tps: Iterable[TopicPartition]) -> Bounds:
        """Returns the first offset of each log and the end of its committed records."""
        return await self._app.bounds(list(tps))

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Starts to read each log from its position."""
        task = asyncio.ensure_future(self._app.read_from(positions))
        task.add_done_callback(self._task_ended)

    def failed(self, error: BaseException, partition: int | None = None) -> NoReturn:
        """Ends the process with one clear line. What is not committed is undone by the next owner.

        The exit code says who acts: see :func:`streams.kafka.errors.classify`.
        """
        action, name = classify(error), type(error).__name__
        code = action.exit_code
        where = {} if partition is None else {"partition": partition}
        if action is Action.FENCED:
            log.error(log_events.FENCED, error=name, exit=code, why=OTHER_OWNER, **where)
            exit_now(code)
        why = str(error)
        if isinstance(error, DENIAL):
            why += DENIED.format(user=self.settings.sasl_username or "the worker's certificate")
        traceback = error if action is Action.REPORT else None
        log.error(log_events.FAIL_STOP, error=name, why=why, exit=code, exc_info=traceback, **where)
        exit_now(code)

    # --- periodic work ---------------------------------------------------------------------------

    async def _commit_offsets_loop(self) -> None:
        while True:
            await asyncio.sleep(OFFSET_COMMIT_INTERVAL_SECONDS)
            await self._commit_offsets()

    async def _commit_offsets(self) -> None:
        """Commits the group's offsets. Nothing depends on them: a failure is tried again."""
        offsets: dict[TopicPartition, int] = {}
        for partition in self.partitions.values():
            if partition.is_open:
                offsets |= partition.committable_offsets()
        if offsets:
            try:
                await self._app.commit_offsets(offsets)
            except (kafka_errors.KafkaError, TimeoutError) as error:
                log.debug(log_events.OFFSETS_NOT_NOTED, error=repr(error))

    async def _monitor_loop(self) -> None:
        """Sends the watchdog's heartbeat, watches Faust, and measures the lag."""
        measured_at, report = 0.0, ForwardingReport()
        loop = asyncio.get_running_loop()
        while True:
            self._watchdog.heartbeat()
            if self._app.crashed:
                self.failed(self._app.crash_reason or WorkerError("Faust crashed"))
            if error := self._app.join_error:
                self.failed(error)
            report.update(self.metrics.counts["events_forwarded"], loop.time())
            if loop.time() - measured_at > LAG_INTERVAL_SECONDS and self.partitions:
                measured_at = loop.time()
                await self._measure_lag()
            await asyncio.sleep(MONITOR_INTERVAL_SECONDS)

    async def _measure_lag(self) -> None:
        try:
            progress = await self._app.progress()
        except kafka_errors.KafkaError:  # a rebalance has just begun
            progress = {}
        pollable = set().union(*self.pollable_partitions())
        self._unread = {
            tp: position
            for tp, (position, end) in progress.items()
            if position < end and tp in pollable
        }
        self.lag.update(progress, time.time())

    def _progress_probes(self) -> Iterator[ProgressProbe]:
        """Yields what must make progress; called in the watchdog's thread."""
        for partition in list(self.partitions.values()):
            name = f"partition {partition.number}"
            yield ProgressProbe(name, partition.is_busy, partition.progress)
        for tp, position in list(self._unread.items()):
            yield ProgressProbe(f"reading {tp.topic}, partition {tp.partition},", True, position)

    def _unready(self) -> Iterator[str]:
        """Yields why this worker is not ready, for /readyz; called in that thread."""
        partitions = list(self.partitions.values())
        if problem := self.broker.problem():
            yield problem
        if self._owned is NOTHING_OWNED:
            yield "no partitions are assigned yet"
        opening = [partition.number for partition in partitions if not partition.is_open]
        for number in opening:
            yield f"partition {number} is being restored"
        most = self.settings.ready_lag
        for topic, age in self.lag.seconds(partitions, time.time()).items():
            if age > most:
                yield f"{topic} lags by {age:.0f} s; SEATFLOW_READY_LAG is {most:g}"


DENIED = " ({user} lacks a right that workers need: docs/security.md, Rights)"
OTHER_OWNER = (
    "another worker owns the partition now: this one was silent longer than"
    " SEATFLOW_SESSION_TIMEOUT, or a second one has the same SEATFLOW_WORKER_ID (or the broker was"
    " away longer than the 15 s that a transaction may last)"
)
