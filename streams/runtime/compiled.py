"""Chooses between the plain and the compiled modules of the hot path; builds the compiled ones.

    make compile        builds them for a checkout; needs a C compiler, and takes half a minute

A wheel has its compiled modules beside the plain ones (setup.py). A checkout has them in
``build/compiled``, and takes them only if they were built from these very sources. With
``SEATFLOW_PURE`` set, the plain modules are used in either. Both behave alike, and the tests run
over both. ``*.pyx`` modules, by Cython, exist compiled only: the plain modules do without them.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "compiled"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
STAMP = "sources"
# What an event passes through on its way, and what that leans on.
HOT = {
    "engine": [
        "documents/audit", "documents/results", "documents/user_documents", "domain/deduplication",
        "domain/effects", "domain/events", "domain/limits", "domain/messages", "domain/model",
        "domain/partitioner", "domain/proxy_address", "domain/vocabulary",
        "machines/address_claims", "machines/address_machine", "machines/address_messages",
        "machines/adoption",
        "machines/direct_changes", "machines/evaluation_limits", "machines/evaluation_need",
        "machines/fan_out",
        "machines/group_machine", "machines/outcome_applier", "machines/product_machine",
        "machines/attribute_limits", "machines/rule_members", "machines/rule_walks",
        "machines/ruled_users",
        "machines/seat_allocation", "machines/unit_of_work", "machines/user_evaluations",
        "machines/user_evaluator", "machines/user_machine", "machines/user_restore",
        "membership_rules/attributes", "membership_rules/compiler", "membership_rules/rule_set",
        "rules/checks", "rules/direct_change", "rules/enabled_plans", "rules/evaluation",
        "rules/mail_attributes", "rules/outcome", "rules/trace",
        "state/address_claims", "state/address_message_codecs", "state/configuration",
        "state/deferred_changes", "state/group_state", "state/message_codecs",
        "state/pending_work", "state/row_codecs", "state/seat_budget", "state/seat_lease",
        "state/seat_row_codecs",
        "state/tenant_state", "state/user_mail", "state/user_row_codecs",
    ],
    "streams": [
        "contract/cloudevents", "contract/decoder", "contract/event_readers",
        "contract/field_checks", "contract/rejection", "kafka/changelog_rows",
        "worker/record_batches",
    ],
}  # fmt: skip
SHORT_CUTS = [
    "engine/native/deduplication.pyx",
    "engine/native/partitioner.pyx",
    "engine/native/records.pyx",
    "streams/contract/scanner.pyx",
]


def module_paths() -> dict[str, str]:
    """Returns the source of each hot module by the module's name, relative to the root."""
    hot = [f"{package}/{name}.py" for package, names in HOT.items() for name in names]
    return {path.rpartition(".")[0].replace("/", "."): path for path in hot + SHORT_CUTS}


def sources() -> list[Path]:
    """Returns the sources of all hot modules."""
    return [ROOT / path for path in module_paths().values()]


def fingerprint() -> str:
    """Returns a digest of the sources and of this Python's binary interface."""
    found = hashlib.blake2b(f"{SUFFIX} {sorted(HOT.items())}".encode(), digest_size=16)
    for path in sources():
        found.update(path.read_bytes())
    return found.hexdigest()


def up_to_date() -> bool:
    """Returns whether the checkout's compiled modules were built from these sources."""
    stamp = BUILD / STAMP
    return stamp.is_file() and stamp.read_text() == fingerprint()


def shipped() -> bool:
    """Returns whether the compiled modules lie beside the plain ones, as in a compiled wheel."""
    first = sources()[0]
    return first.with_name(first.stem + SUFFIX).is_file()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds each of the given modules in the given file, before Python looks anywhere else."""

    def __init__(self, modules: dict[str, Path]) -> None:
        self._modules = modules

    def find_spec(self, fullname: str, *_: Any) -> Any:
        """Returns the module's spec; None for other modules. A source of Cython is not found."""
        file = self._modules.get(fullname)
        if file is None:
            return None
        if file.suffix == ".pyx":
            raise ModuleNotFoundError(f"{fullname} exists compiled only", name=fullname)
        return importlib.util.spec_from_file_location(fullname, file)


def use() -> bool:
    """Makes imports find the modules that are wanted; returns whether those are compiled."""
    pure = bool(os.environ.get("SEATFLOW_PURE"))
    if shipped():
        if pure:
            plain = {name: ROOT / path for name, path in module_paths().items()}
            sys.meta_path.insert(0, _Finder(plain))
        return not pure
    if pure or not up_to_date():
        return False
    modules = {}
    for file in BUILD.rglob("*.so"):
        parts = file.relative_to(BUILD).parts
        modules[".".join([*parts[:-1], parts[-1].partition(".")[0]])] = file
    if modules.keys() & sys.modules.keys():
        # The engine was imported before streams, so some plain modules are loaded already. Compiled
        # ones beside them would not know their classes.
        return False
    sys.meta_path.insert(0, _Finder(modules))
    return True


def build() -> None:
    """Builds the checkout's compiled modules by setup.py. They appear whole or not at all."""
    stamp = fingerprint()
    new = BUILD.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(BUILD, ignore_errors=True)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", str(new)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not new.is_dir():
        why = _errors(done.stdout + done.stderr)
        raise SystemExit(f"not compiled, so the plain modules are used:\n{why}")
    (new / STAMP).write_text(stamp)
    new.rename(BUILD)


def _errors(output: str) -> str:
    """Returns the compilers' errors, or the end of what they wrote if none is marked as such."""
    lines = output.strip().splitlines()
    return "\n".join([line for line in lines if "error:" in line][:10] or lines[-5:])


def main() -> None:
    """Builds the modules if they are not up to date, and prints what it did."""
    if up_to_date():
        print("The compiled modules are up to date.")
    elif shutil.which(os.environ.get("CC", "cc")) is None:
        print("There is no C compiler: the modules stay plain Python, and are slower.")
    else:
        build()
        print(f"Compiled: {len(sources())} modules.")
