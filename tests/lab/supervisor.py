"""Keeps workers running as a service manager does: whoever ends is started again, and counted."""

from __future__ import annotations

import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

from streams.runtime.errors import OK, TEMPORARY
from tests.support.system import System, Worker

LOOK_EVERY = 0.1
RESTART_AFTER = 0.5
HARMLESS = {OK, TEMPORARY, -signal.SIGKILL}
OWNED = re.compile(r"^seatflow_partitions_(owned|opening) (\S+)$", re.MULTILINE)
METRICS = re.compile(r"metrics=(\S+)")


class Slot:
    """One worker that is wanted; the processes that were it, one after the other."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name, self.env = name, env
        self.wanted = True
        self.next_env: dict[str, str] = {}  # of the next process only
        self.lives: list[Worker] = []
        self.ended_at = 0.0

    @property
    def worker(self) -> Worker:
        return self.lives[-1]

    @property
    def alive(self) -> bool:
        return bool(self.lives) and self.worker.process.poll() is None


class Supervisor:
    def __init__(self, system: System, static: bool) -> None:
        self.system, self.static = system, static
        self.slots: list[Slot] = []
        self.codes: Counter[int] = Counter()  # of processes that ended, whoever ended them
        self.stopped_from_outside: set[Worker] = set()
        self._lock = threading.RLock()
        self._ended = False
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def add(self, **env: str) -> Slot:
        """Adds a worker."""
        name = f"worker-{len(self.slots) + 1}"
        slot = Slot(name, {"SEATFLOW_WORKER_ID": name, **env} if self.static else dict(env))
        with self._lock:
            self._spawn(slot)
            self.slots.append(slot)
        return slot

    def _spawn(self, slot: Slot) -> None:
        slot.lives.append(self.system.worker(ready=False, **slot.env, **slot.next_env))
        slot.next_env = {}

    def _live(self) -> None:
        while not self._ended:
            with self._lock:
                for slot in self.slots:
                    self._look_at(slot)
            time.sleep(LOOK_EVERY)

    def _look_at(self, slot: Slot) -> None:
        if slot.alive:
            return
        if not slot.ended_at:
            slot.ended_at = time.monotonic()
            self.codes[slot.worker.process.returncode] += 1
        elif slot.wanted and time.monotonic() - slot.ended_at > RESTART_AFTER:
            slot.ended_at = 0.0
            self._spawn(slot)

    # ---- what is done to workers

    def up(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.wanted and slot.alive]

    def kill(self, slot: Slot) -> None:
        """Sends SIGKILL; the worker is started again."""
        with self._lock:
            if slot.alive:
                slot.worker.signal(signal.SIGKILL)

    def send(self, slot: Slot, number: signal.Signals) -> None:
        with self._lock:
            if slot.alive:
                slot.worker.signal(number)

    def remove(self, slot: Slot, how: signal.Signals = signal.SIGTERM) -> None:
        """Removes a worker."""
        slot.wanted = False
        self.send(slot, how)

    def restart(self, slot: Slot, timeout: float = 30.0) -> None:
        """Sends SIGTERM; the worker is started again when it has ended."""
        worker = slot.worker
        self.send(slot, signal.SIGTERM)
        worker.process.wait(timeout)

    def stop_all(self, timeout: float = 30.0) -> None:
        for slot in self.slots:
            self.remove(slot)
        for slot in self.slots:
            slot.worker.process.wait(timeout)

    def start_all(self) -> None:
        for slot in self.slots:
            slot.wanted = True

    def resume_all(self) -> None:
        for slot in self.slots:
            self.send(slot, signal.SIGCONT)

    # ---- what they are doing

    def settled(self) -> bool:
        """Returns True if every partition is run by a worker, and no takeover is pending."""
        owned = opening = 0
        for slot in self.slots:
            if not slot.wanted:
                continue
            numbers = dict(OWNED.findall(self._metrics(slot)))
            if "owned" not in numbers:
                return False
            owned += int(float(numbers["owned"]))
            opening += int(float(numbers["opening"]))
        return (owned, opening) == (self.system.partitions, 0)

    @staticmethod
    def _metrics(slot: Slot) -> str:
        found = [m for m in map(METRICS.search, list(slot.worker.lines)) if m]
        if not found or not slot.alive:
            return ""
        try:
            with urllib.request.urlopen(found[-1][1], timeout=2) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def bugs(self) -> list[str]:
        """Returns the exits that no fault explains."""
        return [
            f"exit code {code}, {count} times"
            for code, count in sorted(self.codes.items())
            if code not in HARMLESS
        ]

    def close(self, folder: Path) -> None:
        self._ended = True
        self._thread.join(timeout=5)
        self.system.close()
        folder.mkdir(parents=True, exist_ok=True)
        for slot in self.slots:
            for number, worker in enumerate(slot.lives, 1):
                text = "\n".join([*worker.lines, f"[exit code {worker.process.returncode}]"])
                (folder / f"{slot.name}-{number}.log").write_text(text + "\n")
