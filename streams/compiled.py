"""The hot path compiled: the same modules by mypyc, used where they are built and up to date.

    make compile        builds them; needs a C compiler, and takes half a minute

A few are there compiled only, by Cython: ``*.pyx``, short cuts that the plain modules do without.
Compiled and plain modules behave alike, and the tests run over both. A build of other sources than
these, or with ``SEATFLOW_PURE`` set, is left aside: the modules are then the plain ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "compiled"
STAMP = "sources"
# What an event passes through on its way, and what that leans on.
HOT = {
    "engine": [
        "address", "addresses", "apply", "configuration", "decide", "direct", "effects", "events",
        "explain", "fanout", "group", "lease", "model", "partitioner", "product", "publish",
        "restore", "roll", "rules", "seating", "user", "users",
    ],
    "streams": ["contract", "packing", "rejected", "rows"],
}  # fmt: skip
SHORT_CUTS = ["engine/marks.pyx", "engine/writer.pyx", "streams/scanner.pyx"]


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


def use() -> bool:
    """Puts the compiled modules before the plain ones, if they are up to date."""
    if os.environ.get("SEATFLOW_PURE") or not up_to_date():
        return False
    import engine
    import streams

    sys.path.append(str(BUILD))  # where mypyc's modules look for the code that they share
    for package in (engine, streams):
        package.__path__.insert(0, str(BUILD / package.__name__))
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
    made = {path: BUILD / path.relative_to(work) for path in work.glob("*.so")}
    made |= {path: BUILD / path.relative_to(work) for path in work.glob("[es]*/*.so")}
    for package in HOT:
        (BUILD / package).mkdir(parents=True)
    for path, place in made.items():
        shutil.copy(path, place)
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
