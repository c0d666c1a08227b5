"""The experiments: what is done to the system while it is under load.

Each is a function of what `Lab` gives it. The harm and its times follow from the run's seed; how
the processes take it does not.
"""

from __future__ import annotations

import asyncio
import signal
import time

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streams.contract.topics import CONSUMED, INPUT_NAMES
from streams.runtime import fault_injection
from streams.runtime.deadline import Deadline
from tests.lab.record import record
from tests.lab.runner import Experiment, Lab
from tests.lab.supervisor import Slot
from tests.lab.tenants import HOT, WILD, WILD_USERS

SESSION = 6.0


def nothing(lab: Lab) -> None:
    lab.sleep(20)


# ---- workers


def some_worker(lab: Lab) -> Slot:
    lab.until(lambda: bool(lab.workers.up()), 30, "a worker that is up")
    return lab.dice.choice(lab.workers.up())


def kill_at_random(lab: Lab) -> None:
    for _ in range(7):
        lab.sleep(1, 5)
        slot = some_worker(lab)
        lab.note(f"SIGKILL {slot.name}")
        lab.workers.kill(slot)


def kill_at_points(lab: Lab) -> None:
    """Kills a worker at each fault point in turn, while it restores or works, and restarts it."""
    points = list(fault_injection.POINTS)
    lab.dice.shuffle(points)
    for point in points:
        slot = some_worker(lab)
        lives = len(slot.lives)
        opening = point in ("after-fence", "during-restore")
        fault = f"{point}:{1 if opening else lab.dice.randint(1, 12)}"
        slot.next_env = {"SEATFLOW_FAULT": fault}
        lab.note(f"{slot.name} is to die {fault}")
        lab.workers.send(
            slot, signal.SIGTERM
        )  # leaves the group: its successor gets work immediately
        lab.until(lambda: len(slot.lives) > lives, 20, "the next life")  # noqa: B023
        armed = slot.lives[lives]
        try:
            lab.until(lambda: armed.process.poll() is not None, 15, "the end")  # noqa: B023
        except TimeoutError:
            lab.note(f"{slot.name} did not come by {fault}")  # a static member may own nothing new
        else:
            lab.note(f"{slot.name} ended with {armed.process.returncode}")


def pause_long(lab: Lab) -> None:
    for _ in range(2):
        lab.sleep(1, 3)
        slot = some_worker(lab)
        lab.note(f"SIGSTOP {slot.name}")
        lab.workers.send(slot, signal.SIGSTOP)
        lab.sleep(SESSION + 2, SESSION + 6)
        lab.note(f"SIGCONT {slot.name}")
        lab.workers.send(slot, signal.SIGCONT)


def pause_short(lab: Lab) -> None:
    """Pauses workers for less than the session timeout, so that none is replaced."""
    for _ in range(6):
        lab.sleep(0.5, 2)
        slot = some_worker(lab)
        seconds = lab.dice.uniform(0.5, SESSION - 2.5)
        lab.note(f"SIGSTOP {slot.name} for {seconds:.1f} s")
        lab.workers.send(slot, signal.SIGSTOP)
        lab.sleep(seconds)
        lab.workers.send(slot, signal.SIGCONT)


def rolling_restart(lab: Lab) -> None:
    for _ in range(2):
        for slot in list(lab.workers.slots):
            lab.note(f"SIGTERM {slot.name}")
            lab.workers.restart(slot)
            lab.sleep(1, 3)


def rebalance_storm(lab: Lab) -> None:
    for _ in range(12):
        up = lab.workers.up()
        if len(up) < 2 or (len(up) < 5 and lab.dice.random() < 0.5):
            lab.note(f"{lab.workers.add().name} joins")
        else:
            slot = lab.dice.choice(up)
            how = lab.dice.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGKILL))
            lab.note(f"{slot.name} leaves by {how.name}")
            lab.workers.remove(slot, how)
        lab.sleep(1.5, 4)


def slow_worker(lab: Lab) -> None:
    """Slows one worker to a tenth of the processor time, in slices."""
    slot = some_worker(lab)
    lab.note(f"{slot.name} has 10 % of the CPU")
    end = Deadline(30)
    while not end.has_passed:
        lab.workers.send(slot, signal.SIGCONT)
        time.sleep(0.02)
        lab.workers.send(slot, signal.SIGSTOP)
        time.sleep(0.18)


# ---- brokers


def broker_stopped(lab: Lab) -> None:
    lab.sleep(4)
    lab.note("the broker is stopped")
    lab.cluster.nodes[0].stop()
    lab.sleep(5, 12)
    lab.cluster.start_node(lab.cluster.nodes[0])
    lab.note("the broker is back")
    lab.sleep(8)


def broker_killed(lab: Lab) -> None:
    for _ in range(2):
        lab.sleep(4, 7)
        lab.note("SIGKILL the broker")
        lab.cluster.nodes[0].kill()
        lab.sleep(0, 5)
        lab.cluster.start_node(lab.cluster.nodes[0])
        lab.note("the broker is back")
    lab.sleep(8)


def broker_paused(lab: Lab) -> None:
    lab.sleep(4)
    lab.note("SIGSTOP the broker")
    lab.cluster.nodes[0].pause()
    lab.sleep(30)
    lab.cluster.nodes[0].resume()
    lab.note("SIGCONT the broker")
    lab.sleep(8)


