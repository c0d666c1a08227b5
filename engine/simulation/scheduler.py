"""Workers that handle, commit, crash, pause and lose partitions, one random step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from engine.domain.events import UserSnapshot
from engine.machines.user_phase import UserPhase
from engine.partition_machine import PartitionMachine
from engine.simulation.forwarding import FORWARDED_EVENTS, Forwarded
from engine.simulation.in_memory_cluster import INPUTS, INTERNAL
from engine.simulation.invariants import InvariantMonitor, SeatUsage, Violation, seat_usage
from engine.simulation.last_defence import PlantedStall, Suspects
from engine.simulation.simulated_broker import Broker, Transaction, seal_transaction
from engine.simulation.simulation_config import SimulationConfig
from engine.simulation.workload import Input
from engine.state.seat_lease import PREFETCH_MIN_UNITS
from engine.state.tenant_state import User

LEASES = ("internal.seat-grants", "internal.seat-requests")
REPEATABLE_TOPICS = (*LEASES, "internal.group-reports", "internal.address-verdicts")
SETTLE_STEPS = 6_000


@dataclass(slots=True)
class PartitionRun:
    """A partition that a worker runs.

    ``sent``: the transaction that is in flight; ``forwarded``: the events for the next one.
    """

    machine: PartitionMachine
    epoch: int
    applied: dict[str, int]
    usage: dict[str, SeatUsage]
    phases: dict[User, UserPhase]
    suspects: Suspects = field(default_factory=Suspects)
    sent: Transaction | None = None
    forwarded: list[Forwarded] = field(default_factory=list)


@dataclass(slots=True)
class Worker:
    """A worker process and the partitions it runs. ``paused_steps``: steps until it continues."""

    name: int
    open: dict[int, PartitionRun] = field(default_factory=dict)
    paused_steps: int = 0


class Simulation:
    """One history. Time is the order of steps; events bring their own timestamps."""

    def __init__(
        self, config: SimulationConfig, trace: list[tuple[object, ...]] | None = None
    ) -> None:
        self.config = config
        self.random = Random(f"{config.seed}/{config.schedule}")
        prefetch = self.random.choice((1, 2, PREFETCH_MIN_UNITS))
        self.broker = Broker(config.partitions, prefetch, config.limits, config.mixed)
        self.topics = (*INTERNAL, *((FORWARDED_EVENTS,) if config.mixed else ()), *INPUTS)
        self.monitor = InvariantMonitor(self.broker)
        self.monitor.snapshots = {i.key for i in config.inputs if isinstance(i.event, UserSnapshot)}
        self.workers = [Worker(i) for i in range(config.workers)]
        self.owners = [self.random.choice(self.workers) for _ in range(config.partitions)]
        self.delayed_topics: dict[tuple[str, int], int] = {}
        self.pending_inputs = list(reversed(config.inputs))
        self.published: list[Input] = []
        self.sent: dict[tuple[str, str], Input] = {}
        self.trace = trace
        self.attempted: dict[int, dict[str, int]] = {}  # where each partition was last opened
        self.steps = 0
        self.faults = [
            (act, weight) for kind, act, weight in self._faults() if kind in config.faults
        ]
        for p in range(config.partitions):
            self._assign(p)

    def _faults(self) -> list[tuple[str, Callable[[], None], int]]:
        return [
            ("crash", self._crash, 3),
            ("abort", self._abort, 2),
            ("pause", self._pause, 3),
            ("move", self._move, 2),
            ("hold", self._hold, 4),
            ("repeat message", self._repeat_message, 4),
            ("repeat event", self._repeat_event, 4),
            ("restart", self._restart, 2),
        ]

    def record(self, *what: object) -> None:
        """Adds a line to the trace, if there is one."""
        if self.trace is not None:
            self.trace.append((self.steps, *what))

    # -- phases
    def load(self) -> None:
        """Publishes the inputs while machines run and faults happen."""
        r = self.random
        rate = r.choice((0.0, 0.02, 0.05, 0.1)) if self.faults else 0.0
        pace = r.choice((0.05, 0.1, 0.3))
        after = 80
        while self.pending_inputs or after:
            self.steps += 1
            after -= not self.pending_inputs
            self._time_passes()
            if self.pending_inputs and r.random() < pace:
                for _ in range(r.choice((1, 1, 1, 2, 6))):
                    self._publish_next()
            elif r.random() < rate:
                r.choices([a for a, _ in self.faults], [w for _, w in self.faults])[0]()
            else:
                self._work()

    def heal(self) -> None:
        """Ends all faults: workers run, no topic is delayed, each partition has a running owner."""
        self.record("heal")
        self.delayed_topics.clear()
        for worker in self.workers:
            worker.paused_steps = 0
            for p, run in list(worker.open.items()):
                if run.epoch != self.broker.epochs[p]:
                    self._seal(worker, p, run)
                    self._commit(worker, p, run)
        for p, owner in enumerate(self.owners):
            if p not in owner.open:
                self._open(owner, p)

    def settle(self, limit: int = SETTLE_STEPS) -> None:
        """Runs until nothing is left to do.

        Raises:
            Violation: if that takes more than ``limit`` steps.
        """
        for _ in range(limit):
            busy = [p for p in range(self.config.partitions) if self._busy(p)]
            if not busy:
                return
            self.steps += 1
            p = self.random.choice(busy)
            for _ in range(self.random.choice((1, 1, 2, 3))):
                owner = self.owners[p]
                self._run(owner, p, owner.open[p])  # a failure opens the partition again
            owner = self.owners[p]
            run = owner.open[p]
            if run.sent is None:
                self._seal(owner, p, run)
            self._commit(owner, p, run)
        raise Violation("settles", f"not settled after {limit} steps")

    def machine(self, p: int) -> PartitionMachine:
        """Returns the machine of the partition's owner."""
        return self.owners[p].open[p].machine

    def machines(self) -> list[PartitionMachine]:
        """Returns the owners' machines, by partition."""
        return [self.machine(p) for p in range(self.config.partitions)]

    def publish(self, i: Input) -> None:
        """Publishes an input and notes it for the checks at the end."""
        self.record("input", i)
        self.sent[i.key, i.event.id] = i
        self.broker.publish(i.topic, i.key, i.event, i.at)

    def restart_all(self) -> None:
        """Restores every partition from its changelog."""
        for p in range(self.config.partitions):
            self._open(self.owners[p], p)

    # -- steps of partitions
    def _runs(self) -> list[tuple[Worker, int, PartitionRun]]:
        return [
            (w, p, run) for w in self.workers if not w.paused_steps for p, run in w.open.items()
        ]

    def _lag(self, p: int, applied: dict[str, int]) -> list[tuple[str, int]]:
        logs = self.broker.logs
        return [
            (topic, behind)
            for topic in self.topics
            if (behind := len(logs[topic, p]) - applied.get(topic, 0)) > 0
            and (topic, p) not in self.delayed_topics
        ]

    def _busy(self, p: int) -> bool:
        run = self.owners[p].open[p]
        machine = run.machine
        return bool(
            machine.has_background_work
            or machine.has_unreported_changes
            or machine.effects.records
            or machine.effects.rows
            or run.sent
            or run.forwarded
            or self._lag(p, run.applied)
        )

    def _work(self) -> None:
        """Takes one random step of a partition, run by its owner or by a zombie."""
        runs = self._runs()
        if not runs:
            return
        worker, p, run = self.random.choice(runs)
        acts: list[Callable[[Worker, int, PartitionRun], None]] = [self._run] * 5
        acts += [self._commit] * 4 if run.sent else [self._seal] * 3
        self.random.choice(acts)(worker, p, run)

    def _run(self, worker: Worker, p: int, run: PartitionRun) -> None:
        lag = self._lag(p, run.applied)
        machine = run.machine
        choices = ["handle"] * (3 if lag else 0)
        choices += ["work"] * (2 if machine.has_background_work else 0) + [
            "flush"
        ] * machine.has_unreported_changes
        if not choices:
            return
        choice = self.random.choice(choices)
        if choice == "handle":
            topic, behind = self.random.choice(lag)
            count = min(behind, self.random.choice((1, 1, 2, 5, 50)))
            if run.suspects.are_left(run.applied):
                count = 1
            first = run.applied.get(topic, 0)
            batch = self.broker.logs[topic, p][first : first + count]
            self.record(f"worker {worker.name}", f"partition {p}", "handles", topic, batch)
            try:
                bugs = self.config.poison, self.config.stalls
                forwarded = run.suspects.handle(machine, topic, batch, *bugs)
            except PlantedStall:
                self._end(worker)
                return
            if forwarded is None:
                self._open_again(worker, p, run, topic, first + count)
                return
            run.forwarded += forwarded
            run.applied[topic] = first + count
        elif choice == "work":
            limit = self.random.choice((1, 2, 3, 100))
            self.record(f"worker {worker.name}", f"partition {p}", f"fans out to {limit} users")
            machine.run_background(limit)
        else:
            self.record(f"worker {worker.name}", f"partition {p}", "flushes")
            machine.flush()
        self.monitor.machine(machine, run.usage)
        self.monitor.phases(machine, run.phases)

    def _open_again(self, worker: Worker, p: int, run: PartitionRun, topic: str, end: int) -> None:
        """The batch of the topic up to ``end`` failed: its records are applied one by one."""
        run.suspects.note_failure(topic, end, run.applied, self.broker.applied[p])
        self.record(f"worker {worker.name}", f"partition {p}", "fails", run.suspects)
        self._open(worker, p)
        worker.open[p].suspects = run.suspects

    def _seal(self, _worker: Worker, p: int, run: PartitionRun) -> None:
        effects = run.machine.effects
        changed = effects.rows or effects.records or run.applied != self.broker.applied[p]
        if run.sent is None and changed:
            run.sent = seal_transaction(run.machine, p, run.epoch, run.applied, run.forwarded)
            run.forwarded = []

    def _commit(self, worker: Worker, p: int, run: PartitionRun) -> None:
        if run.sent is None:
            return
        first = len(self.broker.outputs)
        transaction, run.sent = run.sent, None
        if self.broker.append(transaction) is None:
            self.record(f"worker {worker.name}", f"partition {p}", "is fenced")
            del worker.open[p]
            return
        outputs = self.broker.outputs[first:]
        self.record(f"worker {worker.name}", f"partition {p}", "commits", transaction, outputs)
        self.monitor.committed(transaction, outputs)

    # -- ownership of partitions
    def _open(self, worker: Worker, p: int) -> None:
        """Fence, then restore (architecture, section 2)."""
        epoch = self.broker.fence(p)
        self.record(f"worker {worker.name}", f"partition {p}", f"is opened, epoch {epoch}")
        machine = self.broker.restored(p, self.random)
        known = {key: seat_usage(seats) for key, seats in machine.products.budgets.items()}
        machine.work.phase_log = []
        phases = {
            user: machine.users.phase(user)
            for tenant in machine.configuration.tenants.values()
            for user in tenant.users.values()
        }
        applied = dict(self.broker.applied[p])
        run = worker.open[p] = PartitionRun(machine, epoch, applied, known, phases)
        if self.attempted.get(p) == applied:
            ends = {topic: len(log) for (topic, of), log in self.broker.logs.items() if of == p}
            run.suspects.try_all(ends)
        self.attempted[p] = dict(applied)

    def _assign(self, p: int) -> None:
        awake = [w for w in self.workers if not w.paused_steps] or self.workers
        self.owners[p] = self.random.choice(awake)
        self._open(self.owners[p], p)

    def _time_passes(self) -> None:
        for worker in self.workers:
            worker.paused_steps = max(0, worker.paused_steps - 1)
        for place in [place for place, left in self.delayed_topics.items() if left <= 1]:
            del self.delayed_topics[place]
        for place in self.delayed_topics:
            self.delayed_topics[place] -= 1

    def _publish_next(self) -> None:
        if self.pending_inputs:
            i = self.pending_inputs.pop()
            self.published.append(i)
            self.publish(i)

    # -- faults
    def _crash(self) -> None:
        """A worker loses its uncommitted effects; other workers take over its partitions."""
        self._end(self.random.choice(self.workers))

    def _end(self, worker: Worker) -> None:
        self.record(f"worker {worker.name}", "ends")
        worker.open.clear()
        worker.paused_steps = 0
        for p in self._owned(worker):
            self._assign(p)

    def _owned(self, worker: Worker) -> Iterator[int]:
        return iter([p for p, owner in enumerate(self.owners) if owner is worker])

    def _abort(self) -> None:
        """A transaction fails: the partition is restored where it is."""
        runs = self._runs()
        if runs:
            worker, p, _ = self.random.choice(runs)
            self.record(f"worker {worker.name}", f"partition {p}", "aborts")
            del worker.open[p]
            if self.owners[p] is worker:
                self._open(worker, p)

    def _pause(self) -> None:
        """A worker pauses with uncommitted effects; it may continue as a zombie."""
        worker = self.random.choice(self.workers)
        worker.paused_steps = self.random.randint(5, 60)
        self.record(f"worker {worker.name}", f"sleeps for {worker.paused_steps} steps")
        for p, run in worker.open.items():
            if self.random.random() < 0.5:
                self._seal(worker, p, run)
        if self.random.random() < 0.7 and not all(w.paused_steps for w in self.workers):
            for p in self._owned(worker):
                self._assign(p)

    def _move(self) -> None:
        """A rebalance: the old owner commits what it has computed, or is too late."""
        p = self.random.randrange(self.config.partitions)
        worker = self.owners[p]
        run = worker.open.get(p)
        if run is None or worker.paused_steps:
            return
        if self.random.random() < 0.5:
            self._commit(worker, p, run)
            if self.random.random() < 0.7:
                self._seal(worker, p, run)
                self._commit(worker, p, run)
        if self.random.random() < 0.7:
            worker.open.pop(p, None)
        self._assign(p)

    def _restart(self) -> None:
        for p in range(self.config.partitions):
            if not self.owners[p].paused_steps:
                self._open(self.owners[p], p)

    def _hold(self) -> None:
        """Delays one topic of a partition for some steps."""
        topic = self.random.choice(self.topics)
        p = self.random.randrange(self.config.partitions)
        self.delayed_topics[topic, p] = self.random.randint(10, 100)
        self.record("hold", topic, f"of partition {p}")

    def _repeat_message(self) -> None:
        """Repeats a message: any of a lease topic, else the last one of its log."""
        topic = self.random.choice(REPEATABLE_TOPICS)
        p = self.random.randrange(self.config.partitions)
        log = self.broker.logs[topic, p]
        if log:
            offset = self.random.randrange(len(log)) if topic in LEASES else len(log) - 1
            self.record("repeat", topic, f"of partition {p}", log[offset])
            self.broker.repeat(topic, p, offset)

    def _repeat_event(self) -> None:
        """Publishes an input event a second time (R24)."""
        if self.published:
            self.publish(self.random.choice(self.published))
