"""One worker: the Faust app, the partitions that the group gives it, start and stop."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import uvloop
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from prometheus_client import CollectorRegistry, ProcessCollector

from engine.state.formats import NewerFormatError
from streams.contract.decoder import DECODERS
from streams.contract.topics import CONSUMED, INPUT_NAMES, INTERNAL_NAMES
from streams.kafka.assignor import NO_CLAIM, Claim
from streams.kafka.faust_adapter import App, Batch, build_app
from streams.kafka.topic_admin import check_topics
from streams.metrics import http_endpoint, registry
from streams.metrics.collector import Collector
from streams.runtime import errors, gc_tuning, log_events
from streams.runtime.errors import WorkerError, leave, log
from streams.runtime.settings import Settings
from streams.worker.consumer_lag import Lag
from streams.worker.partition_task import BatchDecoder, Bounds, Partition
from streams.worker.protocols import Machine
from streams.worker.watchdog import Watchdog, Work

NOTE_EVERY = 0.2  # the group's offsets, for lag tools
LOOK_EVERY = 1.0
RESTORES_AT_ONCE = 2  # more would only take turns on the same core, and need the memory
STOP_WITHIN = 8.0
KILL_WITHIN = 9.5

NewMachine = Callable[[int, int], Machine]
Decoders = Mapping[str, BatchDecoder]

# Another owner has our transactional id: it lives, and we are the past.
FENCINGS = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
)
DENIALS = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.ClusterAuthorizationFailedError,
)


def run_worker(
    settings: Settings,
    machine: NewMachine | None = None,
    decoders: Decoders | None = None,
    watch: bool = True,
) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the exit code (``streams/runtime/errors.py``).

    ``machine`` and ``decoders`` are the engine's and the contract's, unless a test has its own.
    """
    log_events.configure(settings.log_level, settings.log_format)
    if machine is None:
        machine = importlib.import_module("engine.partition_machine").PartitionMachine
    if decoders is None:
        decoders = DECODERS
    gc_tuning.configure()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        return asyncio.run(_run(settings, machine, decoders, watch))
    except WorkerError as error:
        log.error(log_events.FAIL_STOP, why=str(error), exit=error.code)
        return error.code


async def _run(settings: Settings, machine: NewMachine, decoders: Decoders, watch: bool) -> int:
    return await Worker(settings, machine, decoders, watch).run()