def leader_killed(lab: Lab) -> None:
    """Kills two of three brokers in turn; each leads partitions and coordinates transactions."""
    nodes = list(lab.cluster.nodes)
    lab.dice.shuffle(nodes)
    for node in nodes[:2]:
        lab.sleep(4, 6)
        lab.note(f"SIGKILL the broker {node.bootstrap}")
        node.kill()
        lab.sleep(6, 10)
        lab.cluster.start_node(node)
        lab.note("it is back")
        lab.sleep(8)  # until it is in sync again


def disk_full(lab: Lab) -> None:
    assert lab.disk is not None
    lab.sleep(4)
    lab.disk.fill(leave_free=1 << 20)
    lab.note("1 MiB is left on the broker's disk")
    broker = lab.cluster.nodes[0]
    end = Deadline(25)
    while not end.has_passed and broker.running:
        time.sleep(0.2)
    lab.note(f"{lab.disk.free_bytes} bytes free, broker {'runs' if broker.running else 'ended'}")
    lab.sleep(3)
    lab.disk.free()
    lab.note("freed")
    if not broker.running:
        lab.cluster.start_node(broker)
    lab.sleep(8)


# ---- the network


def network_cut(lab: Lab) -> None:
    """Cuts the network between one worker and the broker: long, one way only, and short."""
    proxy = lab.cluster.proxy
    assert proxy is not None
    trials = [("cut", SESSION + 5), ("mute", SESSION + 5), ("cut", 3.0), ("mute", 3.0)]
    lab.dice.shuffle(trials)
    for how, seconds in trials:
        lab.sleep(2, 5)
        lab.note(f"{how} for {seconds:.0f} s")
        getattr(proxy, how)()
        lab.sleep(seconds)
        if lab.dice.random() < 0.5:
            lab.note("every connection is reset")
            proxy.reset()
        proxy.heal()
    lab.sleep(4)


# ---- the input


def replay(lab: Lab) -> None:
    """Resets the group's offsets to 0, and publishes all input again in its order."""
    lab.sleep(12)
    lab.load.pace = 0.0
    lab.load.wait()
    lab.settle()
    before = record(lab.system.bootstrap, lab.system.prefix, lab.system.partitions)
    users = sum(1 for r in before.records if r.topic == "user-licenses")
    lab.workers.stop_all()
    asyncio.run(_rewind(lab))
    lab.note(f"offsets are 0; {users} user states so far")
    lab.workers.start_all()
    lab.load.publish((r.topic, r.key, r.raw) for r in before.records if r.topic in INPUT_NAMES)
    lab.load.wait()
    lab.settle()
    after = record(lab.system.bootstrap, lab.system.prefix, lab.system.partitions)
    more = sum(1 for r in after.records if r.topic == "user-licenses") - users
    lab.note(f"after the replay: {more} user states more")
    if more:
        raise AssertionError(f"the replay published {more} user states")


async def _rewind(lab: Lab) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=lab.system.bootstrap, group_id=lab.system.name, enable_auto_commit=False
    )
    await consumer.start()
    try:
        tps = [
            TopicPartition(lab.system.prefix + name, p)
            for name in CONSUMED
            for p in range(lab.system.partitions)
        ]
        consumer.assign(tps)
        deadline = Deadline(20)
        while True:  # until the group is empty
            try:
                await consumer.commit({tp: OffsetAndMetadata(0, "") for tp in tps})
                return
            except Exception:
                if deadline.has_passed:
                    raise
                await asyncio.sleep(0.5)
    finally:
        await consumer.stop()


def seats_storm(lab: Lab) -> None:
    """Changes the units of a product in demand ten times a second."""
    end = Deadline(20)
    while not end.has_passed:
        units = lab.dice.randint(0, WILD_USERS // 2)
        sku = lab.dice.choice((HOT, "w-suite"))
        lab.load.publish([lab.tenants.make.seats(lab.dice.choice(WILD), sku, units)])
        time.sleep(0.1)


EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment("calm", "no fault: the baseline", nothing),
        Experiment("kill", "workers are killed at random times", kill_at_random),
        Experiment("points", "workers are killed at each named point", kill_at_points),
        Experiment("pause", "workers are stopped past their session, and go on", pause_long),
        Experiment("hiccup", "workers are stopped for less than their session", pause_short),
        Experiment("rolling", "each worker is restarted, twice", rolling_restart),
        Experiment("storm", "workers join and leave every few seconds", rebalance_storm, workers=2),
        Experiment("slow", "one worker has 10 % of the CPU", slow_worker, workers=2),
        Experiment("broker-stop", "the broker is stopped and started", broker_stopped),
        Experiment("broker-kill", "the broker is killed, twice", broker_killed),
        Experiment("broker-pause", "the broker is paused for 30 s", broker_paused),
        Experiment(
            "leader-kill", "of three brokers two are killed in turn", leader_killed, brokers=3
        ),
        Experiment("disk-full", "the broker's disk is full, then freed", disk_full, disk=96),
        Experiment("cut", "the network between a worker and the broker", network_cut, proxied=True),
        Experiment(
            "partitioners",
            "half of the keys by CRC32; workers are killed",
            kill_at_random,
            mixed=True,
        ),
        Experiment("poison", "1 % bad input, 1 % repeated", nothing, bad=0.01, again=0.01),
        Experiment("replay", "all input once more, with live state", replay),
        Experiment("hot", "90 % of the load on one product", nothing, hot=0.9, pace=400),
        Experiment("seats", "seats raised and lowered ten times a second", seats_storm, hot=0.4),
    )
}
SHORT = ("points", "partitioners", "broker-kill", "cut", "replay", "seats")
