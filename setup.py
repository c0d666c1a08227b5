"""Compiles the hot path into wheels, where mypy and Cython are installed.

Everything else about the package is in pyproject.toml. ``SEATFLOW_PURE_BUILD=1`` makes a wheel of
plain Python instead. An editable install is always plain: ``make compile`` builds its modules.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).resolve().parent))

from streams.runtime import compiled

COMPILING = {"bdist_wheel", "build_ext"}


def extensions() -> list[Extension]:
    """Returns the hot path as extension modules: those of mypyc, which share code, and Cython's."""
    from Cython.Build import cythonize
    from mypyc.build import mypycify

    # Without mypy's cache: it may be in use by another run over other versions of the sources.
    hot = [path for path in compiled.module_paths().values() if path.endswith(".py")]
    return [
        *mypycify(
            ["--cache-dir", os.devnull, *hot],
            debug_level="0",
            group_name="seatflow",
            target_dir="build/mypyc",
        ),
        *cythonize(compiled.SHORT_CUTS, build_dir="build/cython", quiet=True),
    ]


def wanted() -> bool:
    """Returns whether this run is one that compiles."""
    return (
        not os.environ.get("SEATFLOW_PURE_BUILD")
        and not COMPILING.isdisjoint(sys.argv)
        and all(find_spec(tool) for tool in ("mypyc", "Cython"))
    )


setup(ext_modules=extensions() if wanted() else [])