class Worker:
    def __init__(
        self, settings: Settings, machine: NewMachine, decoders: Decoders, watch: bool = True
    ) -> None:
        self.settings, self.decoders, self.stats = settings, decoders, registry.Stats()
        self.partitions: dict[int, Partition] = {}
        self.restoring, self.turn = asyncio.Semaphore(RESTORES_AT_ONCE), asyncio.Lock()
        self._new_machine, self._watch = machine, watch
        self._claim: Claim = NO_CLAIM
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
        self.lag = Lag(self._short)
        self._app: App = build_app(settings, self, self._short)
        self._watchdog = Watchdog(settings.session_timeout, settings.stall_timeout, self._works)

    # --- start and stop --------------------------------------------------------------------------

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        if await self._unless_stopped(check_topics(self.settings)):
            return errors.OK
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
            for work in (self._app.start(), self._note_offsets(), self._look_after())
        ]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        await self._stop.wait()
        await self._leave_group(tasks)
        log.info(log_events.WORKER_STOPPED)
        return errors.OK

    def _serve(self) -> int:
        registry = CollectorRegistry()
        registry.register(Collector(self.stats, self, self.settings.metrics_max_products))
        ProcessCollector(registry=registry)
        port, _ = http_endpoint.serve(
            registry, self.settings.metrics_port, self._watchdog.complaints, self._unready
        )
        return port

    def _asked_to_stop(self) -> None:
        if not self._stop.is_set():
            log.info(log_events.WORKER_STOPPING)
            self._stop.set()
            self._watchdog.stop_within(KILL_WITHIN)

    async def _unless_stopped(self, work: Any) -> bool:
        """True if the worker was asked to stop before ``work`` was done."""
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
        """Finishes the open transactions, notes the offsets, leaves.

        A static member (SEATFLOW_WORKER_ID) stays one for the session timeout: if it comes back by
        then nothing moves.
        """
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await self.hold()
                await self._note()
                await asyncio.gather(*[p.close() for p in self.partitions.values()])
                await asyncio.gather(*self._closing)
                for task in tasks:
                    task.cancel()
                await self._app.stop()
        except TimeoutError:
            log.warning(log_events.STOP_TIMED_OUT, why="what is open is left to the next owner")
            leave(errors.OK)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and not self._stop.is_set() and (error := task.exception()):
            self.failed(error)

    # --- what Faust asks (streams.kafka.faust_adapter.Host)

    def wanted(self) -> tuple[list[TopicPartition], list[TopicPartition]]:
        first, others = [], []
        for number, partition in self.partitions.items():
            tps = self._tps[number]
            first += [tps[name] for name in INTERNAL_NAMES if partition.has_room(name)]
            others += [tps[name] for name in INPUT_NAMES if partition.has_room(name)]
        return first, others

    def deliver(self, batch: Batch) -> None:
        if partition := self.partitions.get(batch.partition):
            partition.deliver(self._short[batch.topic], batch)

    async def hold(self) -> None:
        await asyncio.gather(*[partition.hold() for partition in self.partitions.values()])

    def assigned(self, partitions: set[int], generation: int) -> None:
        """Keeps what stays, gives up what went, opens what is new.

        What stays is as it was only if nobody could have had it in between. If the group went
        through a generation without us, it is opened anew.
        """
        unbroken = generation - self._claim[1] <= 1
        for number in set(self.partitions):
            if number not in partitions or not unbroken:
                self._give_up(self.partitions.pop(number))
        kept = set(self.partitions)
        for number in partitions - kept:
            self.partitions[number] = Partition(number, self)
        for number in kept:
            self.partitions[number].resume()
            if self.partitions[number].running:
                self.ready(self.partitions[number])
        self._claim = frozenset(partitions), generation
        self.stats.add("rebalances")
        log.info(
            log_events.ASSIGNED,
            generation=generation,
            partitions=sorted(partitions),
            kept=sorted(kept),
        )

    def owned(self) -> Claim:
        return self._claim

    def _give_up(self, partition: Partition) -> None:
        closing = asyncio.create_task(partition.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    # --- what a partition asks (streams.worker.partition_task.Owner)

    def new_machine(self, partition: int) -> Machine:
        return self._new_machine(partition, self.settings.partitions)

    async def bounds(self, tps: Iterable[TopicPartition]) -> Bounds:
        return await self._app.bounds(list(tps))

    def ready(self, partition: Partition) -> None:
        self._spawn(self._app.read_from(partition.places()))

    def read_again(self, partition: Partition, topic: str) -> None:
        tp = TopicPartition(self.settings.topic_prefix + topic, partition.number)
        self._spawn(self._app.read_from({tp: partition.places()[tp]}))

    def _spawn(self, work: Any) -> None:
        asyncio.ensure_future(work).add_done_callback(self._task_ended)

    def failed(self, error: BaseException, partition: int | None = None) -> NoReturn:
        """Fail stop: one clear line, and the end. What is not committed never was."""
        where = {} if partition is None else {"partition": partition}
        name, why = type(error).__name__, str(error)
        if isinstance(error, FENCINGS):
            log.error(
                log_events.FENCED, error=name, exit=errors.TEMPORARY, why=OTHER_OWNER, **where
            )
            leave(errors.TEMPORARY)
        if isinstance(error, WorkerError):
            code = error.code
        elif isinstance(error, NewerFormatError):
            code = errors.CONFIGURATION
        elif isinstance(error, DENIALS):
            code = errors.CONFIGURATION
            why += DENIED.format(user=self.settings.sasl_username or "the worker's certificate")
        elif isinstance(error, (kafka_errors.KafkaError, OSError)):
            code = errors.TEMPORARY
        else:
            code = errors.SOFTWARE
        log.error(
            log_events.FAIL_STOP,
            error=name,
            why=why,
            exit=code,
            exc_info=error if code == errors.SOFTWARE else None,
            **where,
        )
        leave(code)

    # --- now and then ----------------------------------------------------------------------------

    async def _note_offsets(self) -> None:
        while True:
            await asyncio.sleep(NOTE_EVERY)
            await self._note()

    async def _note(self) -> None:
        """Nothing depends on these offsets: what fails, in a rebalance for one, is tried again."""
        applied: dict[TopicPartition, int] = {}
        for partition in self.partitions.values():
            if partition.running:
                applied |= partition.noted()
        if applied:
            try:
                await self._app.note(applied)
            except (kafka_errors.KafkaError, TimeoutError) as error:
                log.debug(log_events.OFFSETS_NOT_NOTED, error=repr(error))

    async def _look_after(self) -> None:
        """The watchdog's beat, the lag, and whether Faust is still there."""
        looked = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._watchdog.beat()
            if self._app.crashed:
                self.failed(self._app.crash_reason or WorkerError("Faust crashed"))
            if self._app.refused:
                self.failed(self._app.refused)
            if loop.time() - looked > LOOK_EVERY and self.partitions:
                looked = loop.time()
                await self._look_at_lag()
            await asyncio.sleep(0.2)

    async def _look_at_lag(self) -> None:
        try:
            places = await self._app.unread()
        except kafka_errors.KafkaError:  # a rebalance has just begun
            places = {}
        wanted = set().union(*self.wanted())
        self._unread = {tp: at for tp, (at, end) in places.items() if at < end and tp in wanted}
        self.lag.look(places, time.time())

    def _works(self) -> Iterator[Work]:
        """For the watchdog, in its thread."""
        for partition in list(self.partitions.values()):
            name = f"partition {partition.number}"
            yield Work(name, partition.busy, partition.progress)
        for tp, position in list(self._unread.items()):
            yield Work(f"reading {tp.topic}, partition {tp.partition},", True, position)

    def _unready(self) -> Iterator[str]:
        """For /readyz, in its thread: what keeps this worker from answering for its partitions."""
        partitions = list(self.partitions.values())
        if self._claim is NO_CLAIM:
            yield "no partitions are assigned yet"
        opening = [partition.number for partition in partitions if not partition.running]
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
