"""The hot path compiled: the same modules by mypyc, used where they are built and up to date.

    make compile        builds them; needs a C compiler, and takes half a minute

A few are there compiled only, by Cython: ``*.pyx``, short cuts that the plain modules do without.
Compiled and plain modules behave alike, and the tests run over both. A build of other sources than
these, or with ``SEATFLOW_PURE`` set, is left aside: the modules are then the plain ones.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "compiled"
STAMP = "sources"
# What an event passes through on its way, and what that leans on.
HOT = {
    "engine": [
        "documents/audit", "documents/results", "documents/user_documents", "domain/deduplication",
        "domain/effects", "domain/events", "domain/messages", "domain/model", "domain/partitioner",
        "machines/address_claims", "machines/address_machine", "machines/fan_out",
        "machines/group_machine",
        "machines/outcome_applier", "machines/product_machine", "machines/seat_allocation",
        "machines/user_evaluator", "machines/user_machine", "machines/user_restore",
        "rules/checks", "rules/direct_change", "rules/evaluation", "rules/outcome",
        "state/configuration", "state/formats", "state/row_codecs",
        "state/seat_lease", "state/tenant_state", "state/user_row_codecs",
    ],
    "streams": [
        "contract/cloudevents", "contract/decoder", "contract/event_readers",
        "contract/field_checks", "contract/rejection", "kafka/changelog_rows",
        "worker/record_batches",
    ],
}  # fmt: skip
SHORT_CUTS = [
    "engine/native/deduplication.pyx",
    "engine/native/records.pyx",
    "streams/contract/scanner.pyx",
]


def sources() -> list[Path]:
    hot = [f"{package}/{name}.py" for package, names in HOT.items() for name in names]
    return [ROOT / name for name in hot + SHORT_CUTS]


def fingerprint() -> str:
    """Of the sources and of this Python."""
    found = hashlib.blake2b(f"{sys.version} {sorted(HOT.items())}".encode(), digest_size=16)
    for path in sources():
        found.update(path.read_bytes())
    return found.hexdigest()


def up_to_date() -> bool:
    stamp = BUILD / STAMP
    return stamp.is_file() and stamp.read_text() == fingerprint()


class _CompiledFinder(importlib.abc.MetaPathFinder):
    """Finds the compiled form of a module before the plain one."""

    def __init__(self, modules: dict[str, Path]) -> None:
        self._modules = modules

    def find_spec(self, fullname: str, *_: Any) -> Any:
        """The spec of the shared object that holds ``fullname``, or None."""
        file = self._modules.get(fullname)
        return importlib.util.spec_from_file_location(fullname, file) if file else None


def use() -> bool:
    """Puts the compiled modules before the plain ones, if they are up to date."""
    if os.environ.get("SEATFLOW_PURE") or not up_to_date():
        return False
    modules = {}
    for file in BUILD.rglob("*.so"):
        parts = file.relative_to(BUILD).parts
        modules[".".join([*parts[:-1], parts[-1].partition(".")[0]])] = file
    sys.meta_path.insert(0, _CompiledFinder(modules))
    return True


def build() -> None:
    """Compiles copies of the modules, so that nobody ever sees half a build."""
    work = BUILD.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(BUILD, ignore_errors=True)
    for package in HOT:
        shutil.copytree(ROOT / package, work / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "pyproject.toml", work)
    hot = [str(path.relative_to(ROOT)) for path in sources() if path.suffix == ".py"]
    for command in (["mypyc", *hot], ["Cython.Build.Cythonize", "--inplace", *SHORT_CUTS]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=work, capture_output=True, text=True
        )
        if done.returncode:
            why = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise SystemExit(f"not compiled, so the plain modules are used: {' '.join(why)}")
    for path in work.rglob("*.so"):
        relative = path.relative_to(work)
        if relative.parts[0] != "build":
            (BUILD / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, BUILD / relative)
    shutil.rmtree(work)
    (BUILD / STAMP).write_text(fingerprint())


def main() -> None:
    if up_to_date():
        print("The compiled modules are up to date.")
    elif shutil.which(os.environ.get("CC", "cc")) is None:
        print("There is no C compiler: the modules stay plain Python, and are slower.")
    else:
        build()
        print(f"Compiled: {len(sources())} modules.")
