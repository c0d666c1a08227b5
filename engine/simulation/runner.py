"""The simulator: random tenants, random faults, invariants. One seed is one history.

    python -m engine.simulation.runner --seeds 1000        many seeds; ends with 1 if one fails
    python -m engine.simulation.runner --seed 7 --trace    one seed, step by step

Everything runs in one thread on the machines of the product: no Kafka, no clock (quality, 2).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from random import Random
from typing import Any

from engine.domain import events as ev
from engine.domain.limits import DEFAULT_LIMITS
from engine.domain.vocabulary import COUNT, OTHER
from engine.simulation.final_checks import verify
from engine.simulation.invariants import Violation, require
from engine.simulation.last_defence import DEAD_LETTERS
from engine.simulation.minimize import minimized
from engine.simulation.scheduler import Simulation
from engine.simulation.simulation_config import SimulationConfig, small_limits
from engine.simulation.workload import START, Input, Tenants

Trace = list[tuple[object, ...]]
MERGED_SEAT_ERRORS = {COUNT: "seatless", OTHER: "seatless"}


def config_for(seed: int) -> SimulationConfig:
    """Returns the configuration that follows from a seed."""
    random = Random(seed)
    partitions, workers = random.randint(1, 4), random.randint(1, 3)
    inputs = Tenants(random, random.randint(15, 60)).inputs
    limits = small_limits(seed) if seed % 4 == 3 else DEFAULT_LIMITS
    mixed = seed % 4 == 2
    return SimulationConfig(seed, partitions, workers, tuple(inputs), limits=limits, mixed=mixed)


def run(config: SimulationConfig, trace: Trace | None = None) -> Simulation:
    """Runs one history: faults, healing, settling; then the actions that must change nothing.

    Raises:
        Violation: if an invariant does not hold.
    """
    s = Simulation(config, trace)
    s.load()
    s.heal()
    s.settle()
    verify(s)
    _restart_changes_nothing(s)
    _reprocess_changes_nothing(s)
    _repetition_changes_nothing(s)
    verify(s)
    return s


def _unchanged(s: Simulation, since: int, what: str, topics: Sequence[str] = ()) -> None:
    for output in s.broker.outputs[since:]:
        if output.topic in topics or (not topics and output.topic != DEAD_LETTERS):
            require(False, f"{what} changes nothing", output)


def _restart_changes_nothing(s: Simulation) -> None:
    before = len(s.broker.outputs)
    s.restart_all()
    s.settle()
    _unchanged(s, before, "a restart")


def _reprocess_changes_nothing(s: Simulation) -> None:
    """R10: the first reprocess may publish a change, the second may not.

    With manual retry the first may admit waiting users (R9). Of a group that lacks a seat, Other
    may become CountViolation and back as other users take seats of the group's other products.
    """
    settings = [
        b.settings for machine in s.machines() for b in machine.configuration.tenants.values()
    ]
    first, users = len(s.broker.outputs), dict(s.monitor.users)
    _reprocess(s, 0)
    if all(tenant.automatic for tenant in settings):
        for _, _, key, value in [o for o in s.broker.outputs[first:] if o.topic == "user-licenses"]:
            same = key in users and value is not None and _seatless(users[key]) == _seatless(value)
            require(same, "a reprocess changes nothing", key, value)
    second = len(s.broker.outputs)
    _reprocess(s, 1)
    _unchanged(s, second, "a second reprocess", ("user-licenses", "errors", "product-seats"))


def _seatless(user: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The states, with one word for the two that say that a seat is missing."""
    names = ("skuId", "assignedByGroup", "disabledPlans", "state")
    return [
        (*(state[name] for name in names), MERGED_SEAT_ERRORS.get(state["error"], state["error"]))
        for state in user["licenseAssignmentStates"]
    ]


def _reprocess(s: Simulation, turn: int) -> None:
    for i in _reprocesses(s, turn):
        s.publish(i)
    s.settle()


def _reprocesses(s: Simulation, turn: int) -> list[Input]:
    at = START + 1_000_000 + turn
    found = []
    for i in {i.key: i for i in s.config.inputs if i.topic in ("user-changes", "group-changes")}:
        tenant, name = i.split("/")
        id = f"again{turn}.{name}"
        if name.startswith("u"):
            found.append(Input("user-changes", i, ev.UserReprocess(id, tenant, name), at))
        else:
            found.append(Input("group-changes", i, ev.GroupReprocess(id, tenant, name), at))
    return found


def _repetition_changes_nothing(s: Simulation) -> None:
    """R24: all the input once more."""
    before = len(s.broker.outputs)
    for i in s.config.inputs:
        s.publish(i)
    s.settle()
    _unchanged(s, before, "a repetition")


def failure(config: SimulationConfig) -> BaseException | None:
    """Returns the violation that a run ends with, or the exception of the engine, else None."""
    try:
        run(config)
    except Exception as error:
        return error
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the seeds that the arguments ask for; returns the exit code."""
    options = _options(argv)
    if options.seed is not None:
        return _one(options.seed, options.trace)
    started, failed, steps, fenced = time.process_time(), [], 0, 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            s = run(config_for(seed))
        except Exception as error:
            print(f"seed {seed}: {_line(error)}", flush=True)
            failed.append(seed)
            if len(failed) >= options.stop:
                break
        else:
            steps += s.steps
            fenced += s.broker.fenced
    seconds = time.process_time() - started
    count = seed + 1 - options.first
    print(
        f"{count} seeds in {seconds:.1f} s of one core ({count / seconds * 60:,.0f} a minute), "
        f"{steps:,} steps, {fenced:,} zombies fenced, {len(failed)} failed"
    )
    if failed:
        _explain(failed[0])
    return 1 if failed else 0


def _one(seed: int, traced: bool) -> int:
    trace: Trace = []
    try:
        run(config_for(seed), trace)
    except Exception:
        if traced:
            _print(trace)
        traceback.print_exc()
        if not traced:
            _explain(seed)
        return 1
    if traced:
        _print(trace)
    print(f"seed {seed}: everything holds")
    return 0


def _explain(seed: int) -> None:
    """The shortest history found that goes wrong the same way."""
    small = minimized(config_for(seed), failure)
    print(f"\nseed {seed}, minimized to {len(small.inputs)} events, faults {sorted(small.faults)}:")
    for i in small.inputs:
        print(f"  {i}")
    trace: Trace = []
    try:
        run(small, trace)
    except Exception as error:
        print(f"{len(trace)} lines of trace, the last ones:")
        _print(trace[-12:])
        print(_line(error))


def _line(error: BaseException) -> str:
    if isinstance(error, Violation):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"


def _print(trace: Trace) -> None:
    for step, *what in trace:
        print(f"{step:5}", *what)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.simulation.runner", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--stop", type=int, default=1, help="after this many failures (1)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="with every step")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
